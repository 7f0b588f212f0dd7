"""`runbook`: the starters as one command."""

import typer

from starters import (
    automation,
    connections,
    contacts,
    db,
    doctor,
    keys,
    notifications,
    outage,
    outbox,
    processes,
    providers,
    reauth,
    refresh,
    replay,
    status,
    tasks,
    up,
    webhooks,
)
from starters.demo import command as demo
from starters.shell import run

app = typer.Typer(
    name="runbook",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The failure-mode runbook of an integrations platform, as a program. Start with `runbook status`.",
    epilog="Exit codes: 0 done; 1 a check failed or the work ended badly; 2 wrong usage; 3 Temporal or the database "
    "cannot be reached.",
)
app.command("status")(status.status)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
app.command("up")(up.up)
app.command("down")(up.down)
app.command("reset")(up.reset)
app.command("worker")(processes.worker)
app.command("web")(processes.web)
app.add_typer(db.app, name="db")
app.add_typer(connections.app, name="connections")
app.add_typer(reauth.app, name="reauth")
app.add_typer(refresh.app, name="refresh")
app.add_typer(tasks.app, name="tasks")
app.add_typer(outage.app, name="outage")
app.add_typer(outbox.app, name="outbox")
app.add_typer(notifications.app, name="notifications")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(replay.app, name="replays")
app.add_typer(contacts.app, name="contacts")
app.add_typer(automation.app, name="automation")
app.add_typer(keys.app, name="keys")
app.add_typer(providers.app, name="providers")


def main() -> None:
    run(app)
