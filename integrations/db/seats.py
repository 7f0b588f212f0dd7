"""Who drains a ledger: by what each dispatcher last said, and by the locks that the database shows."""

from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import ledger_tables as tables
from integrations.db.dedicated import LOCK_CLASSES
from integrations.domain.dispatcher import Dispatcher, Owner

OWNERS: Final = {
    ledger: f"""
SELECT lock.pid, array_agg(lock.objid::int ORDER BY lock.objid) AS parts FROM pg_locks AS lock
WHERE lock.locktype = 'advisory' AND lock.classid = {lock_class} AND lock.objsubid = 2 AND lock.granted
  AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
GROUP BY lock.pid
"""  # noqa: S608 - ours
    for ledger, lock_class in LOCK_CLASSES.items()
}
"""By ledger, the sessions that own partitions of it."""
_OWNERS: Final = {
    ledger: text(f"""
SELECT owner.pid, owner.parts, coalesce(application_name, '') AS application,
  coalesce(wait_event_type || ':' || wait_event, '') AS wait
FROM ({owners}) AS owner LEFT JOIN pg_stat_activity USING (pid) ORDER BY owner.pid
""")  # noqa: S608 - ours
    for ledger, owners in OWNERS.items()
}


async def seated(
    session: AsyncSession, ledger: str, wished: int, called: Callable[[int], str] = str
) -> tuple[list[Dispatcher], list[Owner]]:
    """A ledger's dispatchers, and every session with locks of its partitions.

    Those that there are to be, numbered from 0, and those beyond that still run. `called`: a number's name in its
    session's.
    """
    owners = [Owner(**row) for row in (await session.execute(_OWNERS[ledger])).mappings()]
    said = {
        row.number: row
        for row in await session.scalars(select(tables.Dispatcher).where(tables.Dispatcher.ledger == ledger))
    }
    numbers = sorted({*range(wished), *(number for number, row in said.items() if row.running)})
    return [
        _dispatcher(
            Dispatcher(number=number, wished=number < wished),
            said.get(number),
            # Its session bears its name. Of two, one is frozen, or ends.
            [owner for owner in owners if owner.application == f"runbook {ledger} dispatcher {called(number)}"],
        )
        for number in numbers
    ], owners


def _dispatcher(each: Dispatcher, row: tables.Dispatcher | None, owners: Sequence[Owner]) -> Dispatcher:
    """With what its row says. Of several sessions, its own is that which has the partitions that it says it owns."""
    said = set(row.parts) if row else set()
    owner = max(owners, key=lambda owner: len(said.intersection(owner.parts)), default=None)
    if row is None:
        return each.model_copy(update={"owner": owner})
    return each.model_copy(
        update={
            "owner": owner,
            "worker": row.worker,
            "seen_at": row.seen_at,
            "batch": row.batch,
            "errors": row.errors,
            "last_error": row.last_error or "",
            "last_error_at": row.last_error_at,
        }
    )
