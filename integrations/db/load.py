"""What the database's server is doing, looked at again and again for a moment."""

import asyncio
import time
from collections import Counter
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.seats import OWNERS
from integrations.domain.scale import Load

SECONDS: Final = 2.0
_EVERY: Final = 0.05
_WORK: Final = ("IO", "LWLock", "Lock", "BufferPin")
"""Waits that are the database's own. The others are for a client, a timer, or a process that is counted itself."""
# Of every database on the server: they share its machine. A statement each: within a transaction the view stands still.
_LOOK: Final = {
    ledger: text(f"""
SELECT wait_event_type AS kind, wait_event AS event, pid IN (SELECT pid FROM ({owners}) AS owner) AS drains
FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()
""")  # noqa: S608 - ours
    for ledger, owners in OWNERS.items()
}
_ROOM: Final = text("""
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - current_setting('reserved_connections')::int
    - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int AS free,
  (SELECT count(*) FROM pg_stat_activity WHERE query = '<insufficient privilege>')::int AS hidden
""")


async def measured(session: AsyncSession, ledger: str, seconds: float = SECONDS) -> Load:
    """Look for so long, at whose drain. `session` has not been used yet: it becomes one without transactions."""
    connection = await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
    looks = working = active = 0
    waits: Counter[str] = Counter()
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        for row in await connection.execute(_LOOK[ledger]):
            working += row.kind is None or row.kind in _WORK
            active += row.drains
            if row.drains and row.kind in _WORK:
                waits[f"{row.kind}:{row.event}"] += 1
        looks += 1
        await asyncio.sleep(_EVERY)
    room = (await connection.execute(_ROOM)).one()
    return Load(
        seconds=time.monotonic() - began,
        looks=looks,
        working=working / looks,
        drain_active=active,
        drain_waiting=waits.total(),
        waits_for=waits.most_common(1)[0][0] if waits else "",
        free_connections=room.free,
        hidden=room.hidden,
    )
