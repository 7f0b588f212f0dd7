"""`runbook worker` and `runbook web`: the processes, told where the stack of this checkout is."""

import os
import sys

from integrations.settings import KEY_VARIABLES
from starters.embedded.live import read_live
from starters.embedded.location import locate
from starters.reach import read_settings
from starters.shell import command


@command
async def worker() -> None:
    """Run a worker in the foreground. More of them share the work.

    Example: runbook worker
    """
    _become("worker")


@command
async def web() -> None:
    """Run the web app in the foreground: invitations, OAuth callback, webhooks; on another port health and metrics.

    Example: RUNBOOK_WEB_PORT=8010 RUNBOOK_WEB_PRIVATE_PORT=8011 runbook web
    """
    _become("web")


def _become(module: str) -> None:
    """Replace this process, so that signals reach the one that counts."""
    read_settings()  # says what is missing, before a process is replaced by one that only fails
    live = read_live(locate()) or {}
    stack = live.get("environment", {})
    if any(name in os.environ for name in KEY_VARIABLES):
        # As `read_settings` has it: a person's keys replace the stack's as a whole.
        stack = {name: value for name, value in stack.items() if name not in KEY_VARIABLES}
    environment = {**stack, **os.environ}
    os.execve(sys.executable, [sys.executable, "-m", module], environment)  # noqa: S606 - our own interpreter
