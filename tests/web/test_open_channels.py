"""Channels are read together, however many names are made up."""

import asyncio
import time

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db import webhook_secrets
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.domain.errors import NotReadyError
from tests.factories import add_channel
from web import open_channels
from web.open_channels import FRESH, OpenChannels

SECRET = b"a secret"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the table was read."""
    times: list[float] = []
    real = webhook_secrets.everywhere

    async def counted(session: object) -> object:
        times.append(time.monotonic())
        return await real(session)  # type: ignore[arg-type]

    monkeypatch.setattr(webhook_secrets, "everywhere", counted)
    return times


async def test_made_up_names_share_a_few_reads_and_keep_nobody_waiting(
    sessions: Sessions, vault: Vault, reads: list[float]
) -> None:
    await add_channel(sessions, vault, secret=SECRET)
    channels = OpenChannels(sessions, vault)

    async def made_up(number: int) -> object:
        return await channels.get("simulator", f"x{number}") or await channels.get("simulator", f"x{number}", at_most=0)

    for _ in range(4):
        flood = [asyncio.create_task(made_up(number)) for number in range(1000)]
        known = await channels.get("simulator", "app")
        assert known is not None
        assert known.secrets == (SECRET,)
        assert await asyncio.gather(*flood) == [None] * 1000
        await asyncio.sleep(FRESH)

    # About 13. As fast as one follows the other it would be some 20 a second, and one for each name 8,000.
    assert len(reads) < 100


async def test_steady_traffic_waits_for_no_read(
    engine: AsyncEngine, sessions: Sessions, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is locked: what was read before is good for a second, and then whoever asks is told of the trouble."""
    monkeypatch.setattr(open_channels, "_PATIENCE", 1.5)
    await add_channel(sessions, vault, secret=SECRET)
    channels = OpenChannels(sessions, vault)
    await channels.get("simulator", "app")
    async with engine.begin() as connection:
        await connection.execute(text("LOCK TABLE service_webhook_channels"))
        longest, ends = 0.0, time.monotonic() + 0.8
        while (asked := time.monotonic()) < ends:
            assert await channels.get("simulator", "app") is not None
            longest = max(longest, time.monotonic() - asked)
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        with pytest.raises(TimeoutError):
            await channels.get("simulator", "app")

    assert longest < 1
    assert await channels.get("simulator", "app") is not None


async def test_steady_traffic_is_answered_from_a_read_ahead(
    sessions: Sessions, vault: Vault, reads: list[float]
) -> None:
    await add_channel(sessions, vault, secret=SECRET)
    channels = OpenChannels(sessions, vault)
    await channels.get("simulator", "app")
    await asyncio.sleep(0.6)

    await channels.get("simulator", "app")
    await asyncio.sleep(0.3)

    assert len(reads) == 2


async def test_a_secret_that_does_not_open_is_one_channels_trouble(
    engine: AsyncEngine, sessions: Sessions, vault: Vault
) -> None:
    await add_channel(sessions, vault, channel="good", secret=SECRET)
    await add_channel(sessions, vault, channel="bad", secret=SECRET)
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE service_webhook_secrets SET sealed = sealed || 'x'::bytea WHERE channel = 'bad'")
        )
    channels = OpenChannels(sessions, vault)

    with pytest.raises(NotReadyError):
        await channels.get("simulator", "bad")
    good = await channels.get("simulator", "good")

    assert good is not None
    assert good.secrets == (SECRET,)
