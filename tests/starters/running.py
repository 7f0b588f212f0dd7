"""The whole stack, once for every test that needs it: a plugin that the conftests of two rooms load."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio

from integrations.db.session import make_engine, make_sessions
from starters.client import Platform
from starters.stack import Stack

CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Running:
    """A stack, the platform on it, and what the folders of this machine looked like before it came up."""

    stack: Stack
    platform: Platform
    modes_before: dict[Path, int]


def modes() -> dict[Path, int]:
    """The modes of what is not ours to change: home, checkout, and every folder above them."""
    ours = {Path.home().resolve(), CHECKOUT}
    places = ours | {above for place in ours for above in place.parents} | {Path("/var/tmp"), Path("/tmp")}
    return {place: place.stat().st_mode for place in sorted(places)}


@pytest_asyncio.fixture(scope="session")
async def running(reachable_folder: Path) -> AsyncIterator[Running]:
    before = modes()
    stack = await Stack.start(reachable_folder / "stack")
    engine = make_engine(stack.settings.sqlalchemy_url, pool_size=5)
    yield Running(stack, Platform(stack.settings, make_sessions(engine), await stack.temporal_client()), before)
    await engine.dispose()
    await stack.stop()
