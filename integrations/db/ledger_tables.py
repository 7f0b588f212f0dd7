"""What we remember of what is to be delivered: the outbox, its projections, what is in trouble, and replays.

What is told to people of it stands in `notification_tables.py`.

A ledger is a table of items to deliver. What is in trouble, who drains, and how a replay goes on are the same for all
of them, so these tables name the ledger that a row is about.
"""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, SmallInteger, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from integrations.db.base import Base, one_of
from integrations.domain.ledger import ItemStatus

_SETTLED = ("held", "retrying", "delivered", "dead")


class OutboxEvent(Base):
    """A lifecycle event, committed together with the state it tells of. Its status is the worst of its projections'."""

    __tablename__ = "service_lifecycle_outbox"
    __table_args__ = (
        one_of("status", ItemStatus, "status"),
        # Nothing without a name, a provider and an owner gets in, whoever writes it.
        CheckConstraint("name <> '' AND provider_id <> '' AND scope_id <> '' AND order_key <> ''", name="complete"),
        CheckConstraint("scope_type IN ('user', 'org')", name="scope_type"),
        # The claim's only path: delivered rows, however many, are not in it.
        Index("ix_service_lifecycle_outbox_pending", "part", "id", postgresql_where=text("status = 'pending'")),
        # An event's number is its own; and whoever reads a connection's events reads them in order.
        Index("ux_service_lifecycle_outbox_order", "order_key", "seq", unique=True),
        # Each row is settled once: its next version finds room on the page of the first.
        {"postgresql_with": {"fillfactor": 60}},
    )

    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    name: Mapped[str]
    provider_id: Mapped[str]
    scope_type: Mapped[str]
    scope_id: Mapped[str]
    connection_id: Mapped[UUID | None]
    order_key: Mapped[str]
    """The connection's id; of an event without one, what it must stay in order with."""
    part: Mapped[int] = mapped_column(SmallInteger)
    seq: Mapped[int] = mapped_column(BigInteger)
    source: Mapped[str] = mapped_column(server_default="runbook")
    """Which program recorded it."""
    payload: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(server_default="pending")
    occurred_at: Mapped[datetime] = mapped_column(server_default=func.now())


class OrderKey(Base):
    """The last event's number of an order key that is no connection: those are counted in their own row."""

    __tablename__ = "service_order_keys"

    order_key: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger)


class ProjectorLedger(Base):
    """One (event, projector): the guard that projects nothing twice, and the item that may be in trouble."""

    __tablename__ = "service_projector_ledger"
    __table_args__ = (
        one_of("status", _SETTLED, "status"),
        # Of the many rows that are fine none is in an index but the primary key's.
        Index(
            "ix_service_projector_ledger_held",
            "projector",
            "part",
            "position",
            postgresql_where=text("status = 'held'"),
        ),
        Index(
            "ix_service_projector_ledger_behind",
            "projector",
            "order_key",
            "position",
            postgresql_where=text("status = 'held'"),
        ),
        Index("ix_service_projector_ledger_retrying", "lease_until", postgresql_where=text("status = 'retrying'")),
        Index(
            "ix_service_projector_ledger_dead",
            "projector",
            "fingerprint",
            "position",
            postgresql_where=text("status = 'dead'"),
        ),
        # What was retried or is replayed finds room for its next version on the page of the first.
        {"postgresql_with": {"fillfactor": 70}},
    )

    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    projector: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(server_default="delivered")
    position: Mapped[int] = mapped_column(BigInteger)
    """The event's place in the outbox."""
    settled_at: Mapped[datetime] = mapped_column(server_default=func.now())
    part: Mapped[int | None] = mapped_column(SmallInteger)
    """With `order_key`: only of what was ever held or failed."""
    order_key: Mapped[str | None]
    attempts: Mapped[int | None] = mapped_column(SmallInteger)
    cause: Mapped[str | None]
    fingerprint: Mapped[str | None]
    error: Mapped[str | None]
    failed_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]
    """A `retrying` item whose workflow has not been heard of until then gets another one from reconcile."""
    history: Mapped[list[Any] | None] = mapped_column(JSONB)
    """Each failed attempt: when, by whom, and what was said. The last twenty."""


class Hold(Base):
    """What waits: everything later of one order key, or everything of one partition, at one destination.

    Set when an item leaves the flow, released when that item is delivered or dead, and removed once what had been held
    back meanwhile has been delivered in order.
    """

    __tablename__ = "service_ledger_holds"
    __table_args__ = (Index(None, "item_id"),)

    ledger: Mapped[str] = mapped_column(primary_key=True)
    part: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    destination: Mapped[str] = mapped_column(primary_key=True)
    order_key: Mapped[str] = mapped_column(primary_key=True)
    """`*`: the destination fails as a whole, and one item tries for all of them."""
    item_id: Mapped[UUID]
    """What is waited for."""
    since: Mapped[datetime] = mapped_column(server_default=func.now())
    released_at: Mapped[datetime | None]


class ActivityEntry(Base):
    """The projection that people read: what happened to a tenant's connections, in order."""

    __tablename__ = "service_activity_entries"
    __table_args__ = (
        # A tenant's latest entries are what is read of it.
        Index(None, "scope_type", "scope_id", "id"),
    )

    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    """Its place in the order of projection."""
    name: Mapped[str]
    provider_id: Mapped[str]
    scope_type: Mapped[str]
    scope_id: Mapped[str]
    connection_id: Mapped[UUID | None]
    order_key: Mapped[str]
    seq: Mapped[int] = mapped_column(BigInteger)
    source: Mapped[str]
    payload: Mapped[dict[str, Any]]
    occurred_at: Mapped[datetime]
    projected_at: Mapped[datetime] = mapped_column(server_default=func.now())
    out_of_order: Mapped[bool] = mapped_column(server_default=text("false"))
    """Replayed: its place here says nothing of when it happened, and readers sort by `seq`."""


class NotificationRequest(Base):
    """An event that somebody may have to hear of. Who and how is found out later, by another drain."""

    __tablename__ = "service_notification_requests"
    __table_args__ = (
        one_of("status", ("pending", "expanded", "unmapped"), "status"),
        Index("ix_service_notification_requests_pending", "id", postgresql_where=text("status = 'pending'")),
    )

    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    name: Mapped[str]
    order_key: Mapped[str]
    seq: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(server_default="pending")
    """`unmapped`: no definition was about it when it was projected, and nothing will come of it."""
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())
    out_of_order: Mapped[bool] = mapped_column(server_default=text("false"))


class Watermark(Base):
    """How far one destination is in one partition."""

    __tablename__ = "service_ledger_watermarks"

    ledger: Mapped[str] = mapped_column(primary_key=True)
    part: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    destination: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger)
    """Of the last item delivered in the flow."""
    items: Mapped[int] = mapped_column(BigInteger)
    """How many the flow has ever delivered."""
    at: Mapped[datetime]


class DispatchScale(Base):
    """How many dispatchers a ledger has, by whose wish. Without a row: the default."""

    __tablename__ = "service_dispatch_scales"
    __table_args__ = (CheckConstraint("dispatchers BETWEEN 1 AND 16", name="dispatchers"),)

    ledger: Mapped[str] = mapped_column(primary_key=True)
    dispatchers: Mapped[int] = mapped_column(SmallInteger)
    by: Mapped[str]
    reason: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class Dispatcher(Base):
    """One of a ledger's dispatchers, as it last said of itself."""

    __tablename__ = "service_dispatchers"

    ledger: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    worker: Mapped[str]
    parts: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    """Those whose locks it has."""
    running: Mapped[bool]
    """Since it began. Found so by the next one, it did not end: the batch in hand may be what ended it."""
    batch: Mapped[int]
    """The size of its batches: a tenth of the last after each such end, until there is progress."""
    suspect: Mapped[UUID | None]
    """Alone in its batch, and written down before that: when the process ends now, this is what ended it."""
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    items: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Ever settled by dispatchers of this number."""
    errors: Mapped[int] = mapped_column(BigInteger, server_default="0")
    last_error: Mapped[str | None]
    last_error_at: Mapped[datetime | None]


class LedgerSample(Base):
    """How a ledger stood at a moment, kept for an hour: two of them make a rate."""

    __tablename__ = "service_ledger_samples"

    ledger: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True, server_default=func.now())
    arrived: Mapped[int] = mapped_column(BigInteger)
    """Items ever enqueued."""
    settled: Mapped[int] = mapped_column(BigInteger)
    """Items ever taken out of the backlog."""


class ReplayPlan(Base):
    """A frozen set to replay. `upto`, `since` and `rate` say how far the drain may go by now."""

    __tablename__ = "service_replay_plans"
    __table_args__ = (
        one_of("status", ("planned", "running", "paused", "done", "stopped", "cancelled"), "status"),
        Index("ix_service_replay_plans_running", "ledger", postgresql_where=text("status = 'running'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    ledger: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="planned")
    filters: Mapped[dict[str, Any]]
    count: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str]
    """SHA-256 over the items in order: an edited plan is refused."""
    histogram: Mapped[dict[str, Any]]
    made_by: Mapped[str]
    reason: Mapped[str]
    made_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    rate: Mapped[int] = mapped_column(server_default="0")
    """Items a second."""
    max_failures: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """More failures than that, in the stage that is released, stop it."""
    released: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """The drain may take items up to this number, at the pace …"""
    paced_from: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """… which counts from this number …"""
    paced_since: Mapped[datetime | None]
    """… and this moment."""
    request: Mapped[dict[str, Any] | None]
    """What it was begun with: whoever finds it without a workflow begins it again with that."""
    approved_by: Mapped[str | None]
    approved_at: Mapped[datetime | None]
    started_by: Mapped[str | None]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[dict[str, Any] | None]


class ReplayItem(Base):
    """One item of a plan. Only what did not simply go well is written down here; the rest is counted."""

    __tablename__ = "service_replay_items"
    __table_args__ = (one_of("outcome", ("skipped", "dead"), "outcome"),)

    plan_id: Mapped[UUID] = mapped_column(primary_key=True)
    """Without a foreign key: a plan of a million items would be looked up a million times."""
    part: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    n: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    """Its place in the plan, from 1."""
    item_id: Mapped[UUID]
    destination: Mapped[str]
    verdict: Mapped[str | None]
    """What was to be expected of it when the plan was made."""
    outcome: Mapped[str | None]
    why: Mapped[str | None]


class ReplayProgress(Base):
    """How far a plan is in one partition: moved on by the transaction that replays."""

    __tablename__ = "service_replay_progress"

    plan_id: Mapped[UUID] = mapped_column(ForeignKey(ReplayPlan.id, ondelete="CASCADE"), primary_key=True)
    part: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    total: Mapped[int] = mapped_column(BigInteger)
    upto: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """The last item that has an outcome."""
    delivered: Mapped[int] = mapped_column(BigInteger, server_default="0")
    skipped: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Already delivered, or in the flow again: nothing was done."""
    dead: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Failed again."""
