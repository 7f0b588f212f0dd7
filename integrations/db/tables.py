"""What we remember of connections: every table, its constraints, and the reason for each index.

What is to be delivered, and how far that is, stands in `ledger_tables`.
"""

from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    SmallInteger,
    UniqueConstraint,
    false,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from integrations.db.base import Base, one_of
from integrations.domain.automation import Conduct
from integrations.domain.connection import Status
from integrations.domain.reauth import Detected


class Deployment(Base):
    """One row: the Temporal that this database belongs to. A worker of another one must not touch it."""

    __tablename__ = "service_deployment"
    __table_args__ = (CheckConstraint("singleton", name="one_row"), one_of("conduct", Conduct, "conduct"))

    singleton: Mapped[bool] = mapped_column(primary_key=True, default=True)
    temporal_address: Mapped[str]
    temporal_namespace: Mapped[str]
    embedded: Mapped[str | None]
    """The data folder of an embedded pair, whose two halves may change their ports together."""
    bound_by: Mapped[str]
    bound_at: Mapped[datetime] = mapped_column(server_default=func.now())
    conduct: Mapped[str] = mapped_column(server_default=Conduct.ACT)
    """`RUNBOOK_MODE` of the worker that started last: all of them act by it, and every command can tell it."""
    conduct_since: Mapped[datetime] = mapped_column(server_default=func.now())


WATCHED = "status IN ('pending_reauth', 'needs_reconsent') OR lifecycle_id IS NOT NULL"
"""Connections that must have a living lifecycle. In words, so that a query and its index say the same."""


NOT_FETCHED: Final = "its first token was not fetched yet"
"""The reason of a connection that needs nobody's consent, until it has its first credential."""
_UNFETCHED: Final = f"status = 'errored' AND status_reason = '{NOT_FETCHED}'"


class Connection(Base):
    __tablename__ = "service_connections"
    __table_args__ = (
        one_of("status", Status, "status"),
        CheckConstraint("scope_type IN ('user', 'org')", name="scope_type"),
        # What waits for a person is a handful among many: reconcile reads only those.
        Index("ix_service_connections_watched", "id", postgresql_where=text(WATCHED)),
        Index("ix_service_connections_unfetched", "created_at", postgresql_where=text(_UNFETCHED)),
        Index(None, "scope_type", "scope_id"),
        Index(None, "provider_id"),
        # Whose a webhook is, by the account that it names.
        Index(
            "ix_service_connections_account",
            "provider_id",
            "account_id",
            postgresql_where=text("account_id IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    provider_id: Mapped[str]
    scope_type: Mapped[str]
    scope_id: Mapped[str]
    status: Mapped[str]
    status_reason: Mapped[str]
    status_since: Mapped[datetime] = mapped_column(server_default=func.now())
    account_id: Mapped[str | None]
    """The provider's own id of the account. Consent by another one is refused."""
    account_name: Mapped[str | None]
    grants: Mapped[list[str]] = mapped_column(server_default="{}")
    missing_grants: Mapped[list[str]] = mapped_column(server_default="{}")
    """What a fresh consent has to bring back."""
    variables: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    """What completes the provider's addresses for this connection, such as a shop's name. Given when it was added."""
    lifecycle_id: Mapped[UUID | None]
    """The open re-consent lifecycle. Giving the connection up clears it, and so voids a consent on its way."""
    seq: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """The last event's number: identity order is not commit order, so events are counted under this row's lock."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    @property
    def tenant(self) -> str:
        return f"{self.scope_type}:{self.scope_id}"


class Transition(Base):
    __tablename__ = "service_connection_transitions"
    __table_args__ = (
        one_of("from_status", Status, "from_status"),
        one_of("to_status", Status, "to_status"),
        Index(None, "connection_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    connection_id: Mapped[UUID] = mapped_column(ForeignKey(Connection.id))
    from_status: Mapped[str]
    to_status: Mapped[str]
    reason: Mapped[str]
    actor: Mapped[str]
    evidence: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    lifecycle_id: Mapped[UUID | None]
    workflow_id: Mapped[str | None]
    run_id: Mapped[str | None]
    """The run of the workflow that did it; none when a person's command did."""
    event_id: Mapped[UUID]
    """The lifecycle event that the same transaction put into the outbox."""
    at: Mapped[datetime] = mapped_column(server_default=func.now())


FAILING: Final = "state = 'active' AND failing_since IS NOT NULL"
DUE: Final = "state = 'active' AND refresh_at IS NOT NULL"


class Credential(Base):
    """A version of a connection's tokens. `sealed` is AES-256-GCM over JSON, bound to connection and version."""

    __tablename__ = "service_credentials"
    __table_args__ = (
        UniqueConstraint("connection_id", "version"),
        one_of("state", ("unchecked", "candidate", "active", "retired"), "state"),
        # Never two active versions, whatever the code does.
        Index("ux_service_credentials_active", "connection_id", unique=True, postgresql_where=text("state = 'active'")),
        # One consent makes one credential: a repeated exchange finds the first one's.
        Index("ux_service_credentials_session", "session_id", unique=True),
        CheckConstraint("refresh_at IS NULL OR provider_id IS NOT NULL", name="due_somewhere"),
        # What is due at one provider, in its order: whatever is overdue at another is not walked through.
        Index("ix_service_credentials_due", "provider_id", "refresh_at", postgresql_where=text(DUE)),
        # A handful, but in an outage.
        Index("ix_service_credentials_failing", "failing_since", postgresql_where=text(FAILING)),
        # What is old enough to be forgotten: each refresh retires one.
        Index("ix_service_credentials_retired", "retired_at", postgresql_where=text("state = 'retired'")),
        Index(None, "key_id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    connection_id: Mapped[UUID] = mapped_column(ForeignKey(Connection.id))
    provider_id: Mapped[str | None]
    """The connection's, for the index of what is due."""
    version: Mapped[int]
    state: Mapped[str]
    key_id: Mapped[str]
    sealed: Mapped[bytes]
    grants: Mapped[list[str]]
    variables: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    """What the provider itself gave beside the tokens to complete its addresses, such as an instance's host."""
    expires_at: Mapped[datetime | None]
    refresh_at: Mapped[datetime | None]
    """When the sweep refreshes it, while it is the active one. None: there is nothing to refresh it with."""
    failing_since: Mapped[datetime | None]
    """Since when the sweep has tried in vain, for trouble that may pass."""
    session_id: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    activated_at: Mapped[datetime | None]
    retired_at: Mapped[datetime | None]


class RefreshLease(Base):
    """Single flight: who may refresh a connection, until when, and the number that voids a late writer."""

    __tablename__ = "service_refresh_leases"

    connection_id: Mapped[UUID] = mapped_column(ForeignKey(Connection.id), primary_key=True)
    token: Mapped[int] = mapped_column(BigInteger)
    until: Mapped[datetime]
    sent_version: Mapped[int | None]
    """The version whose refresh token was sent and whose answer was never settled: an ambiguous rotation."""
    sent_at: Mapped[datetime | None]


class GrantEvent(Base):
    """What was noticed about a connection's grants. Without `handled_at`: a detection that waits for a lifecycle."""

    __tablename__ = "service_grant_events"
    __table_args__ = (
        one_of("kind", (*Detected, "granted", "expanded"), "kind"),
        Index("ix_service_grant_events_unhandled", "noticed_at", postgresql_where=text("handled_at IS NULL")),
        Index(None, "connection_id", "noticed_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    connection_id: Mapped[UUID] = mapped_column(ForeignKey(Connection.id))
    kind: Mapped[str]
    cause: Mapped[str]
    actor: Mapped[str]
    ordered: Mapped[bool] = mapped_column(server_default=false())
    """By a person: carried out also while the platform does nothing by itself."""
    evidence: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    credential_version: Mapped[int | None]
    noticed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    announced_at: Mapped[datetime | None]
    """When reconcile announced one that nobody had taken up."""
    handled_at: Mapped[datetime | None]
    lifecycle_id: Mapped[UUID | None]


class ConsentSession(Base):
    """One invitation: from the link to the code that came back. Secrets in it are sealed or hashed."""

    __tablename__ = "service_consent_sessions"
    __table_args__ = (
        one_of(
            "status",
            ("invited", "received", "exchanging", "exchanged", "completed", "refused", "replaced", "expired"),
            "status",
        ),
        UniqueConstraint("link_hash"),
        # One invitation that can still be answered per lifecycle.
        Index(
            "ux_service_consent_sessions_open",
            "lifecycle_id",
            unique=True,
            postgresql_where=text("status IN ('invited','received','exchanging','exchanged')"),
        ),
        Index(None, "connection_id", "created_at"),
        Index("ix_service_consent_sessions_unsignalled", "received_at", postgresql_where=text("status = 'received'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    connection_id: Mapped[UUID] = mapped_column(ForeignKey(Connection.id))
    lifecycle_id: Mapped[UUID]
    status: Mapped[str]
    link_hash: Mapped[bytes]
    """SHA-256 of the link's token, to find the row by; the token itself is derived when it is needed."""
    asked_grants: Mapped[list[str]]
    why: Mapped[str]
    """What the owner reads: why this invitation was sent."""
    expires_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    sealed_verifier: Mapped[bytes | None]
    """Of the press whose code came back."""
    sealed_code: Mapped[bytes | None]
    key_id: Mapped[str | None]
    received_at: Mapped[datetime | None]
    signalled_at: Mapped[datetime | None]
    """When reconcile told the lifecycle of a code that it had not taken up."""
    denied_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    variables: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    """What the callback's address told beside the code, such as a company's number."""
    account_id: Mapped[str | None]
    account_name: Mapped[str | None]
    """Who consented, once that is known to be the right account."""
    outcome: Mapped[str | None]
    """What the owner reads when it did not work: in plain words, without secrets."""
    evidence: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    """What decided that it did not: the provider's answer without its secrets, and the rule that it met."""


class ConsentState(Base):
    """One press of an invitation's button. Several may be on their way: each tab has its own state and verifier."""

    __tablename__ = "service_consent_states"
    __table_args__ = (UniqueConstraint("state_hash"), Index(None, "session_id"), Index(None, "key_id"))

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    session_id: Mapped[UUID] = mapped_column(ForeignKey(ConsentSession.id))
    state_hash: Mapped[bytes]
    browser_hash: Mapped[bytes]
    """The browser that pressed: an answer from another one is not taken."""
    sealed_verifier: Mapped[bytes | None]
    """Forgotten with the first answer: a state is good for one."""
    key_id: Mapped[str]
    minted_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Key(Base):
    """An encryption key that was ever current. The key itself is not here: only what tells it from another one."""

    __tablename__ = "service_keys"

    key_id: Mapped[str] = mapped_column(primary_key=True)
    canary: Mapped[bytes]
    """A known text sealed with the key: whoever holds other bytes under the same id finds out before they do harm."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str]
    retired_at: Mapped[datetime | None]
    retired_by: Mapped[str | None]


class OperatorTask(Base):
    """What a person is asked to do about one connection, or about one provider as a whole."""

    __tablename__ = "service_operator_tasks"
    __table_args__ = (
        one_of("status", ("open", "acknowledged", "closed"), "status"),
        CheckConstraint("num_nonnulls(connection_id, provider_id) = 1", name="about_one"),
        Index(
            "ux_service_operator_tasks_open",
            "connection_id",
            "kind",
            unique=True,
            postgresql_where=text("status <> 'closed'"),
        ),
        Index(
            "ux_service_operator_tasks_open_provider",
            "provider_id",
            "kind",
            unique=True,
            postgresql_where=text("status <> 'closed' AND provider_id IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    connection_id: Mapped[UUID | None] = mapped_column(ForeignKey(Connection.id))
    provider_id: Mapped[str | None]
    """Of a task that is about no single connection."""
    kind: Mapped[str]
    lifecycle_id: Mapped[UUID | None]
    session_id: Mapped[UUID | None]
    """The invitation whose link the task shows; the link itself is rendered when it is read."""
    status: Mapped[str]
    title: Mapped[str]
    cause: Mapped[str]
    way_out: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    acknowledged_at: Mapped[datetime | None]
    acknowledged_by: Mapped[str | None]
    escalated_at: Mapped[datetime | None]
    """When the secondary on-call was told, because nobody had acknowledged it."""
    snoozed_until: Mapped[datetime | None]
    """By a person's wish: until then nobody is reminded or paged. The connection stays as blocked as it is."""
    closed_at: Mapped[datetime | None]
    closed_by: Mapped[str | None]
    closed_reason: Mapped[str | None]


class Contact(Base):
    """What is known of an owner: where their clock is, and when they want to be left alone."""

    __tablename__ = "service_contacts"
    __table_args__ = (CheckConstraint("scope_type IN ('user', 'org')", name="scope_type"),)

    scope_type: Mapped[str] = mapped_column(primary_key=True)
    scope_id: Mapped[str] = mapped_column(primary_key=True)
    zone: Mapped[str]
    quiet_starts: Mapped[int] = mapped_column(SmallInteger)
    quiet_ends: Mapped[int] = mapped_column(SmallInteger)
    changed_by: Mapped[str]
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
