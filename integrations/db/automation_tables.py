"""What keeps the platform from acting by itself, and what it would have done."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from integrations.db.base import Base, one_of
from integrations.domain.automation import FailureMode


class AutomationPause(Base):
    """One pause of one failure mode, kept when it is over: who wanted it, and who ended it."""

    __tablename__ = "service_automation_pauses"
    __table_args__ = (one_of("mode", FailureMode, "mode"), Index(None, "mode", "until"))

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    mode: Mapped[str]
    since: Mapped[datetime] = mapped_column(server_default=func.now())
    until: Mapped[datetime]
    """The lease: over when this is past, whoever forgot it. Resuming moves it to that moment."""
    paused_by: Mapped[str]
    reason: Mapped[str]
    resumed_by: Mapped[str | None]
    resumed_reason: Mapped[str | None]


class WouldHaveDone(Base):
    """One thing that was not done, however often it was found again."""

    __tablename__ = "service_would_have_done"
    __table_args__ = (one_of("mode", FailureMode, "mode"), Index(None, "last_at"))

    connection_id: Mapped[UUID] = mapped_column(primary_key=True)
    step: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    """Of the cause, without its numbers and ids: what a provider words anew each time is the same thing."""
    mode: Mapped[str]
    cause: Mapped[str]
    times: Mapped[int] = mapped_column(server_default=text("1"))
    first_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_at: Mapped[datetime] = mapped_column(server_default=func.now())
