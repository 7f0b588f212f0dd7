"""The outbox as one command: how it stands, what is dead, how many drain it, and replays."""

import typer

from starters import outbox_status, replay_commands, scaling
from starters.shell import run

app = typer.Typer(no_args_is_help=True, help="The outbox: status, dead, scale, plan, replay.")
app.command("status")(outbox_status.status)
app.command("dead")(outbox_status.dead)
scaling.add(app, "outbox")
replay_commands.add(app, "outbox", "projector")


if __name__ == "__main__":
    run(app)
