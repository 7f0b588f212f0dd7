"""What we remember of refreshes at each provider, as long as it takes to tell a revocation from a surge of them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, Uuid, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from integrations.db.base import Base, one_of
from integrations.db.tables import Connection
from integrations.domain.verdict import Meaning


class RefreshTries(Base):
    """Connections whose refresh was answered, as many as were settled in one transaction.

    Only ever inserted: a counter would be one row that all of a provider's refreshes wait for, and it could not tell
    one connection that was tried ten times from ten. Whoever inserts takes two old rows away.
    """

    __tablename__ = "service_refresh_tries"
    __table_args__ = (Index(None, "provider_id", "at"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    provider_id: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    connection_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))


class RefreshRefusal(Base):
    """A connection's last terminal answer. It says nothing any more once the connection has a newer credential."""

    __tablename__ = "service_refresh_refusals"
    __table_args__ = (
        one_of("meaning", (Meaning.OWNER_MUST_ACT, Meaning.OPERATOR_MUST_ACT), "meaning"),
        # What counts is what is in the window, and what is held back since before it.
        Index(None, "provider_id", "at"),
        Index("ix_service_refresh_refusals_held", "provider_id", postgresql_where=text("held_at IS NOT NULL")),
    )

    connection_id: Mapped[UUID] = mapped_column(ForeignKey(Connection.id), primary_key=True)
    provider_id: Mapped[str]
    version: Mapped[int]
    """Of the credential that was refused."""
    meaning: Mapped[str]
    rule: Mapped[str]
    answer: Mapped[str]
    """The provider's, in words and without its secrets."""
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    held_at: Mapped[datetime | None]
    """Since when nobody acts on it, because it is one of a surge that is not over."""
    released_at: Mapped[datetime | None]
    """When a person said that this version may be acted on, whatever else is refused."""
