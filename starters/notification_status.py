"""Notifications for people: how they stand, what was given up, and what it was to say."""

from typing import Annotated, Any
from uuid import UUID

import typer

from integrations.db import notification_dead
from integrations.db.notification_dead import Group, Item
from integrations.db.notification_status import page as look
from integrations.domain.errors import WrongUsageError
from integrations.domain.notification import CHANNELS
from integrations.domain.notification_page import next_of
from integrations.domain.notification_verdict import troubles
from starters import notification_page
from starters.dispatchers import described
from starters.notification_kit import unready
from starters.page import attempt
from starters.reach import reading
from starters.shell import FAILED, Json, as_json, command, fields, moment, out


@command
async def status(json: Json = False) -> None:
    """Show what was sent, what waits, what is in trouble by channel and cause, and the next command.

    Needs neither Temporal nor a worker, and says so when it has none. Exit code 1 on trouble.

    Example: runbook notifications status
    """
    async with reading() as reach:
        page = await look(reach.sessions, await unready(reach.settings))
        seats = [each.dispatcher for each in page.channels]
        seats, note = await described(reach, seats, "notification-dispatch", CHANNELS.__getitem__)
    channels = [each.model_copy(update={"dispatcher": seat}) for each, seat in zip(page.channels, seats, strict=True)]
    page = page.model_copy(update={"channels": channels})
    slo = reach.settings.notify_backlog_slo
    found = troubles(page, slo)
    if json:
        told = {"trouble": found, "note": note, "slo": slo.total_seconds(), "reaches_anybody": page.reaches_anybody}
        as_json(told | page.model_dump())
    else:
        notification_page.show(page, found, slo, note)
    if found:
        raise typer.Exit(FAILED)


@command
async def dead(
    dispatch_id: Annotated[UUID | None, typer.Argument(help="One of them: with what it was to say.")] = None,
    json: Json = False,
    cause: Annotated[str, typer.Option(help="List the items of one: its fingerprint, or how it begins.")] = "",
    retrying: Annotated[bool, typer.Option("--retrying", help="Those that are still retried, in their place.")] = False,
) -> None:
    """Show what was given up or reached nobody, by cause, with the command that plans its replay; or one dispatch.

    Example: runbook notifications dead
    """
    if dispatch_id is not None and (cause or retrying):
        raise WrongUsageError("say either a dispatch's id or --cause and --retrying: an id is one dispatch")
    async with reading() as reach, reach.sessions.begin() as session:
        if dispatch_id is not None:
            _one(await notification_dead.one(session, dispatch_id), json=json)
        elif cause:
            items, total = await notification_dead.items(session, cause, retrying=retrying)
            _items(items, total, cause, retrying=retrying, json=json)
        else:
            _groups(await notification_dead.groups(session, retrying=retrying), retrying=retrying, json=json)


def _groups(groups: list[Group], *, retrying: bool, json: bool) -> None:
    if json:
        as_json([group.model_dump() | {"next": next_of(group.status, group.fingerprint)} for group in groups])
        return
    if not groups:
        out.print("Nothing is retrying." if retrying else "Nothing is dead, and nothing reached nobody.")
    for each in groups:
        notification_page.show_cause(each.count, each.status, each.cause, each.fingerprint)
        since = f", since {moment(each.oldest)}" if each.oldest else ""
        by = f" by {', '.join(each.channels)}" if each.channels else ""
        for line in (
            f"{', '.join(each.definitions)}{by}{since}",
            f"for example {each.example} to {each.recipient or 'nobody'}: {each.error}",
            next_of(each.status, each.fingerprint),
        ):
            out.print(f"         {line}", markup=False)
    if len(groups) == notification_dead.LIMIT:
        out.print(f"The {notification_dead.LIMIT} largest groups; there may be more.")


def _items(items: list[Item], total: int, cause: str, *, retrying: bool, json: bool) -> None:
    if json:
        as_json({"total": total, "items": [_told(item) for item in items]})
        return
    state = "retrying" if retrying else "dead"
    if not items:
        out.print(f"Nothing is {state} with a cause or fingerprint like {cause!r}.", markup=False)
        return
    out.print(f"{total:,} {state}, the first {len(items)} of them:" if total > len(items) else f"{total:,} {state}:")
    for each in items:
        out.print()
        fields(_fields(each))


def _one(item: Item, *, json: bool) -> None:
    if json:
        as_json(_told(item))
        return
    fields(_fields(item))
    if item.rendered is None:
        out.print(f"\nNo text of it is kept. What it would say now: {_explain(item)}", markup=False)
        return
    out.print(f"\nTo {item.rendered.get('to') or 'nobody'}:\n\n{item.rendered['subject']}\n", markup=False)
    out.print(item.rendered["text"], markup=False)


def _fields(each: Item) -> list[tuple[str, object]]:
    by = f" by {each.channel}" if each.channel else ""
    workflow = [("workflow", each.workflow_id)] if each.status == "retrying" else []
    return [
        ("dispatch", each.id),
        ("what", f"{each.definition} to {each.recipient or 'nobody'}{by}: {each.status}"),
        ("event", f"{each.event_id}  {each.event}, {moment(each.occurred_at)}"),
        ("of", f"{each.provider} of {each.tenant}"),
        ("news until", each.expires_at),
        ("failed", f"{each.attempts} times{f', last {moment(each.failed_at)}' if each.failed_at else ''}"),
        ("cause", f"{each.cause}  ({each.fingerprint})"),
        ("error", each.error),
        *[(f"  {attempt(entry)}", entry.get("error", "")) for entry in each.history],
        *workflow,
        ("explain", _explain(each)),
    ]


def _told(item: Item) -> dict[str, Any]:
    return item.model_dump() | {"workflow_id": item.workflow_id, "explain": _explain(item)}


def _explain(item: Item) -> str:
    return f"runbook notifications explain {item.event_id}"
