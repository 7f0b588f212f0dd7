"""What people see of refreshes that are late: at which providers, how many, since when."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.refresh import REFRESHABLE
from integrations.db.tables import DUE
from integrations.domain.message import Message

LATE: Final = timedelta(minutes=10)
"""A sweep comes each minute, and has a provider's whole lead time."""
# The planner takes the index of what is due: a table of millions is not walked through.
_OVERDUE: Final = text(f"""
SELECT late.provider_id AS provider, count(*) AS connections, min(late.refresh_at) AS since
FROM service_credentials AS late JOIN service_connections AS connection ON connection.id = late.connection_id
WHERE {DUE} AND late.refresh_at < now() - cast(:late AS interval) AND connection.status = ANY(:refreshable)
GROUP BY late.provider_id ORDER BY since
""")  # noqa: S608 - ours


class Overdue(Message):
    """One provider's."""

    provider: str
    connections: int
    since: datetime
    """When the first of them was due."""


async def overdue(session: AsyncSession, late: timedelta = LATE) -> list[Overdue]:
    """The providers at which connections are due for longer than `late`, the longest first."""
    found = await session.execute(_OVERDUE, {"late": late, "refreshable": list(REFRESHABLE)})
    return [Overdue(**row) for row in found.mappings()]
