"""What we remember of whom we tell: how they are reached, and each message that somebody was to get."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, Identity, Index, SmallInteger, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from integrations.db.base import Base, one_of

DISPATCH: tuple[str, ...] = (
    "pending",
    "processing",
    "held",
    "retrying",
    "delivered",
    "dead",
    "nobody",
    "dropped",
)


class ContactAddress(Base):
    """How somebody is reached by one channel."""

    __tablename__ = "service_contact_addresses"
    __table_args__ = (UniqueConstraint("audience", "name", "channel"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    audience: Mapped[str]
    """`org:acme` or `user:7`, `operators.primary`, `operators.secondary`, or `list.NAME`."""
    name: Mapped[str] = mapped_column(server_default="")
    """A person's, among others of the audience."""
    channel: Mapped[str]
    origin: Mapped[str]
    """What fails as a whole with it: a host, or a mail server."""
    shown: Mapped[str]
    """The address for people, masked."""
    sealed: Mapped[bytes]
    """JSON: the address, and the secret that webhooks are signed with."""
    key_id: Mapped[str]
    changed_by: Mapped[str]
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class NotificationDispatch(Base):
    """One message for one recipient by one channel: an item of the ledger `notifications`."""

    __tablename__ = "service_notification_dispatches"
    __table_args__ = (
        one_of("status", DISPATCH, "status"),
        # The claim's path: what is due, the oldest first. What waits for a morning stands behind.
        Index(
            "ix_service_notification_dispatches_pending",
            "part",
            "due_at",
            "position",
            postgresql_where=text("status = 'pending'"),
        ),
        Index("ix_service_notification_dispatches_held", "part", postgresql_where=text("status = 'held'")),
        # What a process took with it, and what lost its workflow.
        Index(
            "ix_service_notification_dispatches_leased",
            "status",
            "lease_until",
            postgresql_where=text("status IN ('processing', 'retrying')"),
        ),
        Index(
            "ix_service_notification_dispatches_dead",
            "fingerprint",
            "position",
            postgresql_where=text("status IN ('dead', 'nobody')"),
        ),
        # How much news was none any more, lately.
        Index("ix_service_notification_dispatches_dropped", "settled_at", postgresql_where=text("status = 'dropped'")),
        # What became of an event.
        Index(None, "event_id"),
        # Each row changes two times: its next versions find room on the page of the first.
        {"postgresql_with": {"fillfactor": 50}},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """Made of event, definition, recipient and channel: `domain.notification.dispatch_id`."""
    position: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    event_id: Mapped[UUID]
    definition: Mapped[str]
    recipient: Mapped[str]
    """`org:acme/ada`; empty where a definition found nobody."""
    channel: Mapped[str]
    part: Mapped[int] = mapped_column(SmallInteger)
    """The channel's number."""
    address_id: Mapped[UUID | None]
    status: Mapped[str] = mapped_column(server_default="pending")
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    """Then it is news no more."""
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    token: Mapped[UUID | None]
    """Of who has it in hand: a settle by anybody else changes nothing."""
    lease_until: Mapped[datetime | None]
    plan_id: Mapped[UUID | None]
    """In hand of a replay: when that is lost it is dead, as before, and not in the flow."""
    cause: Mapped[str | None]
    fingerprint: Mapped[str | None]
    error: Mapped[str | None]
    failed_at: Mapped[datetime | None]
    rendered: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    """Of what is dead: what the recipient would have read, without links; and to which address, masked."""
    version: Mapped[str | None]
    """Of the templates that it was rendered with, once it was."""
    history: Mapped[list[Any] | None] = mapped_column(JSONB)
    """Each failed attempt. The last twenty."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    settled_at: Mapped[datetime | None]
