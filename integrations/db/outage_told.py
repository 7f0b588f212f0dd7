"""Telling of an outage, in the transactions that contain it and close it.

Operators hear of both, by a task and an event; owners whose jobs had to wait hear of its end. Each event has an id of
its outage's own: an activity that is repeated tells nothing twice.
"""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid5

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import outages, tasks
from integrations.db.outage_parked import waited
from integrations.db.outage_tables import Outage, OutageNote, ParkedJob
from integrations.db.outbox import enqueue_apart
from integrations.domain.connection import owner_of
from integrations.domain.outage import DONE, TASK, Scope, Step
from integrations.domain.outage import outage_id as workflow_id
from integrations.domain.outage_words import reach, title

OPENED = "provider.outage_opened"
UNATTENDED = "provider.outage_unattended"
CLOSED = "provider.outage_closed"
RECOVERED = "provider.recovered"
_SECOND_SIGHT: Final = timedelta(seconds=30)


async def opened(session: AsyncSession, outage_id: UUID, *, name: str, done: str) -> None:
    """Call the operators to an outage that is contained: a task, and an event.

    `name`: the provider's, for people. `done`: what was done already, in words. Told again when it reaches further by
    now. Of one that is closed nothing is told.
    """
    row = await _locked(session, outage_id)
    if row.closed_at is not None:
        return
    scope = Scope(row.scope)
    told = {
        "title": title(name, scope, row.names),
        "cause": f"{row.reason}. {done}",
        "way_out": f"it heals by itself; what it waits for: runbook outage explain {row.provider_id}",
    }
    task = await tasks.of_provider(session, row.provider_id, TASK)
    if task is None:
        task = await tasks.open_for_provider(session, row.provider_id, TASK, **told)
    else:
        # Who acknowledged it stays.
        task.title, task.cause, task.way_out = told["title"], told["cause"], told["way_out"]
    payload = _about(row) | {"title": told["title"], "why": row.reason, "done": done, "task": str(task.id)}
    await _tell(session, row, f"opened {row.scope} {' '.join(sorted(row.names))}", OPENED, payload)


async def closed(session: AsyncSession, outage_id: UUID, *, name: str, refreshes: int = 0) -> None:
    """Tell of the end of an outage that this very transaction closed (`outages.close`).

    `refreshes`: how many were put off by it and are done. Who was not told of its beginning is not told of its end.
    """
    row = await _locked(session, outage_id)
    task = await tasks.of_provider(session, row.provider_id, TASK)
    if task is None or row.closed_at is None:
        return
    tasks.close(task, by=row.closed_by or "", reason=row.closed_reason or "")
    jobs = await _waited(session, row, row.closed_at)
    replayed = f"{sum(each['done'] for _, _, each in jobs):,} jobs and {refreshes:,} refreshes"
    payload = _about(row) | {"title": title(name, Scope(row.scope), row.names), "task": str(task.id)}
    payload |= {"why": row.closed_reason, "ended": row.ended, "by": row.closed_by}
    payload |= {"until": row.closed_at.isoformat(), "replayed": replayed}
    await _tell(session, row, "closed", CLOSED, payload)
    for provider_id, tenant, counts in jobs:
        scope_type, scope_id = owner_of(tenant)
        await enqueue_apart(
            session,
            uuid5(row.id, f"recovered {provider_id} {tenant}"),
            RECOVERED,
            {"since": row.opened_at.isoformat(), "until": row.closed_at.isoformat()} | counts,
            provider_id=provider_id,
            scope_type=scope_type,
            scope_id=scope_id,
            order_key=f"outage:{provider_id}:{tenant}",
        )


async def unattended(session: AsyncSession, outage_id: UUID, *, name: str, since: datetime) -> None:
    """Call the operators to an outage whose workflow runs and renews no lease since then. Once for each such time.

    Not at the first sight of it: workers that were down for long are up again a moment before their workflows go on.
    """
    row = await _locked(session, outage_id)
    key = f"unattended since {since.isoformat()}"
    if row.closed_at is not None or not await _seen_before(session, row, key):
        return
    workflow = workflow_id(row.provider_id)
    told = {
        "title": f"{title(name, Scope(row.scope), row.names)}, and nobody looks after it",
        "cause": f"{workflow} runs, and has renewed none of its brakes since {since:%H:%M} UTC; they stay on",
        "way_out": f"is a worker up? runbook doctor. If it is: temporal workflow terminate --workflow-id {workflow} "
        "--reason stuck; its brakes are released within a minute, and the detector begins anew",
    }
    task = await tasks.of_provider(session, row.provider_id, TASK)
    if task is None:
        task = await tasks.open_for_provider(session, row.provider_id, TASK, **told)
    else:
        task.title, task.cause, task.way_out = told["title"], told["cause"], told["way_out"]
    payload = _about(row) | {"title": told["title"], "why": told["cause"], "way_out": told["way_out"]}
    await _tell(session, row, key, UNATTENDED, payload | {"task": str(task.id)})


async def _seen_before(session: AsyncSession, row: Outage, key: str) -> bool:
    await outages.note(session, row.id, key, Step(row.step), "its workflow runs, and renews no lease: brakes stay on")
    query = select(OutageNote.at < func.now() - _SECOND_SIGHT).where(
        OutageNote.outage_id == row.id, OutageNote.key == key
    )
    return bool(await session.scalar(query))


async def _locked(session: AsyncSession, outage_id: UUID) -> Outage:
    """One at a time: two that tell at once would both open the task."""
    return await session.get_one(Outage, outage_id, with_for_update=True, populate_existing=True)


async def _waited(session: AsyncSession, row: Outage, until: datetime) -> list[tuple[str, str, dict[str, int]]]:
    """Jobs that were parked meanwhile, by provider and owner: how many are done, failed, and still wait."""
    done, settled = ParkedJob.outcome == DONE, ParkedJob.settled_at.is_not(None)
    counts = {
        "done": func.count().filter(done),
        "failed": func.count().filter(settled, ~done),
        "waiting": func.count().filter(~settled),
    }
    found = await session.execute(
        select(ParkedJob.provider_id, ParkedJob.tenant, *(each.label(name) for name, each in counts.items()))
        .where(waited(row.provider_id, row.names, row.opened_at, until))
        .group_by(ParkedJob.provider_id, ParkedJob.tenant)
        .order_by(ParkedJob.provider_id, ParkedJob.tenant)
    )
    return [(each["provider_id"], each["tenant"], {key: each[key] for key in counts}) for each in found.mappings()]


def _about(row: Outage) -> dict[str, Any]:
    scope = Scope(row.scope)
    return {
        "outage": str(row.id),
        "scope": row.scope,
        "names": list(row.names),
        "reach": reach(scope, row.names),
        "since": row.opened_at.isoformat(),
    }


async def _tell(session: AsyncSession, row: Outage, once: str, event: str, payload: dict[str, Any]) -> None:
    await enqueue_apart(
        session,
        uuid5(row.id, once),
        event,
        payload,
        provider_id=row.provider_id,
        scope_type="org",
        scope_id="operators",
        order_key=f"outage:{row.provider_id}",
    )
