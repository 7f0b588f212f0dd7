"""How many dispatchers the outbox has: a wish that is kept, and who had it."""

from typing import Final

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.ledger_tables import DispatchScale
from integrations.domain.errors import StopError
from integrations.domain.message import Message
from integrations.domain.outbox import DISPATCHERS

LEDGER: Final = "outbox"


class Wish(Message):
    dispatchers: int
    by: str = ""
    reason: str = ""


async def wish(session: AsyncSession) -> Wish:
    """What was wished last; without a wish the default, which is nobody's."""
    row = await session.get(DispatchScale, LEDGER)
    return Wish(dispatchers=row.dispatchers, by=row.by, reason=row.reason) if row else Wish(dispatchers=DISPATCHERS)


async def keep(session: AsyncSession, seen: Wish, dispatchers: int, *, by: str, reason: str) -> None:
    """Wish for another number. Raises StopError when the wish is no longer the one that was `seen`."""
    values = {"dispatchers": dispatchers, "by": by, "reason": reason}
    kept = await session.execute(
        insert(DispatchScale)
        .values(ledger=LEDGER, **values)
        .on_conflict_do_update(
            index_elements=[DispatchScale.ledger],
            set_=values | {"at": func.clock_timestamp()},
            where=DispatchScale.dispatchers == seen.dispatchers,
        )
        .returning(DispatchScale.dispatchers)
    )
    if kept.scalar() is None:
        now = await wish(session)
        raise StopError(
            f"meanwhile {now.by} wished for {now.dispatchers} dispatchers ({now.reason}), and what was looked at here "
            f"were {seen.dispatchers}. If yours still holds: runbook outbox scale {dispatchers}"
        )
