"""Calls of providers: written many at once, counted by the minute, forgotten after a week."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.domain.call import Count, ProviderCall

BATCH: Final = 10_000
"""Rows that are forgotten in one transaction."""
Numbered = tuple[int, ProviderCall]
"""A call with the recorder's number for it."""

_ADD: Final = text("""
INSERT INTO service_provider_calls
  (at, id, provider_id, endpoint, purpose, tenant, connection_id, outcome, rule, status, attempt, duration_ms)
SELECT * FROM unnest(cast(:ats AS timestamptz[]), cast(:ids AS bigint[]), cast(:provider_ids AS text[]),
  cast(:endpoints AS text[]), cast(:purposes AS text[]), cast(:tenants AS text[]), cast(:connection_ids AS uuid[]),
  cast(:outcomes AS text[]), cast(:rules AS text[]), cast(:statuses AS int[]), cast(:attempts AS int[]),
  cast(:durations AS int[]))
ON CONFLICT DO NOTHING
""")
_COUNTS: Final = text("""
SELECT provider_id, endpoint, tenant, outcome, count(*) AS calls
FROM service_provider_calls
WHERE at >= :since
GROUP BY provider_id, endpoint, tenant, outcome
ORDER BY provider_id, endpoint, tenant, outcome
""")
# By their places, for rows never change: joined to their keys, so many would have the whole table read.
_FORGET: Final = text("""
DELETE FROM service_provider_calls WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM service_provider_calls
  WHERE at < now() - cast(:kept AS interval)
  ORDER BY at
  LIMIT :most
))
""")


async def add(session: AsyncSession, made: Sequence[Numbered]) -> None:
    """Write calls in one statement. Those that are there already stay as they are."""
    callers = [call.caller for _, call in made]
    await session.execute(
        _ADD,
        {
            "ats": [call.at for _, call in made],
            "ids": [number for number, _ in made],
            "provider_ids": [call.provider_id for _, call in made],
            "endpoints": [call.endpoint for _, call in made],
            "purposes": [caller.purpose for caller in callers],
            "tenants": [caller.tenant for caller in callers],
            "connection_ids": [caller.connection_id for caller in callers],
            "outcomes": [call.outcome for _, call in made],
            "rules": [call.rule for _, call in made],
            "statuses": [call.status for _, call in made],
            "attempts": [caller.attempt for caller in callers],
            "durations": [call.duration_ms for _, call in made],
        },
    )


async def counts(session: AsyncSession, since: datetime) -> list[Count]:
    """Calls at or after `since`, by provider, endpoint, tenant and outcome: one walk over the key's last part.

    Of the last half second nothing is written yet (worker/recorder.py).
    """
    return [Count(**row) for row in (await session.execute(_COUNTS, {"since": since})).mappings()]


async def forget(session: AsyncSession, kept: timedelta, most: int) -> int:
    """Remove at most so many of the calls that are older than `kept`. How many it removed."""
    result = await session.execute(_FORGET, {"kept": kept, "most": most})
    return result.rowcount  # type: ignore[attr-defined, no-any-return]
