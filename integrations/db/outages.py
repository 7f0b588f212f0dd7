"""Outages: opened once for each provider, told line by line, closed once."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.outage_tables import Outage, OutageNote
from integrations.domain.outage import Ended, Finding, Scope, Step


async def open_of(session: AsyncSession, provider_id: str) -> Outage | None:
    """The open one of a provider, as it is committed."""
    query = select(Outage).where(Outage.provider_id == provider_id, Outage.closed_at.is_(None))
    return await session.scalar(query.execution_options(populate_existing=True))


async def find(session: AsyncSession, outage_id: UUID) -> Outage:
    return await session.get_one(Outage, outage_id, populate_existing=True)


async def found(
    session: AsyncSession,
    provider_id: str,
    *,
    scope: Scope,
    names: Sequence[str],
    reason: str,
    by: str,
    finding: Finding | None = None,
    why_not: str | None = None,
) -> tuple[UUID, bool]:
    """Open an outage, or say of the open one that it was found again. Its id, and whether this opened it.

    `why_not`: what keeps the platform from acting; the outage is only observed. One that was, and may be acted on by
    now, is no longer.
    """
    seen: dict[str, Any] = {"seen_at": func.now(), "observed": why_not is not None, "why_not": why_not}
    if finding is not None:
        seen["finding"] = finding.model_dump(mode="json")
    wanted = uuid4()
    row = await session.execute(
        insert(Outage)
        .values(
            id=wanted,
            provider_id=provider_id,
            scope=scope,
            names=list(names),
            step=Step.SCOPE,
            reason=reason,
            opened_by=by,
            **seen,
        )
        .on_conflict_do_update(
            index_elements=[Outage.provider_id], index_where=text("closed_at IS NULL"), set_={"seen_at": func.now()}
        )
        .returning(Outage.id)
    )
    kept = row.scalar_one()
    if kept != wanted:
        # What its workflow is at is told by that alone. Only looked at, it is as the last look found it.
        told = {"scope": scope, "names": list(names), "reason": reason} | seen
        await session.execute(update(Outage).where(Outage.id == kept, Outage.observed).values(**told))
    return kept, kept == wanted


async def at(session: AsyncSession, outage_id: UUID, step: Step, **changes: Any) -> bool:
    """Say where an open outage is, and what else is known of it. False when it is closed."""
    moved = await session.execute(
        update(Outage)
        .where(Outage.id == outage_id, Outage.closed_at.is_(None))
        .values(step=step, seen_at=func.now(), **changes)
    )
    return bool(moved.rowcount)  # type: ignore[attr-defined]


async def note(
    session: AsyncSession,
    outage_id: UUID,
    key: str,
    step: Step,
    what: str,
    *,
    percent: int | None = None,
    rate: float | None = None,
    facts: dict[str, Any] | None = None,
) -> None:
    """Write a line of the timeline, once for each key."""
    await session.execute(
        insert(OutageNote)
        .values(outage_id=outage_id, key=key, step=step, what=what, percent=percent, rate=rate, facts=dict(facts or {}))
        .on_conflict_do_nothing(index_elements=[OutageNote.outage_id, OutageNote.key])
    )


async def close(session: AsyncSession, outage_id: UUID, ended: Ended, *, by: str, reason: str) -> bool:
    """Close an outage. False when it is closed already."""
    closed = await session.execute(
        update(Outage)
        .where(Outage.id == outage_id, Outage.closed_at.is_(None))
        .values(step=Step.CLOSE, ended=ended, closed_at=func.now(), closed_by=by, closed_reason=reason)
    )
    return bool(closed.rowcount)  # type: ignore[attr-defined]
