"""How many requests were refused, by the hour. Nothing of what they held."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

Refused = tuple[datetime, str, str, str]
"""The hour, the provider, the channel, the reason."""

# In order, so that two processes that write the same rows wait for each other and never crosswise.
_ADD: Final = text("""
INSERT INTO service_webhook_refusals (hour, provider_id, channel, reason, count)
SELECT * FROM unnest(cast(:hours AS timestamptz[]), cast(:providers AS text[]), cast(:channels AS text[]),
  cast(:reasons AS text[]), cast(:counts AS bigint[])) ORDER BY 1, 2, 3, 4
ON CONFLICT (hour, provider_id, channel, reason)
DO UPDATE SET count = service_webhook_refusals.count + excluded.count
""")


async def add(session: AsyncSession, counts: Mapping[Refused, int]) -> None:
    """Add what was counted since the last time."""
    hours, providers, channels, reasons = (list(column) for column in zip(*counts, strict=True))
    told = {"hours": hours, "providers": providers, "channels": channels, "reasons": reasons}
    await session.execute(_ADD, told | {"counts": list(counts.values())})
