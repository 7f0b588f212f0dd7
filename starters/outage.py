"""`runbook outage`: where outages stand, what people order about them, and the page for 3 a.m."""

import typer

from starters.outage_explain import explain
from starters.outage_orders import close, isolate, open_, pin, unpin
from starters.outage_status import status
from starters.outage_what_if import what_if
from starters.shell import run

app = typer.Typer(
    no_args_is_help=True, help="Outages of providers: status, explain, open, close, pin, isolate, what-if."
)
app.command("status")(status)
app.command("explain")(explain)
app.command("open")(open_)
app.command("close")(close)
app.command("pin")(pin)
app.command("unpin")(unpin)
app.command("isolate")(isolate)
app.command("what-if")(what_if)


if __name__ == "__main__":
    run(app)
