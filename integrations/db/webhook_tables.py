"""What we remember of webhooks: channels with their secrets, deliveries, their repeats, and what was refused.

A channel is one address that a provider sends to: of one connection, or of all connections of an application.
"""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, SmallInteger, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from integrations.db.base import Base, one_of
from integrations.domain.webhook import Identity as DeliveryIdentity
from integrations.domain.webhook import Reaction, WebhookStatus


class WebhookChannel(Base):
    """Where a provider may send to: `/webhooks/{provider_id}/{channel}`. Without a live secret nothing is taken.

    A closed one keeps its row: what came before is still its connection's, and nobody else's.
    """

    __tablename__ = "service_webhook_channels"

    provider_id: Mapped[str] = mapped_column(primary_key=True)
    channel: Mapped[str] = mapped_column(primary_key=True)
    connection_id: Mapped[UUID | None]
    """Whose deliveries these are. None: a delivery's body says of which account it is."""
    made_by: Mapped[str]
    reason: Mapped[str]
    made_at: Mapped[datetime] = mapped_column(server_default=func.now())
    tested_hash: Mapped[str | None]
    """Of the catalog's section and the live secrets that the last self-test was made with."""
    tested_at: Mapped[datetime | None]
    tested: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    """What came out, case by case."""
    closed_at: Mapped[datetime | None]
    closed_by: Mapped[str | None]
    closed_reason: Mapped[str | None]


class WebhookSecret(Base):
    """A channel's secret. Two are live while a provider is told of the new one."""

    __tablename__ = "service_webhook_secrets"
    __table_args__ = (
        one_of("state", ("live", "retired"), "state"),
        # What is live can be opened; what is retired is forgotten.
        CheckConstraint("state = 'retired' OR sealed IS NOT NULL", name="live_is_sealed"),
        Index(None, "provider_id", "channel", "version", unique=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    provider_id: Mapped[str]
    channel: Mapped[str]
    version: Mapped[int]
    state: Mapped[str] = mapped_column(server_default="live")
    key_id: Mapped[str]
    sealed: Mapped[bytes | None]
    made_by: Mapped[str]
    reason: Mapped[str]
    made_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ends_at: Mapped[datetime | None]
    """Of one that was replaced: until then it is accepted beside its successor."""


class WebhookDelivery(Base):
    """One delivery, byte for byte as it came, once for each (provider, channel, delivery id)."""

    __tablename__ = "service_webhook_deliveries"
    __table_args__ = (
        one_of("status", WebhookStatus, "status"),
        one_of("identity", DeliveryIdentity, "identity"),
        one_of("reaction", Reaction, "reaction"),
        CheckConstraint("(status = 'coalesced') = (folded_into IS NOT NULL)", name="folded"),
        CheckConstraint("status <> 'dead' OR cause IS NOT NULL", name="dead_has_a_cause"),
        Index("ux_service_webhook_deliveries_delivery", "provider_id", "channel", "delivery_id", unique=True),
        # The claim's only path: settled rows, however many, and what is not due yet are not walked through.
        Index("ix_service_webhook_deliveries_pending", "part", "due_at", postgresql_where=text("status = 'pending'")),
        # The other changes of a resource that are not over with.
        Index(
            "ix_service_webhook_deliveries_waiting",
            "provider_id",
            "channel",
            "resource",
            "account",
            "position",
            postgresql_where=text("status IN ('pending', 'retrying', 'dead') AND resource <> ''"),
        ),
        # Its last change that was handled: none before it is told any more.
        Index(
            "ix_service_webhook_deliveries_handled",
            "provider_id",
            "channel",
            "resource",
            "account",
            "position",
            postgresql_where=text("status = 'delivered' AND resource <> ''"),
        ),
        Index("ix_service_webhook_deliveries_retrying", "lease_until", postgresql_where=text("status = 'retrying'")),
        Index(
            "ix_service_webhook_deliveries_dead", "fingerprint", "position", postgresql_where=text("status = 'dead'")
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """In the order of time (UUID version 7): a range of ids is a range of times, without another index."""
    position: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    provider_id: Mapped[str]
    channel: Mapped[str]
    delivery_id: Mapped[str]
    identity: Mapped[str]
    """`id`: the provider's own. `digest`: the body's, where the provider sends none; unique within a window."""
    event: Mapped[str] = mapped_column(server_default="")
    reaction: Mapped[str]
    """What is done about it, by the catalog of whoever took it in: a worker may still have the one before."""
    resource: Mapped[str] = mapped_column(server_default="")
    """What a change is about, where the channel coalesces its event; else empty. What is folded is found by it."""
    account: Mapped[str] = mapped_column(server_default="")
    """The external account that it is about, as far as it says so."""
    notices: Mapped[list[Any] | None] = mapped_column(JSONB)
    """All that it tells, as [reaction, event, account], where that is more than one thing. The gravest is above."""
    headers: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """Lower-case names; a secret among them is left out."""
    body: Mapped[bytes]
    part: Mapped[int] = mapped_column(SmallInteger)
    status: Mapped[str] = mapped_column(server_default="pending")
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    sent_at: Mapped[datetime | None]
    """As the provider signed it, which may be in this attempt."""
    occurred_at: Mapped[datetime | None]
    """When it happened, as the signed body says."""
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """Not handled before: a window to coalesce in. `infinity`: held back while its handler is broken as a whole."""
    waits: Mapped[str | None]
    """Why it may not be done now, where its handler said so: it is tried each minute. Of what is `pending` only."""
    settled_at: Mapped[datetime | None]
    handled_as: Mapped[str | None]
    """Which handler took it, and what came of it."""
    folded_into: Mapped[UUID | None]
    """The later change of the same resource that was handled in its place."""
    woken: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    """How often a redelivery or a replay had it tried again."""
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    cause: Mapped[str | None]
    fingerprint: Mapped[str | None]
    error: Mapped[str | None]
    failed_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]
    """A `retrying` one whose workflow has not been heard of until then gets another one from reconcile."""
    history: Mapped[list[Any] | None] = mapped_column(JSONB)
    """Each failed attempt: when, by whom, and what was said. The last twenty."""


class WebhookRepeat(Base):
    """A duplicate that was acknowledged. Only ever inserted: a storm of them waits for no row."""

    __tablename__ = "service_webhook_repeats"
    __table_args__ = (
        Index(None, "at"),
        Index("ix_service_webhook_repeats_delivery", "provider_id", "channel", "delivery_id", "at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    provider_id: Mapped[str]
    channel: Mapped[str]
    delivery_id: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class WebhookRefusal(Base):
    """How many requests were refused in an hour, by channel and reason. Nothing of what they held."""

    __tablename__ = "service_webhook_refusals"

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    provider_id: Mapped[str] = mapped_column(primary_key=True)
    """`(unknown)` for one that is not in the catalog: nobody else's words are kept."""
    channel: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)
