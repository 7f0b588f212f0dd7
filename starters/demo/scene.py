"""What all acts play on, and what they leave behind: checks, links, secrets."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Protocol, TypeVar

from temporalio.client import WorkflowHandle

from integrations.db.session import Sessions
from integrations.domain.errors import RunbookError
from starters.client import Platform
from starters.demo.check import Check, Name, Tell
from starters.demo.drawing import Drawing
from starters.demo.mail import Letter
from starters.demo.simulator import Simulator
from starters.stack import Stack

R = TypeVar("R")
BY: Final = "demo"
_PATIENCE: Final = 60.0
"""Seconds for a step: several times what it takes on a slow machine."""
_LOOK: Final = 0.2


class StoryError(RunbookError):
    """The story cannot go on: something that had to happen did not, in the time that it has."""


@dataclass
class Scene:
    """A stack of the demo's own. `broken` is what is to be broken on purpose."""

    stack: Stack
    platform: Platform
    simulator: Simulator
    broken: Name | None
    tell: Tell
    checks: list[Check] = field(default_factory=list)
    workflows: dict[str, str] = field(default_factory=dict)
    """What to look at in the Web UI: in words, and the workflow's id."""
    secrets: list[str] = field(default_factory=list)
    """What the acts came to know of these: addresses, signing secrets, the tokens of invitations."""
    letters: list[Letter] = field(default_factory=list)
    """Mails that the report shows."""
    drawings: list[Drawing] = field(default_factory=list)
    """What it draws: how an outage was contained and brought back."""

    @property
    def sessions(self) -> Sessions:
        return self.platform.sessions

    async def kill_the_worker(self, when: str) -> int:
        """Its exit code."""
        process = self.stack.processes["worker"]
        process.kill()
        code = await process.wait()
        self.tell(f"the worker (pid {process.pid}) is killed with SIGKILL {when}")
        return code

    async def start_a_worker(self) -> int:
        """Its pid."""
        await self.stack.start_worker()
        return self.stack.processes["worker"].pid


class Act(Protocol):
    """A part of a story."""

    proves: ClassVar[tuple[Name, ...]]
    """Its checks, each of which it adds to the scene's, in this order."""

    def __init__(self, scene: Scene) -> None: ...

    async def play(self) -> None:
        """Play it to its end. Raises StoryError where it gets stuck; the checks so far are kept."""


async def until(what: str, probe: Callable[[], Awaitable[bool]], *, look: float = _LOOK) -> None:
    """Wait until something has happened. Raises StoryError when it does not."""
    try:
        async with asyncio.timeout(_PATIENCE):
            while not await probe():  # noqa: ASYNC110 - another process sets no event of ours
                await asyncio.sleep(look)
    except TimeoutError:
        raise StoryError(f"waited {_PATIENCE:.0f} s in vain until {what}") from None


async def outcome_of(handle: WorkflowHandle[Any, R]) -> R:
    """What a workflow returned. Raises StoryError when it does not end."""
    try:
        return await asyncio.wait_for(handle.result(), _PATIENCE)
    except TimeoutError:
        raise StoryError(f"waited {_PATIENCE:.0f} s in vain for the end of {handle.id}") from None
