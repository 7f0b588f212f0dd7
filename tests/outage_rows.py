"""Outages as rows, for tests of what is told and shown of them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from integrations.db import outages
from integrations.db.outage_tables import Mitigation, Outage, ParkedJob
from integrations.db.session import Sessions
from integrations.domain.outage import DETECTOR, Brake, Cell, Ended, Finding, Scope
from tests.factories import stored

FINDING = Finding(
    provider_id="simulator",
    scope=Scope.PROVIDER,
    why="48 of 50 calls failed within a minute",
    window=timedelta(seconds=60),
    calls=50,
    failing=48,
    matrix=(
        Cell(endpoint="token", tenant="org:acme", calls=30, failing=30),
        Cell(endpoint="notes.write", tenant="org:acme", calls=10, failing=10),
        Cell(endpoint="notes.write", tenant="org:other", calls=10, failing=8),
    ),
)


async def add_outage(sessions: Sessions, provider_id: str = "simulator", **changes: Any) -> UUID:
    """One that was just found, at the whole provider."""
    given: dict[str, Any] = {
        "scope": Scope.PROVIDER,
        "names": (),
        "reason": FINDING.why,
        "by": DETECTOR,
        "finding": FINDING,
    } | changes
    async with sessions.begin() as session:
        outage_id, _ = await outages.found(session, provider_id, **given)
    return outage_id


async def close_outage(sessions: Sessions, outage_id: UUID, ended: Ended = Ended.HEALED) -> None:
    async with sessions.begin() as session:
        await outages.close(session, outage_id, ended, by="outage:simulator", reason="calls succeed as before")


async def add_brake(sessions: Sessions, outage_id: UUID, brake: Brake = Brake.QUEUE, **changes: Any) -> int:
    """The queue's, slowed down to a trickle, whose lease is good for two minutes."""
    given: dict[str, Any] = {
        "outage_id": outage_id,
        "provider_id": "simulator",
        "brake": brake,
        "name": "",
        "rate": None if brake is Brake.SHIELD else 0.5,
        "reason": FINDING.why,
        "put_by": "outage:simulator",
        "lease_until": datetime.now(UTC) + timedelta(minutes=2),
    } | changes
    row = Mitigation(**given)
    async with sessions.begin() as session:
        session.add(row)
    return row.id


async def add_parked(sessions: Sessions, tenant: str = "org:acme", **changes: Any) -> str:
    """A job that waits since its patience was over."""
    given: dict[str, Any] = {
        "workflow_id": f"job:simulator:{uuid4()}",
        "run_id": str(uuid4()),
        "provider_id": "simulator",
        "connection_id": uuid4(),
        "tenant": tenant,
        "capability": "notes.write",
        "cause": "Simulator: 503",
    } | changes
    async with sessions.begin() as session:
        session.add(ParkedJob(**given))
    return str(given["workflow_id"])


async def outage(sessions: Sessions, outage_id: UUID) -> Outage:
    return await stored(sessions, Outage, outage_id)
