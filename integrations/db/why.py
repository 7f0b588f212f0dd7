"""Why a connection is as it is: everything that was decided about it, with what decided."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.surge_tables import RefreshRefusal
from integrations.db.tables import ConsentSession, GrantEvent, Transition
from integrations.domain.message import Message
from integrations.domain.run import Run


class Turn(Message):
    """One thing that happened. Empty is what was not said, or did not apply."""

    at: datetime
    what: str
    """A change of status, `active → pending_reauth`, or what was noticed or refused without one."""
    reason: str
    person: str = ""
    """Who did it, said it, or consented; accounts are masked."""
    answer: str = ""
    """The provider's, without its secrets."""
    rule: str = ""
    """The row of the verdict table that matched."""
    noticed_by: Run | None = None
    run: Run | None = None
    lifecycle_id: UUID | None = None
    evidence: dict[str, Any] = Field(default_factory=dict)


async def turns(session: AsyncSession, connection_id: UUID) -> list[Turn]:
    """All of them, the oldest first."""
    moves = await session.scalars(select(Transition).where(Transition.connection_id == connection_id))
    told = [_move(row) for row in moves]
    # What led to a change of status stands with that change.
    known = {str(turn.evidence.get("detection")) for turn in told}
    noticed = await session.scalars(select(GrantEvent).where(GrantEvent.connection_id == connection_id))
    told += [_notice(row) for row in noticed if str(row.id) not in known and row.kind != "granted"]
    invited = (await session.scalars(select(ConsentSession).where(ConsentSession.connection_id == connection_id))).all()
    told += [_refusal(row) for row in invited if row.status in {"refused", "replaced", "expired"}]
    told += [_decline(row, row.denied_at) for row in invited if row.denied_at]
    refused = await session.get(RefreshRefusal, connection_id)
    if refused is not None and refused.held_at is not None:
        told.append(_held_back(refused, refused.held_at))
    return sorted(told, key=lambda turn: turn.at)


def _move(row: Transition) -> Turn:
    person = str(row.evidence.get("said_by") or row.evidence.get("account") or "")
    return Turn(
        at=row.at,
        what=f"{row.from_status} → {row.to_status}",
        reason=row.reason,
        person=person or _person(row.actor),
        run=Run(workflow_id=row.workflow_id or "", run_id=row.run_id) if row.run_id else None,
        lifecycle_id=row.lifecycle_id,
        **_decided(row.evidence),
    )


def _notice(row: GrantEvent) -> Turn:
    return Turn(
        at=row.noticed_at,
        what=f"{row.kind}, no change of status",
        reason=row.cause,
        person=_person(row.actor),
        lifecycle_id=row.lifecycle_id,
        **_decided(row.evidence),
    )


def _refusal(row: ConsentSession) -> Turn:
    return Turn(
        at=row.ended_at or row.created_at,
        what=f"invitation {row.status}",
        reason=row.outcome or "",
        person=str(row.evidence.get("account") or ""),
        lifecycle_id=row.lifecycle_id,
        **_decided(row.evidence),
    )


def _decline(row: ConsentSession, at: datetime) -> Turn:
    reason = "the owner declined at the provider, the last time then; the link stayed good"
    return Turn(at=at, what="invitation declined", reason=reason, lifecycle_id=row.lifecycle_id)


def _held_back(row: RefreshRefusal, at: datetime) -> Turn:
    what = "refused, no change of status"
    reason = f"held back: one of many at {row.provider_id} at once. See: runbook tasks list"
    return Turn(at=at, what=what, reason=reason, answer=row.answer, rule=row.rule)


def _decided(evidence: dict[str, Any]) -> dict[str, Any]:
    noticed = evidence.get("noticed_in")
    return {
        "answer": str(evidence.get("answer") or ""),
        "rule": str(evidence.get("rule") or ""),
        "noticed_by": Run(**noticed) if noticed else None,
        "evidence": evidence,
    }


def _person(actor: str) -> str:
    """Workflows act under their own names, people under theirs."""
    return "" if actor.endswith("Workflow") else actor
