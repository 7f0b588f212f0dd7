"""Webhooks for people: how they stand, what was given up, and one delivery as it came."""

import sys
from typing import Annotated, Final
from uuid import UUID

import typer

from integrations.db import webhook_dead
from integrations.db.webhook_dead import Group, Item
from integrations.db.webhook_status import page as look
from integrations.domain.errors import WrongUsageError
from integrations.domain.webhook import Reaction
from integrations.domain.webhook_verdict import troubles
from starters import webhook_page
from starters.dispatchers import described
from starters.page import attempt
from starters.reach import reading
from starters.shell import FAILED, Json, as_json, command, fields, moment, out, table

_PLAN: Final = "runbook webhooks plan --cause"
_TOLD: Final = 20
"""Of what one delivery tells; the others are in --json."""


@command
async def status(json: Json = False) -> None:
    """Show what came, what waits, what is in trouble, and the next command. Exit code 1 on trouble.

    Needs neither Temporal nor a worker, and says so when it has none.

    Example: runbook webhooks status
    """
    async with reading() as reach:
        page = await look(reach.sessions)
        dispatchers, note = await described(reach, page.dispatchers, "webhook-dispatch")
    page = page.model_copy(update={"dispatchers": dispatchers})
    found = troubles(page)
    if json:
        as_json({"trouble": found, "note": note, "lag": page.lag.total_seconds()} | page.model_dump())
    else:
        webhook_page.show(page, found, note)
    if found:
        raise typer.Exit(FAILED)


@command
async def dead(
    json: Json = False,
    cause: Annotated[str, typer.Option(help="List the deliveries of one: its fingerprint, or how it begins.")] = "",
    retrying: Annotated[bool, typer.Option("--retrying", help="Those that are still retried, in their place.")] = False,
) -> None:
    """Show what was given up, grouped by cause, with the command that plans its replay; or one cause's deliveries.

    Example: runbook webhooks dead
    """
    state = "retrying" if retrying else "dead"
    async with reading() as reach, reach.sessions.begin() as session:
        if cause:
            items, total = await webhook_dead.items(session, cause, retrying=retrying)
        else:
            groups = await webhook_dead.groups(session, retrying=retrying)
    if cause:
        _items(items, total, cause, state, json=json)
    elif json:
        as_json([group.model_dump() | {"next": _next(group, state)} for group in groups])
    else:
        _groups(groups, state)


@command
async def show(
    delivery: Annotated[UUID, typer.Argument(help="The row's id, as `runbook webhooks dead` shows it.")],
    body: Annotated[bool, typer.Option("--body", help="Only its body, byte for byte as it came, on stdout.")] = False,
    json: Json = False,
) -> None:
    """Show one delivery: what came, what became of it, and each attempt. Its body only when it is asked for.

    Example: runbook webhooks show 019a8d5c-7a1e-7d3c-9d57-1f2e3a4b5c6d
    """
    if body and json:
        raise WrongUsageError("say either --body or --json: a body may be anything, and is written as it came")
    async with reading() as reach, reach.sessions.begin() as session:
        item = await webhook_dead.one(session, delivery)
        raw = await webhook_dead.body(session, delivery) if body else b""
    if body:
        sys.stdout.buffer.write(raw)
    elif json:
        as_json(item)
    else:
        _one(item)


def _next(group: Group, state: str) -> str:
    """A command for the group: what is dead is replayed, what is retried is only looked at."""
    looked = f"runbook webhooks dead --retrying --cause {group.fingerprint}"
    return f"{_PLAN} {group.fingerprint}" if state == "dead" else looked


def _groups(groups: list[Group], state: str) -> None:
    rows = [(g.count, g.oldest, g.newest, g.channels, g.events, g.cause, g.example, _next(g, state)) for g in groups]
    headings = ("DELIVERIES", "OLDEST", "NEWEST", "CHANNELS", "EVENTS", "CAUSE", "FOR EXAMPLE", "NEXT COMMAND")
    table(headings, rows, none=f"Nothing is {state}.")
    if len(groups) == webhook_dead.LIMIT:
        out.print(f"The {webhook_dead.LIMIT} largest groups; there may be more.")


def _items(items: list[Item], total: int, cause: str, state: str, *, json: bool) -> None:
    if json:
        as_json({"total": total, "items": items})
        return
    if not items:
        out.print(f"Nothing is {state} with a cause or fingerprint like {cause!r}.", markup=False)
        return
    out.print(f"{total:,} {state}, the first {len(items)} of them:" if total > len(items) else f"{total:,} {state}:")
    for each in items:
        out.print()
        _one(each)


def _one(item: Item) -> None:
    kind = "" if item.identity == "id" else " (of its body: the provider sends no id)"
    again = f"; came again {item.repeats:,} times" if item.repeats else ""
    lines: list[tuple[str, object]] = [
        ("delivery", item.id),
        ("of", f"{item.provider}/{item.channel}  {item.delivery_id}{kind}"),
        ("event", f"{item.event or '-'}{f' of account {item.account}' if item.account else ''}"),
        *([("reaction", item.reaction)] if item.reaction != Reaction.EVENT else []),
        *(("  tells", " ".join(map(str, notice))) for notice in item.notices[:_TOLD]),
        *([("  tells", f"{len(item.notices) - _TOLD:,} more: --json")] if len(item.notices) > _TOLD else []),
        *([("resource", item.resource)] if item.resource else []),
        ("received", f"{moment(item.received_at)}{again}"),
        *([("signed", moment(item.sent_at))] if item.sent_at else []),
        *([("happened", moment(item.occurred_at))] if item.occurred_at else []),
        ("status", f"{item.status}{f', woken {item.woken} times' if item.woken else ''}"),
        *([("due", f"{item.due_at}")] if item.status == "pending" else []),
        *([("waits", item.waits)] if item.waits else []),
        *([("settled", f"{moment(item.settled_at)}  {item.handled_as}".rstrip())] if item.settled_at else []),
        *([("folded into", item.folded_into)] if item.folded_into else []),
    ]
    if item.cause:
        lines += [
            ("failed", f"{item.attempts} times, last {moment(item.failed_at) if item.failed_at else '-'}"),
            ("cause", f"{item.cause}  ({item.fingerprint})"),
            ("error", item.error),
        ]
    lines += [(f"  {attempt(entry)}", entry.get("error", "")) for entry in item.history]
    lines += [(f"  {name}:", value) for name, value in sorted(item.headers.items())]
    lines += [("body", f"{item.bytes:,} bytes: runbook webhooks show {item.id} --body")]
    fields(lines)
