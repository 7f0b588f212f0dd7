"""Servers that outlived even their guard.

Rare: guard and parent both killed on macOS, where nothing ties the child to the guard, or the backends of a PostgreSQL
whose main process was killed a moment ago. We hold the folder lock, so nobody has a right to run in the folder.
"""

import asyncio
from collections.abc import Callable

import psutil

from starters.embedded.errors import EmbeddedError

ASK, INSIST = 2.0, 7.0
"""Seconds until left-over servers are sent SIGTERM, and SIGKILL; orphaned backends leave by themselves before."""

LIMIT = 15.0
POLL = 0.05


async def end_leftovers(name: str, belongs: Callable[[psutil.Process], bool]) -> None:
    """Wait for processes called `name` that `belongs` recognises to be gone, and end them when they stay.

    Raises EmbeddedError with the pid of one that cannot be ended.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    asked: set[tuple[int, str]] = set()
    while remaining := _find(name, belongs):
        waited = loop.time() - began
        if waited > LIMIT:
            pid = remaining[0].pid
            raise EmbeddedError(f"An old {name} (pid {pid}) still uses the data folder; end it by `kill -9 {pid}`.")
        for process in remaining:
            _nudge(process, waited, asked)
        await asyncio.sleep(POLL)


def _nudge(process: psutil.Process, waited: float, asked: set[tuple[int, str]]) -> None:
    for after, signal in ((ASK, "terminate"), (INSIST, "kill")):
        if waited >= after and (process.pid, signal) not in asked:
            asked.add((process.pid, signal))
            try:
                getattr(process, signal)()
            except psutil.NoSuchProcess:
                return


def _find(name: str, belongs: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["name"]):
        try:
            if process.info["name"] == name and process.status() != psutil.STATUS_ZOMBIE and belongs(process):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # gone meanwhile, or another user's and so not in our folder
    return found
