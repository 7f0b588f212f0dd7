"""Webhooks as one command: how they stand, what is dead, how many handle them, replays, channels, an audit."""

import typer

from starters import replay_commands, scaling, webhook_audit, webhook_channels, webhook_status
from starters.shell import run

app = typer.Typer(
    no_args_is_help=True, help="Webhooks: status, dead, show, scale, plan, replay, channels, close, audit, self-test."
)
app.command("status")(webhook_status.status)
app.command("dead")(webhook_status.dead)
app.command("show")(webhook_status.show)
app.command("channels")(webhook_channels.channels)
app.command("close")(webhook_channels.close)
app.command("audit")(webhook_audit.audit)
app.command("self-test")(webhook_channels.self_test)
scaling.add(app, "webhooks")
replay_commands.add(app, "webhooks")


if __name__ == "__main__":
    run(app)
