"""What people see of refreshes that are late: at which providers, how many, since when."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.refresh import REFRESHABLE
from integrations.db.tables import DUE, FAILING
from integrations.domain.message import Message

LATE: Final = timedelta(minutes=10)
"""A sweep comes each minute, and has a provider's whole lead time."""
# By the indexes of what is due and of what fails: a table of millions is not walked through.
_OVERDUE: Final = text(f"""
SELECT connection.provider_id AS provider, count(*) AS connections, min(late.since) AS since
FROM (
  SELECT connection_id, min(since) AS since FROM (
    SELECT connection_id, refresh_at AS since FROM service_credentials
    WHERE {DUE} AND refresh_at < now() - cast(:late AS interval)
    UNION ALL SELECT connection_id, failing_since FROM service_credentials
    WHERE {FAILING} AND failing_since < now() - cast(:late AS interval)
  ) AS found GROUP BY connection_id
) AS late JOIN service_connections AS connection ON connection.id = late.connection_id
WHERE connection.status = ANY(:refreshable)
GROUP BY connection.provider_id ORDER BY since
""")  # noqa: S608 - ours


class Overdue(Message):
    """One provider's."""

    provider: str
    connections: int
    since: datetime
    """When the first of them was due, or was first tried in vain."""


async def overdue(session: AsyncSession, late: timedelta = LATE) -> list[Overdue]:
    """The providers at which connections are due, or tried in vain, for longer than `late`; the longest first."""
    found = await session.execute(_OVERDUE, {"late": late, "refreshable": list(REFRESHABLE)})
    return [Overdue(**row) for row in found.mappings()]
