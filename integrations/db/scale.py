"""How many dispatchers a ledger has: a wish that is kept, and who had it."""

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.dispatchers import DEFAULTS
from integrations.db.ledger_tables import DispatchScale
from integrations.domain.errors import StopError
from integrations.domain.message import Message


class Wish(Message):
    ledger: str
    dispatchers: int
    by: str = ""
    reason: str = ""


async def wish(session: AsyncSession, ledger: str) -> Wish:
    """What was wished last; without a wish the default, which is nobody's."""
    row = await session.get(DispatchScale, ledger)
    if row is None:
        return Wish(ledger=ledger, dispatchers=DEFAULTS[ledger])
    return Wish(ledger=ledger, dispatchers=row.dispatchers, by=row.by, reason=row.reason)


async def keep(session: AsyncSession, seen: Wish, dispatchers: int, *, by: str, reason: str) -> None:
    """Wish for another number. Raises StopError when the wish is no longer the one that was `seen`."""
    values = {"dispatchers": dispatchers, "by": by, "reason": reason}
    kept = await session.execute(
        insert(DispatchScale)
        .values(ledger=seen.ledger, **values)
        .on_conflict_do_update(
            index_elements=[DispatchScale.ledger],
            set_=values | {"at": func.clock_timestamp()},
            where=DispatchScale.dispatchers == seen.dispatchers,
        )
        .returning(DispatchScale.dispatchers)
    )
    if kept.scalar() is None:
        now = await wish(session, seen.ledger)
        raise StopError(
            f"meanwhile {now.by} wished for {now.dispatchers} dispatchers ({now.reason}), and what was looked at here "
            f"were {seen.dispatchers}. If yours still holds: runbook {seen.ledger} scale {dispatchers}"
        )
