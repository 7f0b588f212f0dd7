"""What we remember of calls to providers: each of them, and in what a provider's last ones ended."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from integrations.db.base import Base


class ProviderCall(Base):
    """One call that was made.

    Its key is its one index, and begins with the time because everybody asks by time: a window of the last minutes for
    all providers at once, and what is too old. Rows come in nearly that order, so that a new one goes to the index's
    last page, and a window's rows lie side by side in the table. Another index, by provider, would cost each call as
    much again and save a window of minutes little.

    Rows come in batches, and one that is refused would take all others with it: nothing is checked that the recorder's
    types do not promise. A foreign key would have a batch wait for whoever holds one of its connections.
    """

    __tablename__ = "service_provider_calls"

    at: Mapped[datetime] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """The recorder's: a batch whose answer was lost is written again, and no call is counted twice."""
    provider_id: Mapped[str]
    endpoint: Mapped[str]
    purpose: Mapped[str]
    tenant: Mapped[str]
    connection_id: Mapped[UUID]
    outcome: Mapped[str]
    rule: Mapped[str]
    status: Mapped[int | None]
    attempt: Mapped[int]
    duration_ms: Mapped[int]


class ProviderTail(Base):
    """The failing calls that a provider's row of calls ends in: none, as long as it answers.

    How a provider does that is called each five minutes is told by its last five calls, over any time. Found by an
    index on the calls, each call would pay for it; here only those that fail do, and the first ones after them.
    Whoever writes calls writes this in the same statement. It is the same in whatever order batches arrive.
    """

    __tablename__ = "service_provider_tails"

    provider_id: Mapped[str] = mapped_column(primary_key=True)
    answered_at: Mapped[datetime | None]
    """Its last call that was not failing; up to a minute older, while none fails."""
    failing_at: Mapped[list[datetime]] = mapped_column(ARRAY(TIMESTAMP(timezone=True)))
    """Its failing calls since, the last one first and not all of them."""
