"""Notifications as one command: how they stand, what is dead, why an event is told to whom, and replays."""

import typer

from starters import notification_explain, notification_status, replay_commands
from starters.notification_kit import judging
from starters.shell import run

app = typer.Typer(no_args_is_help=True, help="Notifications: status, dead, explain, plan, replay.")
app.command("status")(notification_status.status)
app.command("dead")(notification_status.dead)
app.command("explain")(notification_explain.explain)
replay_commands.add(app, "notifications", "channel", "definition", "recipient", judging=judging)


if __name__ == "__main__":
    run(app)
