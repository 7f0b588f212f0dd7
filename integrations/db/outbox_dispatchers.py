"""Who drains the outbox: by wish, by what each last said, and by the locks that the database shows."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import ledger_tables as tables
from integrations.db.dedicated import LOCK_CLASSES
from integrations.db.scale import LEDGER, wish
from integrations.domain.outbox_page import Dispatcher, Owner

OWNERS: Final = f"""
SELECT lock.pid, array_agg(lock.objid::int ORDER BY lock.objid) AS parts FROM pg_locks AS lock
WHERE lock.locktype = 'advisory' AND lock.classid = {LOCK_CLASSES[LEDGER]} AND lock.objsubid = 2 AND lock.granted
  AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
GROUP BY lock.pid
"""  # noqa: S608 - ours
_OWNERS: Final = text(f"""
SELECT owner.pid, owner.parts, coalesce(application_name, '') AS application,
  coalesce(wait_event_type || ':' || wait_event, '') AS wait
FROM ({OWNERS}) AS owner LEFT JOIN pg_stat_activity USING (pid) ORDER BY owner.pid
""")  # noqa: S608 - ours


async def dispatchers(session: AsyncSession) -> dict[str, Any]:
    """The page's `wish`, `wished_by`, `dispatchers` and `strangers`."""
    wanted = await wish(session)
    owners = [Owner(**row) for row in (await session.execute(_OWNERS)).mappings()]
    said = {
        row.number: row
        for row in await session.scalars(select(tables.Dispatcher).where(tables.Dispatcher.ledger == LEDGER))
    }
    numbers = sorted({*range(wanted.dispatchers), *(number for number, row in said.items() if row.running)})
    found = [_dispatcher(number, wanted.dispatchers, said.get(number), owners) for number in numbers]
    known = {each.owner.pid for each in found if each.owner}
    return {
        "wish": wanted.dispatchers,
        "wished_by": wanted.by,
        "dispatchers": found,
        "strangers": [owner for owner in owners if owner.pid not in known],
    }


def _dispatcher(number: int, wished: int, row: tables.Dispatcher | None, owners: Sequence[Owner]) -> Dispatcher:
    said = set(row.parts) if row else set()
    # Its session bears its name. Of two, one is frozen, or ends: the other one is that which says what it owns.
    mine = [owner for owner in owners if owner.application == f"runbook {LEDGER} dispatcher {number}"]
    told = Dispatcher(
        number=number,
        wished=number < wished,
        owner=max(mine, key=lambda owner: len(said.intersection(owner.parts)), default=None),
    )
    if row is None:
        return told
    return told.model_copy(
        update={
            "worker": row.worker,
            "seen_at": row.seen_at,
            "batch": row.batch,
            "errors": row.errors,
            "last_error": row.last_error or "",
            "last_error_at": row.last_error_at,
        }
    )
