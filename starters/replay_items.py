"""The items of a plan, one by one: what each is, what is to be expected of it, and what has changed since it failed."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Final
from uuid import UUID

import typer
from sqlalchemy import select

from integrations.db.ledger_tables import OutboxEvent, ReplayItem
from integrations.db.webhook_tables import WebhookDelivery
from integrations.domain.message import Message
from starters import notification_items
from starters.notification_items import Told
from starters.reach import Reach
from starters.shell import out

LIMIT: Final = 50
Items = Annotated[bool, typer.Option("--items", help="Also each item: what it is, and what has changed since.")]
LimitItems = Annotated[int, typer.Option(min=1, max=1000, help="Of these, so many at once.")]


class Line(Message):
    n: int
    item: UUID
    at: str
    what: str
    verdict: str | None
    outcome: str | None
    why: str | None
    changes: list[str]


async def of(reach: Reach, ledger: str, plan_id: UUID, *, after: int = 0, limit: int = LIMIT) -> list[Line]:
    """Those with the next numbers."""
    chosen = (
        select(ReplayItem)
        .where(ReplayItem.plan_id == plan_id, ReplayItem.n > after)
        .order_by(ReplayItem.n)
        .limit(limit)
    )
    async with reach.sessions.begin() as session:
        rows = (await session.scalars(chosen)).all()
    told = await _TOLD[ledger](reach, [row.item_id for row in rows])
    return [
        Line(
            n=row.n,
            item=row.item_id,
            at=row.destination,
            verdict=row.verdict,
            outcome=row.outcome,
            why=row.why,
            **told.get(row.item_id, _GONE)._asdict(),
        )
        for row in rows
    ]


def show(lines: Sequence[Line], plan_id: UUID, count: int) -> None:
    for each in lines:
        out.print(f"{each.n:>6}  {' · '.join(filter(None, (each.what, each.at, each.verdict)))}", markup=False)
        ended = f"{each.outcome}: {each.why}" if each.outcome else ""
        for line in (str(each.item), *each.changes, *filter(None, [ended])):
            out.print(f"        {line}", markup=False)
    if lines and lines[-1].n < count:
        out.print(f"\nMore of them:\n\n  runbook replays show {plan_id} --items --after {lines[-1].n}\n", markup=False)


async def _of_outbox(reach: Reach, ids: Sequence[UUID]) -> Mapping[UUID, Told]:
    names = select(OutboxEvent.event_id, OutboxEvent.name).where(OutboxEvent.event_id.in_(ids))
    async with reach.sessions.begin() as session:
        return {row.event_id: Told(row.name, []) for row in await session.execute(names)}


async def _of_webhooks(reach: Reach, ids: Sequence[UUID]) -> Mapping[UUID, Told]:
    item = WebhookDelivery
    found = select(item.id, item.event, item.delivery_id, item.account).where(item.id.in_(ids))
    async with reach.sessions.begin() as session:
        return {
            row.id: Told(" ".join(filter(None, (row.event, row.delivery_id, row.account and f"of {row.account}"))), [])
            for row in await session.execute(found)
        }


_GONE: Final = Told("its row is gone", [])
_TOLD: Final[Mapping[str, Callable[[Reach, Sequence[UUID]], Awaitable[Mapping[UUID, Told]]]]] = {
    "outbox": _of_outbox,
    "notifications": notification_items.told,
    "webhooks": _of_webhooks,
}
