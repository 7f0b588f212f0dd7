"""Calls of providers: written many at once, with what a provider's last ones ended in, and forgotten after a week."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.domain.call import TAIL, Count, ProviderCall
from integrations.domain.verdict import TRANSIENT

BATCH: Final = 10_000
"""Rows that are forgotten in one transaction."""
FAILING: Final = f"outcome IN ({', '.join(repr(str(each)) for each in sorted(TRANSIENT))})"
"""Of a call, in SQL: it met trouble that is nobody's to mend."""
Numbered = tuple[int, ProviderCall]
"""A call with the recorder's number for it."""


def _newest(times: str, answered: str) -> str:
    return (
        f"ARRAY(SELECT at FROM unnest({times}) AS each (at) "  # noqa: S608 - our own words
        f"WHERE at > greatest({answered}, '-infinity') ORDER BY at DESC LIMIT {TAIL})"
    )


# A tail is looked at without a lock, and written where it is or becomes one. Providers come in one order: two batches
# that are written at once do not wait for each other in a circle.
_ADD: Final = text(f"""
WITH made AS (
  INSERT INTO service_provider_calls
    (at, id, provider_id, endpoint, purpose, tenant, connection_id, outcome, rule, status, attempt, duration_ms)
  SELECT * FROM unnest(cast(:ats AS timestamptz[]), cast(:ids AS bigint[]), cast(:provider_ids AS text[]),
    cast(:endpoints AS text[]), cast(:purposes AS text[]), cast(:tenants AS text[]), cast(:connection_ids AS uuid[]),
    cast(:outcomes AS text[]), cast(:rules AS text[]), cast(:statuses AS int[]), cast(:attempts AS int[]),
    cast(:durations AS int[]))
  ON CONFLICT DO NOTHING
  RETURNING provider_id, at, {FAILING} AS failing
), heard AS (
  SELECT provider_id, max(at) FILTER (WHERE NOT failing) AS answered_at,
    coalesce(array_agg(at) FILTER (WHERE failing), '{{}}') AS failing_at
  FROM made GROUP BY provider_id
)
INSERT INTO service_provider_tails AS tail (provider_id, answered_at, failing_at)
SELECT provider_id, heard.answered_at, {_newest("heard.failing_at", "heard.answered_at")}
FROM heard LEFT JOIN service_provider_tails AS had USING (provider_id)
WHERE heard.failing_at <> '{{}}' OR had.failing_at IS DISTINCT FROM '{{}}'
  OR had.answered_at < heard.answered_at - interval '1 minute'
ORDER BY provider_id
ON CONFLICT (provider_id) DO UPDATE SET
  answered_at = greatest(tail.answered_at, excluded.answered_at),
  failing_at = {_newest("tail.failing_at || excluded.failing_at", "tail.answered_at, excluded.answered_at")}
""")  # noqa: S608 - our own words
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
    """Write calls and their providers' tails in one statement. Calls that are there already stay as they are."""
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
