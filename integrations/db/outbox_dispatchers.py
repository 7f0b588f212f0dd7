"""Who drains the outbox, and by whose wish so many."""

from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.scale import wish
from integrations.db.seats import seated

_LEDGER: Final = "outbox"


async def dispatchers(session: AsyncSession) -> dict[str, Any]:
    """The page's `wish`, `wished_by`, `dispatchers` and `strangers`."""
    wanted = await wish(session, _LEDGER)
    found, owners = await seated(session, _LEDGER, wanted.dispatchers)
    known = {each.owner.pid for each in found if each.owner}
    return {
        "wish": wanted.dispatchers,
        "wished_by": wanted.by,
        "dispatchers": found,
        "strangers": [owner for owner in owners if owner.pid not in known],
    }
