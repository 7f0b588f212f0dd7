"""Outages at a glance: those that are open, and what ended lately. From rows alone."""

from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.domain.outage import DONE, OURS
from integrations.domain.outage_page import Standing

LATELY: Final = timedelta(hours=24)
# A relapse is a trickle after the ramp had begun. Jobs that were parked before it was found wait for it as well.
_STANDING: Final = f"""
SELECT outage.id AS outage, provider_id AS provider, scope, names, step, opened_at AS since, opened_by AS by,
  reason, observed, why_not, seen_at, ended, closed_at, closed_by, closed_reason, brake.brakes, brake.lease_until,
  coalesce(brake.rate, last.rate) AS rate, last.percent, walked.relapses, job.parked, job.done
FROM service_outages AS outage
LEFT JOIN LATERAL (
  SELECT percent, rate FROM service_outage_notes AS note
  WHERE note.outage_id = outage.id AND percent IS NOT NULL ORDER BY id DESC LIMIT 1
) AS last ON true
CROSS JOIN LATERAL (
  SELECT count(*) AS brakes, min(lease_until) AS lease_until, min(rate) AS rate FROM service_mitigations AS brake
  WHERE brake.outage_id = outage.id AND released_at IS NULL
) AS brake
CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE fell) AS relapses FROM (
    SELECT percent = 0 AND lag(percent) OVER walk > 0 AS fell
    FROM service_outage_notes AS note WHERE note.outage_id = outage.id AND percent IS NOT NULL
    WINDOW walk AS (ORDER BY id)
  ) AS steps
) AS walked
CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE settled_at IS NULL) AS parked, count(*) FILTER (WHERE outcome = '{DONE}') AS done
  FROM service_parked_jobs AS job
  WHERE job.provider_id = ANY(CASE outage.provider_id WHEN '{OURS}' THEN names ELSE ARRAY[outage.provider_id] END)
    AND parked_at <= coalesce(closed_at, now()) AND coalesce(settled_at, now()) >= opened_at
) AS job
"""  # noqa: S608 - our own words
_LATELY: Final = text(f"""{_STANDING}
WHERE closed_at IS NULL OR closed_at > now() - cast(:lately AS interval)
ORDER BY closed_at IS NOT NULL, closed_at DESC, opened_at
""")
_ONE: Final = text(f"{_STANDING} WHERE outage.id = :id")
_LAST: Final = text(f"""{_STANDING}
WHERE outage.id = (SELECT id FROM service_outages
  WHERE provider_id = :provider OR provider_id = '{OURS}' AND :provider = ANY(names)
  ORDER BY closed_at IS NOT NULL, provider_id <> :provider, opened_at DESC LIMIT 1)
""")  # noqa: S608 - our own words


async def standing(session: AsyncSession) -> list[Standing]:
    """Open outages, the oldest first; then those that ended within the last day, the latest first."""
    return [_told(row) for row in (await session.execute(_LATELY, {"lately": LATELY})).mappings()]


async def one(session: AsyncSession, outage_id: UUID) -> Standing | None:
    row = (await session.execute(_ONE, {"id": outage_id})).mappings().one_or_none()
    return _told(row) if row else None


async def last_of(session: AsyncSession, provider_id: str) -> Standing | None:
    """A provider's open outage, or the last that it had; the one of our own way out, where that was seen there."""
    row = (await session.execute(_LAST, {"provider": provider_id})).mappings().one_or_none()
    return _told(row) if row else None


def _told(row: RowMapping) -> Standing:
    return Standing.model_validate(dict(row))
