"""`runbook up`, `down`, `reset`: the embedded stack, kept running."""

import asyncio
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from integrations.settings import TERM_VARIABLES
from starters.embedded.down import down as stop_stack
from starters.embedded.down import remove
from starters.embedded.files import last_lines
from starters.embedded.location import default, locate
from starters.embedded.ports import HOST
from starters.shell import FAILED, USAGE, command, err, fail, out
from starters.stack import Stack

Folder = Annotated[Path | None, typer.Option("--data", help="The data folder. Default: one for this checkout.")]
Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Default: a free port, the same as last time.")]
_CRASH_LOOP: Final = 5.0
"""Seconds: a process that ends sooner than this after its start will not do better the next time."""
_LOOK: Final = 0.5
_TAKEN_OVER: Final = (
    "RUNBOOK_DATABASE_",
    "RUNBOOK_JOB_PATIENCE",
    "RUNBOOK_MODE",
    "RUNBOOK_OUTAGE_",
    "RUNBOOK_OUTBOX_",
    "RUNBOOK_NOTIFY_",
    "RUNBOOK_NOTIFICATIONS",
    "RUNBOOK_PROVIDER",
    "RUNBOOK_SURGE_",
    "RUNBOOK_CALLS_KEPT",
    "RUNBOOK_CREDENTIALS_KEPT",
    "TEMPORAL_",
    *TERM_VARIABLES,
)
"""What of a person's environment is meant for the stack as well. Not who is reached: its mails end at the simulator."""
_ITS_OWN: Final = "RUNBOOK_PROVIDER_SIMULATOR_"


def taken_over(environment: Mapping[str, str]) -> dict[str, str]:
    """What of a person's environment the stack's processes get."""
    meant = {name for name in environment if name.startswith(_TAKEN_OVER) and not name.startswith(_ITS_OWN)}
    return {name: environment[name] for name in sorted(meant)}


@command
async def up(
    data: Folder = None,
    temporal_port: Port = None,
    ui_port: Port = None,
    web_port: Port = None,
    simulator_port: Port = None,
    mail_port: Port = None,
) -> None:
    """Start Postgres, Temporal with its Web UI, the simulator, the web app and a worker; stop them with Ctrl-C.

    RUNBOOK_DATABASE_URL and TEMPORAL_* replace the embedded servers with real ones.

    Example: runbook up --ui-port 8233
    """
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ports = {
        "temporal": temporal_port,
        "ui": ui_port,
        "web": web_port,
        "simulator": simulator_port,
        "mail": mail_port,
    }
    starting = asyncio.create_task(Stack.start(locate(data), ports=ports, outside=taken_over(os.environ), say=_say))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        _say("stopping before everything is up …")
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return
    stopping.cancel()
    stack = await starting
    _show(stack)
    try:
        await _watch(stack, stop)
    finally:
        _say("stopping …")
        await stack.stop()
        _say(f"stopped; the data stays in {stack.folder}")


def _show(stack: Stack) -> None:
    config = stack.settings
    rows = [
        ("Break it", f"{stack.simulator_url}/", "revoke, 503, 429, hang, reset, cut, drop a rotation"),
        ("Mail", f"{stack.simulator_url}/admin/mail", "what was sent, caught by the simulator"),
        ("Web UI", config.temporal_ui_url or "(yours)", "watch the workflows"),
        ("Web app", config.web_url, "invitations, the OAuth callback and webhooks"),
        ("Metrics", f"http://{HOST}:{config.web_private_port}/metrics", "and /readyz, for our own machines"),
        ("Temporal", config.temporal_address or os.environ.get("TEMPORAL_ADDRESS", "(yours)"), "gRPC"),
        ("Postgres", _postgres(config.sqlalchemy_url), ""),
        ("Data", str(stack.folder), "logs in logs/"),
    ]
    out.print("\nThe stack is up. Ctrl-C stops it.\n")
    for name, address, what in rows:
        out.print(f"  {name:<9} {address}" + (f"   {what}" if what else ""), markup=False)
    out.print("\nTry, in another terminal of this checkout:\n")
    runbook = Path(sys.executable).with_name("runbook")
    shown = os.path.relpath(runbook) if runbook.is_relative_to(Path.cwd()) else str(runbook)
    if stack.folder != default():
        shown = f"RUNBOOK_DATA={shlex.quote(str(stack.folder))} {shown}"
    out.print(f"  {shown} connections add simulator --owner org:acme", markup=False)
    out.print(f"  {shown} status\n", markup=False)


def _postgres(url: str) -> str:
    from integrations.db.binding import shown

    return shown(url)


async def _watch(stack: Stack, stop: asyncio.Event) -> None:
    """Start a process again that somebody killed: with a dead worker there is nothing to watch."""
    started = dict.fromkeys(stack.processes, time.monotonic())
    restart = {"worker": stack.start_worker, "web": stack.start_web}
    while not stop.is_set():
        for name, process in list(stack.processes.items()):
            if process.alive():
                continue
            ended = f"the {name} ended with code {process.exit_code}"
            if name not in restart or time.monotonic() - started[name] < _CRASH_LOOP:
                err.print("\n".join(last_lines(process.command.log)), markup=False)
                fail(f"{ended}; its log is {process.command.log}", FAILED)
            _say(f"{ended}; starting it again")
            started[name] = time.monotonic()
            await restart[name]()
        try:
            await asyncio.wait_for(stop.wait(), _LOOK)
        except TimeoutError:
            continue


@command
async def down(data: Folder = None) -> None:
    """Stop the stack that runs in this checkout. Safe to repeat.

    Example: runbook down
    """
    folder = locate(data)
    stopped = await asyncio.to_thread(stop_stack, folder)
    out.print(f"Stopped; the data stays in {folder}" if stopped else f"No stack was running in {folder}", markup=False)


@command
async def reset(data: Folder = None, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Stop the stack and delete its data: connections, credentials, histories. The next `up` starts afresh.

    Example: runbook reset --yes
    """
    folder = locate(data)
    if not folder.exists():
        out.print(f"There is no data in {folder}", markup=False)
        return
    if not yes:
        if not sys.stdin.isatty():
            fail(f"this deletes {folder}: run it on a terminal, or with --yes", USAGE)
        typer.confirm(f"Delete everything in {folder}?", abort=True)
    await asyncio.to_thread(stop_stack, folder)
    await asyncio.to_thread(remove, folder)
    out.print(f"Deleted {folder}", markup=False)


def _say(text: str) -> None:
    err.print(text, markup=False)
