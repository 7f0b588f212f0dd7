"""Webhooks as one command: how they stand, what is dead, replays, channels, and whether it all holds."""

import typer

from starters import replay_commands, webhook_audit, webhook_channels, webhook_status
from starters.shell import run

app = typer.Typer(no_args_is_help=True, help="Webhooks: status, dead, show, plan, replay, channels, audit, self-test.")
app.command("status")(webhook_status.status)
app.command("dead")(webhook_status.dead)
app.command("show")(webhook_status.show)
app.command("channels")(webhook_channels.channels)
app.command("audit")(webhook_audit.audit)
app.command("self-test")(webhook_channels.self_test)
replay_commands.add(app, "webhooks")


if __name__ == "__main__":
    run(app)
