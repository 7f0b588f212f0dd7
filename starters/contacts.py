"""Contacts: how people are reached, and where an owner's clock is, so that nobody is reminded at night."""

from typing import Any

import typer

from integrations.db import contact_addresses as address_rows
from integrations.db import contacts as rows
from integrations.db.tables import Contact
from integrations.domain.audience import OPERATORS, way_to_reach
from integrations.domain.connection import owner_of
from integrations.domain.errors import WrongUsageError
from integrations.domain.quiet_hours import QuietHours
from starters import contact_addresses
from starters.reach import changing, reading
from starters.shell import By, Json, as_json, command, out, run, table

app = typer.Typer(no_args_is_help=True, help="Who is reached by what, and owners' time zones and quiet hours.")
app.command("add")(contact_addresses.add)
app.command("remove")(contact_addresses.remove)
app.command("check")(contact_addresses.check)


@app.command("set")
@command
async def set_(
    owner: str,
    by: By,
    zone: str = typer.Option(..., help="Where the owner is, as Europe/Berlin."),
    quiet: str = typer.Option("20-8", help="Hours of their own clock without reminders; 0-0 for none."),
) -> None:
    """Write down an owner's time zone and quiet hours, for re-consents that begin from now on. Safe to repeat.

    Example: runbook contacts set org:acme --zone Europe/Berlin --quiet 20-8
    """
    scope_type, scope_id = owner_of(owner)
    try:
        hours = QuietHours.read(zone, quiet)
    except ValueError as error:
        raise WrongUsageError(str(error)) from None
    async with changing() as reach, reach.sessions.begin() as session:
        await rows.put(session, scope_type, scope_id, hours, by=by)
    out.print(f"{owner} is not reminded from {hours.starts}:00 to {hours.ends}:00, {hours.zone}.", markup=False)


@app.command("list")
@command
async def list_(json: Json = False) -> None:
    """List every address, masked, and the owners whose clock is known. The others are where RUNBOOK_OWNER_ZONE says.

    Example: runbook contacts list
    """
    async with reading() as reach, reach.sessions.begin() as session:
        owners = [_told(row) for row in await rows.listed(session)]
        addresses = [contact_addresses.told(row) for row in await address_rows.listed(session)]
    if json:
        as_json({"owners": owners, "addresses": addresses})
        return
    headings = ("AUDIENCE", "NAME", "CHANNEL", "ADDRESS", "BY", "SINCE")
    nobody = f"Nobody is reached by anything: {way_to_reach(OPERATORS[0])}"
    table(headings, [list(each.values()) for each in addresses], none=nobody)
    out.print()
    shown = [list(each.values()) for each in owners]
    table(("OWNER", "ZONE", "QUIET", "BY", "SINCE"), shown, none="No owner's clock is known.")


def _told(row: Contact) -> dict[str, Any]:
    return {
        "owner": f"{row.scope_type}:{row.scope_id}",
        "zone": row.zone,
        "quiet": f"{row.quiet_starts}-{row.quiet_ends}",
        "changed_by": row.changed_by,
        "changed_at": row.changed_at,
    }


if __name__ == "__main__":
    run(app)
