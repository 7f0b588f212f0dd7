"""What we remember of outages: each with its evidence, its timeline, its brakes, and the jobs that it parked."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from integrations.db.base import Base, one_of
from integrations.domain.outage import Brake, Ended, Scope, Step


class Outage(Base):
    """One outage of one provider, from its detection to its end."""

    __tablename__ = "service_outages"
    __table_args__ = (
        one_of("scope", Scope, "scope"),
        one_of("step", Step, "step"),
        one_of("ended", Ended, "ended"),
        Index("ux_service_outages_open", "provider_id", unique=True, postgresql_where=text("closed_at IS NULL")),
        Index(None, "provider_id", "opened_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    provider_id: Mapped[str]
    """`ours`: our own way out."""
    scope: Mapped[str]
    names: Mapped[list[str]] = mapped_column(server_default="{}")
    """The endpoints and tenants that are contained; empty: the provider as a whole."""
    step: Mapped[str]
    reason: Mapped[str]
    opened_by: Mapped[str]
    opened_at: Mapped[datetime] = mapped_column(server_default=func.now())
    observed: Mapped[bool] = mapped_column(server_default=text("false"))
    """Only looked at: the platform was not to act by itself, and nothing was touched."""
    why_not: Mapped[str | None]
    """What keeps or kept the platform from acting."""
    finding: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    """The last Finding: the matrix and the counts that decided."""
    baseline: Mapped[dict[str, Any] | None]
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When it was last found, or its workflow last wrote."""
    ended: Mapped[str | None]
    closed_at: Mapped[datetime | None]
    closed_by: Mapped[str | None]
    closed_reason: Mapped[str | None]


class OutageNote(Base):
    """One line of an outage's timeline. Only ever inserted, once for each key."""

    __tablename__ = "service_outage_notes"
    __table_args__ = (Index("ux_service_outage_notes_key", "outage_id", "key", unique=True),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    outage_id: Mapped[UUID] = mapped_column(ForeignKey(Outage.id))
    key: Mapped[str]
    """Of the step that wrote it: an activity that is repeated writes no line twice."""
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    step: Mapped[str]
    what: Mapped[str]
    percent: Mapped[int | None]
    """Of the full rate, where the line is about a rate: what the ramp is drawn from. 0: contained."""
    rate: Mapped[float | None]
    """Calls per second that are let through."""
    facts: Mapped[dict[str, Any]] = mapped_column(server_default="{}")


class Mitigation(Base):
    """A line of the undo journal: a brake that is on, or was.

    Written before it is put on, so that whoever dies in between leaves something to undo.
    """

    __tablename__ = "service_mitigations"
    __table_args__ = (
        one_of("brake", Brake, "brake"),
        Index(
            "ux_service_mitigations_on",
            "provider_id",
            "brake",
            "name",
            unique=True,
            postgresql_where=text("released_at IS NULL"),
        ),
        Index(None, "outage_id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    outage_id: Mapped[UUID] = mapped_column(ForeignKey(Outage.id))
    provider_id: Mapped[str]
    brake: Mapped[str]
    name: Mapped[str]
    """The endpoint or the tenant; empty for a queue and a shield over a whole provider."""
    rate: Mapped[float | None]
    """Calls per second that are let through. None: of a shield."""
    before: Mapped[float | None]
    """Of a queue, and of a tenant: the calls per second that somebody else had limited it, or each key, to.

    They come back with the release, and are not exceeded until then.
    """
    before_weight: Mapped[float | None]
    """Of a tenant: the weight that somebody else had given it."""
    reason: Mapped[str]
    put_by: Mapped[str]
    put_at: Mapped[datetime] = mapped_column(server_default=func.now())
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    admitted_at: Mapped[datetime | None]
    """Of a circuit: when the last call was let through."""
    lease_until: Mapped[datetime]
    """Renewed by the outage's workflow. Past it, reconcile releases the brake or calls a person."""
    released_at: Mapped[datetime | None]
    released_by: Mapped[str | None]
    released_reason: Mapped[str | None]


class ParkedJob(Base):
    """A job whose patience ended before its provider was back. Its workflow waits for its turn."""

    __tablename__ = "service_parked_jobs"
    __table_args__ = (
        Index("ix_service_parked_jobs_waiting", "provider_id", postgresql_where=text("settled_at IS NULL")),
    )

    workflow_id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str]
    provider_id: Mapped[str]
    connection_id: Mapped[UUID]
    tenant: Mapped[str]
    capability: Mapped[str]
    cause: Mapped[str]
    """What its last attempt met, or that there was none."""
    parked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    times: Mapped[int] = mapped_column(server_default=text("1"))
    released_at: Mapped[datetime | None]
    """When it was told to go on. Empty again when it is parked anew."""
    released_by: Mapped[str | None]
    settled_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
