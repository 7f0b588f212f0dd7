"""`runbook`: the starters as one command. Each is imported when it is asked for: all of them take half a second."""

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Final

import typer

from starters.shell import run

_COMMANDS: Final = {
    "status": "starters.status:status",
    "doctor": "starters.doctor:doctor",
    "demo": "starters.demo.command:demo",
    "up": "starters.up:up",
    "down": "starters.up:down",
    "reset": "starters.up:reset",
    "worker": "starters.processes:worker",
    "web": "starters.processes:web",
}
_GROUPS: Final = {
    "db": "starters.db:app",
    "connections": "starters.connections:app",
    "reauth": "starters.reauth:app",
    "refresh": "starters.refresh:app",
    "tasks": "starters.tasks:app",
    "outage": "starters.outage:app",
    "outbox": "starters.outbox:app",
    "notifications": "starters.notifications:app",
    "webhooks": "starters.webhooks:app",
    "replays": "starters.replay:app",
    "contacts": "starters.contacts:app",
    "automation": "starters.automation:app",
    "keys": "starters.keys:app",
    "providers": "starters.providers:app",
}
ALL: Final = (*_COMMANDS, *_GROUPS)


def command_line(names: Iterable[str] = ALL) -> typer.Typer:
    """`runbook` with these of its commands."""
    app = typer.Typer(
        name="runbook",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="The failure-mode runbook of an integrations platform, as a program. Start with `runbook status`.",
        epilog="Exit codes: 0 done; 1 a check failed or the work ended badly; 2 wrong usage; 3 Temporal or the "
        "database cannot be reached.",
    )
    # Without it an app of one command is that command, and takes no name.
    app.callback()(lambda: None)
    for name in names:
        module, _, what = (_COMMANDS | _GROUPS)[name].partition(":")
        found = getattr(import_module(module), what)
        if name in _COMMANDS:
            app.command(name)(found)
        else:
            app.add_typer(found, name=name)
    return app


def main() -> None:
    asked = sys.argv[1:2]
    run(command_line(asked if asked and asked[0] in ALL else ALL))
