"""Plans of replays: made, frozen, checked before they are run, and closed with their outcome. For every ledger.

Nothing but sums comes out of the database: a plan of a million items is made there in one transaction.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, cast
from uuid import UUID, uuid4

from sqlalchemy import (
    CTE,
    ColumnElement,
    Select,
    Table,
    case,
    func,
    insert,
    literal,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import notification_matching, outbox_matching, webhook_matching
from integrations.db.ledger_tables import ReplayItem, ReplayPlan, ReplayProgress
from integrations.domain.errors import StopError
from integrations.domain.filters import Filters
from integrations.domain.replay import GOOD_FOR, Begun, End, Outcome, Planned, PlanStatus, ReplayRequest

MATCHING: Final[Mapping[str, Callable[[Filters], Select[*tuple[Any, ...]]]]] = {
    "outbox": outbox_matching.matching,
    "notifications": notification_matching.matching,
    "webhooks": webhook_matching.matching,
}
"""What each ledger's filters mean."""
Judged = Callable[[CTE], Mapping[str, ColumnElement[str]]]
"""What else is to be known of each item of a plan before it is run, in words that are counted; `verdict` is kept."""
AGES: Final = ("under an hour", "under a day", "under a week", "a week or more")
_BARS: Final = 20
"""Of a histogram: the most frequent. What is left is one more."""
OTHERS: Final = "(others)"
# In pieces, so that no text is longer than a few hundred kilobytes.
_HASH: Final = text("""
SELECT encode(sha256(coalesce(string_agg(piece, '' ORDER BY nth), '')), 'hex') AS hash,
  cast(coalesce(sum(pieces.items), 0) AS bigint) AS items
FROM (
  SELECT (n - 1) / 10000 AS nth, count(*) AS items,
    sha256(convert_to(string_agg(n || ' ' || part || ' ' || item_id || ' ' || destination, E'\\n' ORDER BY n), 'UTF8'))
      AS piece
  FROM service_replay_items WHERE plan_id = :plan_id GROUP BY 1
) AS pieces
""")
_CLOSE: Final = text("""
UPDATE service_replay_progress SET total = delivered + skipped + dead WHERE plan_id = :plan_id
RETURNING delivered, skipped, dead
""")


async def make(
    session: AsyncSession, ledger: str, filters: Filters, *, by: str, reason: str, judged: Judged | None = None
) -> Planned:
    """Freeze what the filters mean by now, in the order of the ledger.

    Raises WrongUsageError for filters that cannot be meant, StopError when nothing matches: no plan is kept then.
    """
    plan_id = uuid4()
    matching = MATCHING[ledger](filters).subquery("matching")
    order = (matching.c.position, matching.c.destination)
    found = (
        select(matching, func.row_number().over(order_by=order).label("n")).order_by(*order).limit(filters.limit)
    ).cte("chosen")
    words = judged(found) if judged else {}
    found = select(found, *(word.label(name) for name, word in words.items())).cte("found")
    items, progress = cast("Table", ReplayItem.__table__), cast("Table", ReplayProgress.__table__)
    plan = ReplayPlan(
        id=plan_id,
        ledger=ledger,
        filters=filters.model_dump(mode="json"),
        count=0,
        hash="",
        histogram={},
        made_by=by,
        reason=reason,
        expires_at=func.now() + GOOD_FOR,
    )
    session.add(plan)
    await session.flush()
    columns = ["part", "n", "item_id", "destination", *(["verdict"] if "verdict" in words else [])]
    put = (
        insert(items)
        .from_select(["plan_id", *columns], select(literal(plan_id), *(found.c[name] for name in columns)))
        .cte("put")
    )
    per_part = select(literal(plan_id), found.c.part, func.count()).group_by(found.c.part)
    totals = insert(progress).from_select(["plan_id", "part", "total"], per_part).cte("totals")
    bars = {
        "cause": func.coalesce(found.c.cause, "(none)"),
        "age": _age(found.c.occurred_at),
        "provider": found.c.provider,
    } | {name: found.c[name] for name in words}
    counted = select(
        select(func.count()).select_from(found).scalar_subquery().label("items"), *map(_bars, bars, bars.values())
    )
    row = (await session.execute(counted.add_cte(put, totals))).one()
    if not row.items:
        raise StopError(f"nothing matches {filters}: no plan was made. `runbook {ledger} dead` shows what there is")
    frozen = (await session.execute(_HASH, {"plan_id": plan_id})).one()
    histogram = {name: _with_others(getattr(row, name), row.items) for name in bars}
    values = {"count": row.items, "hash": frozen.hash, "histogram": histogram}
    await session.execute(update(ReplayPlan).where(ReplayPlan.id == plan_id).values(values))
    await session.refresh(plan)
    return Planned(plan_id=plan_id, ledger=ledger, expires_at=plan.expires_at, **values)


async def find(session: AsyncSession, plan_id: UUID) -> ReplayPlan:
    """Raises StopError when there is no such plan."""
    plan = await session.get(ReplayPlan, plan_id)
    if plan is None:
        raise StopError(f"there is no plan {plan_id}: `runbook replays list` shows those there are")
    return plan


async def check(session: AsyncSession, plan: ReplayPlan) -> None:
    """Raise StopError when a plan cannot be run: it has expired, was edited since it was made, or has ended."""
    status = PlanStatus(plan.status)
    filters = Filters.model_validate(plan.filters)
    if status.ended:
        outcome = Outcome.model_validate(plan.outcome)
        raise StopError(f"plan {plan.id} was run before, until {plan.ended_at:%Y-%m-%d %H:%M} UTC. {outcome}")
    now = (await session.execute(select(func.now()))).scalar_one()
    if status is PlanStatus.PLANNED and plan.expires_at <= now:
        raise StopError(
            f"plan {plan.id} expired at {plan.expires_at:%Y-%m-%d %H:%M} UTC: what it froze is stale. "
            f"Plan anew: runbook {plan.ledger} plan {filters}"
        )
    found = (await session.execute(_HASH, {"plan_id": plan.id})).one()
    if (found.hash, found.items) != (plan.hash, plan.count):
        raise StopError(
            f"plan {plan.id} was edited: it was made of {plan.count:,} items with the hash {plan.hash}, and has "
            f"{found.items:,} with {found.hash}. It is not run. Plan anew: runbook {plan.ledger} plan {filters}"
        )


async def begin(session: AsyncSession, request: ReplayRequest) -> Begun:
    """Make a plan `running`. One that is so already goes on: its last workflow was ended by hand.

    Raises StopError when there is no such plan, or it cannot be run.
    """
    plan = await find(session, request.plan_id)
    if plan.ledger != request.ledger:
        raise StopError(f"plan {plan.id} is of the ledger {plan.ledger}, not of {request.ledger}")
    await check(session, plan)
    values = {
        "status": "running",
        "started_by": request.by,
        "started_at": func.now(),
        "request": request.model_dump(mode="json"),
    }
    await session.execute(
        update(ReplayPlan).where(ReplayPlan.id == plan.id, ReplayPlan.status == "planned").values(values)
    )
    return Begun(
        count=plan.count,
        filters=str(Filters.model_validate(plan.filters)),
        approved_by=plan.approved_by or "",
        rate=plan.rate,
        paused=plan.status == "paused",
    )


async def begun(session: AsyncSession) -> list[ReplayRequest]:
    """What goes on, or is held: each of them has a workflow, or lost it."""
    plans = await session.scalars(select(ReplayPlan.request).where(ReplayPlan.status.in_(("running", "paused"))))
    return [ReplayRequest.model_validate(request) for request in plans]


async def approve(session: AsyncSession, plan_id: UUID, by: str) -> None:
    """Write down whose word a large plan goes on by."""
    unapproved = update(ReplayPlan).where(ReplayPlan.id == plan_id, ReplayPlan.approved_by.is_(None))
    await session.execute(unapproved.values(approved_by=by, approved_at=func.now()))


async def end(session: AsyncSession, wanted: End) -> Outcome:
    """Close a plan and count. Once it has ended, how it ended: safe to repeat.

    The totals are cut to what has an outcome, which waits for batches that are under way and voids those that come
    later: what is counted here stays true.
    """
    plan = await find(session, wanted.plan_id)
    if PlanStatus(plan.status).ended:
        return Outcome.model_validate(plan.outcome)
    late = await _late(session, plan)
    rows = (await session.execute(_CLOSE, {"plan_id": plan.id})).all()
    sums = {name: sum(getattr(row, name) for row in rows) for name in ("delivered", "skipped", "dead")}
    outcome = Outcome(
        status=wanted.status, count=plan.count, untouched=plan.count - sum(sums.values()), late=late, **sums
    )
    ended = {"status": wanted.status.value, "ended_at": func.now(), "outcome": outcome.model_dump(mode="json")}
    await session.execute(update(ReplayPlan).where(ReplayPlan.id == plan.id).values(ended))
    return outcome


async def _late(session: AsyncSession, plan: ReplayPlan) -> int:
    """How many match by now and were not in the plan."""
    matching = MATCHING[plan.ledger](Filters.model_validate(plan.filters)).subquery()
    planned = select(literal(1)).where(
        ReplayItem.plan_id == plan.id,
        ReplayItem.item_id == matching.c.item_id,
        ReplayItem.destination == matching.c.destination,
    )
    return int(
        (await session.execute(select(func.count()).select_from(matching).where(~planned.exists()))).scalar_one()
    )


def _age(occurred_at: Any) -> Any:
    age = func.now() - occurred_at
    edges = zip(("1 hour", "1 day", "7 days"), AGES[:-1], strict=True)
    return case(*((age < literal_column(f"interval '{edge}'"), name) for edge, name in edges), else_=AGES[-1])


def _bars(name: str, value: Any) -> Any:
    """One JSON object: how many of each value, of the most frequent ones."""
    counted = (
        select(value.label("value"), func.count().label("count"))
        .group_by(literal_column("1"))
        .order_by(literal_column("2 DESC, 1"))
        .limit(_BARS)
    ).subquery(f"bars_{name}")
    return select(func.jsonb_object_agg(counted.c.value, counted.c.count)).scalar_subquery().label(name)


def _with_others(bars: dict[str, int], count: int) -> dict[str, int]:
    others = count - sum(bars.values())
    return bars | ({OTHERS: others} if others else {})
