"""`runbook demo`: break it, watch it being repaired, and see the proof."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import jinja2
import typer

from integrations.db.session import make_engine, make_sessions
from integrations.observability import scrubbed
from integrations.temporal import ui_link
from starters.client import Platform
from starters.demo.check import Check, Name
from starters.demo.contacts import introduce
from starters.demo.drawing import Drawing
from starters.demo.leaks import Leaks
from starters.demo.mail import Letter
from starters.demo.notification_act import FailingMessages
from starters.demo.outage_act import ProviderDown
from starters.demo.outbox_act import LaggingOutbox
from starters.demo.poison_act import PoisonedEvents
from starters.demo.refresh_act import HundredDue
from starters.demo.scene import Act, Scene, StoryError
from starters.demo.simulator import Simulator
from starters.demo.story import RevokedGrant
from starters.demo.webhook_act import WebhooksTwice
from starters.embedded.down import down, remove
from starters.embedded.location import locate
from starters.shell import FAILED, USAGE, Json, as_json, command, err, fail, out
from starters.stack import Stack

_ACTS: Final[tuple[tuple[str, type[Act]], ...]] = (
    ("reauth", RevokedGrant),
    ("refresh", HundredDue),
    ("outbox", LaggingOutbox),
    ("outbox", PoisonedEvents),
    ("notification", FailingMessages),
    # Not long after calls were made: an outage is measured against the rate of the minutes before it.
    ("outage", ProviderDown),
    ("webhook", WebhooksTwice),
    # Last: it reads whatever the others left behind.
    ("reauth", Leaks),
)
"""The acts in their order, each with the story that it belongs to."""
STORIES: Final = tuple(dict.fromkeys(story for story, _ in _ACTS))
STORY_OF: Final = {check: story for story, act in _ACTS for check in act.proves}
_HURRY: Final = {
    # Small batches, so that a backlog of thousands has a middle; and an event is given up in seconds.
    "RUNBOOK_OUTBOX_BATCH": "20",
    "RUNBOOK_OUTBOX_ATTEMPTS": "5",
    "RUNBOOK_OUTBOX_RETRY_FIRST": "1s",
    "RUNBOOK_OUTBOX_RETRY_MOST": "2s",
    # So is a message, and an owner is told at any hour of the day.
    "RUNBOOK_NOTIFY_ATTEMPTS": "4",
    "RUNBOOK_NOTIFY_RETRY_FIRST": "1s",
    "RUNBOOK_NOTIFY_RETRY_MOST": "2s",
    "RUNBOOK_QUIET_HOURS": "0-0",
    "RUNBOOK_WEBHOOK_ATTEMPTS": "3",
    "RUNBOOK_WEBHOOK_RETRY_FIRST": "1s",
    "RUNBOOK_WEBHOOK_RETRY_MOST": "2s",
    # What takes half an hour with a real provider takes half a minute.
    "RUNBOOK_OUTAGE_EVERY": "1s",
    "RUNBOOK_OUTAGE_WINDOW": "6s",
    "RUNBOOK_OUTAGE_LEASE": "10s",
    "RUNBOOK_OUTAGE_PROBE_FIRST": "1s",
    "RUNBOOK_OUTAGE_PROBE_MOST": "4s",
    "RUNBOOK_OUTAGE_PROBES": "2",
    "RUNBOOK_OUTAGE_STEP": "1s",
    "RUNBOOK_OUTAGE_STEP_CALLS": "3",
    "RUNBOOK_OUTAGE_STEP_QUIET": "2s",
}
"""How the demo's stack differs from one that `make up` starts."""
_REPORT: Final = Path("report.html")


class _Interrupted(Exception):  # noqa: N818 - a person's wish, not an error
    """Ctrl-C or a signal: everything is stopped, and nothing is judged."""


class Demo:
    """What is told and found while it runs."""

    def __init__(self, acts: list[type[Act]], broken: Name | None) -> None:
        self.acts = acts
        self.broken = broken
        self.told: list[tuple[str, str]] = []
        self.checks: list[Check] = []
        self.links: dict[str, str] = {}
        self.letters: list[Letter] = []
        self.drawings: list[Drawing] = []
        self._started = time.monotonic()

    def tell(self, text: str) -> None:
        seconds = f"{time.monotonic() - self._started:5.1f} s"
        self.told.append((seconds.strip(), text))
        err.print(f"{seconds}  {text}", markup=False)

    @property
    def failed(self) -> int:
        return sum(not check.passed for check in self.checks)

    def document(self) -> dict[str, Any]:
        passed = len(self.checks) - self.failed
        return {"checks": [check.model_dump() for check in self.checks], "passed": passed, "failed": self.failed}

    def write_report(self, file: Path) -> None:
        """One page that stands on its own: no other file, no network."""
        template = jinja2.Environment(autoescape=True).from_string(
            Path(__file__).with_name("report.html").read_text(encoding="utf-8")
        )
        seconds = f"{time.monotonic() - self._started:.0f}"
        facts = self.document() | {"checks": self.checks, "told": self.told, "links": self.links, "seconds": seconds}
        facts |= {"letters": self.letters, "drawings": self.drawings}
        page = template.render(**facts, at=f"{datetime.now(UTC):%Y-%m-%d %H:%M}", sabotage=self.broken)
        file.write_text(page, encoding="utf-8")


@command
async def demo(
    name: Annotated[str | None, typer.Argument(help=f"One story: {', '.join(STORIES)}. Default: all.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Stay up afterwards, with links into the Web UI.")] = False,
    sabotage: Annotated[
        Name | None, typer.Option(help="Break one thing on purpose: exactly its check fails, exit code 1.")
    ] = None,
    json: Json = False,
) -> None:
    """Start everything on ports and in a folder of its own, break it, and check the repair from the other side.

    Example: runbook demo --keep
    """
    if name is not None and name not in STORIES:
        fail(f"there is no story {name!r}; there are: {', '.join(STORIES)}", USAGE)
    acts = [act for story, act in _ACTS if name in (None, story)]
    proven = [check for act in acts for check in act.proves]
    if sabotage is not None and sabotage not in proven:
        fail(f"the story {name!r} does not check {sabotage}; it checks {', '.join(proven)}", USAGE)
    found = Demo(acts, sabotage)
    folder = locate(purpose="demo")
    # The demo breaks and deletes: it must never hear of anything but what it started itself.
    for variable in [name for name in os.environ if name.startswith(("RUNBOOK_", "TEMPORAL_"))]:
        del os.environ[variable]
    with contextlib.suppress(_Interrupted):
        async with _stopped_by_signals():
            await asyncio.to_thread(down, folder)
            await asyncio.to_thread(remove, folder)
            await _play(found, folder, keep=keep, json=json)
    if not found.checks:
        err.print("Interrupted before anything was checked.")
        raise typer.Exit(130)
    if found.failed:
        raise typer.Exit(FAILED)


async def _play(found: Demo, folder: Path, *, keep: bool, json: bool) -> None:
    stack = await Stack.start(folder, outside=_HURRY, say=found.tell)
    try:
        await _story(found, stack)
        if not keep:
            found.links = {}  # what they lead to is gone in a moment
        _answer(found, json=json)
        if keep:
            _invite(found, stack)
            await asyncio.Event().wait()
    finally:
        err.print("stopping …")
        await stack.stop()
    await asyncio.to_thread(remove, folder)


async def _story(found: Demo, stack: Stack) -> None:
    engine = make_engine(stack.settings.sqlalchemy_url, pool_size=5)
    simulator = Simulator(stack.simulator_url)
    try:
        platform = Platform(stack.settings, make_sessions(engine), await stack.temporal_client())
        scene = Scene(stack, platform, simulator, found.broken, found.tell, found.checks)
        try:
            await introduce(scene)
            for act in found.acts:
                await act(scene).play()
        except Exception as error:  # noqa: BLE001 - whatever it is, the report says where the story ended
            why = str(error) if isinstance(error, StoryError) else scrubbed(f"{type(error).__name__}: {error}")
            found.tell(f"STUCK: {why}")
            done = {check.name for check in found.checks}
            proven = [name for act in found.acts for name in act.proves]
            found.checks += [Check(name=name, passed=False, evidence=why) for name in proven if name not in done]
        links = {what: ui_link(stack.settings, workflow_id) for what, workflow_id in scene.workflows.items()}
        found.links = {what: link for what, link in links.items() if link}
        found.letters, found.drawings = scene.letters, scene.drawings
    finally:
        await simulator.close()
        await engine.dispose()


def _answer(found: Demo, *, json: bool) -> None:
    found.write_report(_REPORT)
    if json:
        as_json(found.document())
        return
    out.print()
    for check in found.checks:
        mark = "[green]✔[/]" if check.passed else "[red]✘[/]"
        out.print(f"{mark} [bold]{check.name.replace('_', ' ')}[/]")
        out.print(f"  {check.evidence}", markup=False, style="dim")
    for drawing in found.drawings:
        out.print(f"\n{drawing.title}", style="bold", markup=False)
        for line in drawing.lines:
            out.print(line, markup=False)
    out.print(f"\n{len(found.checks) - found.failed} passed, {found.failed} failed")
    out.print(f"The report: {_REPORT.resolve()}", markup=False)


def _invite(found: Demo, stack: Stack) -> None:
    out.print("\nKept up; Ctrl-C stops it. In the Web UI:")
    for what, link in found.links.items():
        out.print(f"  {what}: {link}", markup=False)
    out.print(f"Break it yourself: {stack.simulator_url}/", markup=False)
    out.print(f"Commands reach it with RUNBOOK_DATA={stack.folder}", markup=False)


@contextlib.asynccontextmanager
async def _stopped_by_signals() -> AsyncIterator[None]:
    """Turn Ctrl-C and SIGTERM into a clean end of what runs inside."""
    task, loop, received = asyncio.current_task(), asyncio.get_running_loop(), False
    assert task is not None

    def stop() -> None:
        nonlocal received
        received = True
        task.cancel()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield
    except asyncio.CancelledError:
        if not received:
            raise
        task.uncancel()
        raise _Interrupted from None
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
