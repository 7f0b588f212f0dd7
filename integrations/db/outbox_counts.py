"""Projections against the ledger: by count for a look, and by event for whoever has to find the difference."""

from typing import Final
from uuid import UUID

from sqlalchemy import text

from integrations.db.in_time import PATIENCE, in_time
from integrations.db.outbox_retention import FORGOTTEN
from integrations.db.session import Sessions
from integrations.domain.message import Message
from integrations.domain.outbox_page import Counts, Reconciled

_TABLES: Final = {"activity": "service_activity_entries", "notification": "service_notification_requests"}
"""What each projector fills, one row for each event. One that is not here is not reconciled, and said so."""
_STAYS: Final = ("activity",)
"""Projectors whose rows stay when their event is forgotten with its ledger rows."""
_FORGOTTEN: Final = f"FROM service_ledger_watermarks WHERE ledger = '{FORGOTTEN}'"
_MADE: Final = "".join(
    f"UNION ALL SELECT 'made', '{projector}', count(*), NULL, NULL FROM {table}\n"  # noqa: S608 - ours
    for projector, table in _TABLES.items()
)
_FORGOT: Final = f"UNION ALL SELECT 'forgotten', destination, items, NULL, NULL {_FORGOTTEN}\n"
# One statement: all of it is counted at the same moment, while the drain goes on.
_COUNTS: Final = text(f"""
SELECT 'events' AS what, status AS name, count(*) AS amount, NULL::bigint AS delivered, min(id) AS first
  FROM service_lifecycle_outbox GROUP BY status
UNION ALL SELECT 'items', projector, count(*), count(*) FILTER (WHERE status = 'delivered'), min(position)
  FROM service_projector_ledger GROUP BY projector
{_MADE}{_FORGOT}""")  # noqa: S608 - ours
_LIMIT: Final = 50
_LONGER: Final = 60.0
"""Seconds: whoever looks for events has something to find."""


class Difference(Message):
    event_id: UUID
    projector: str
    what: str


async def counts(sessions: Sessions, seconds: float = PATIENCE) -> Counts | None:
    """None when it takes longer than that to read every row."""
    rows = await in_time(sessions, _COUNTS, seconds=seconds)
    if rows is None:
        return None
    events = {row.name: row for row in rows if row.what == "events"}
    settled = [row for status, row in events.items() if status not in {"pending", "processing"}]
    forgotten = {row.name: row.amount for row in rows if row.what == "forgotten" and row.name in _STAYS}
    made = {row.name: row.amount - forgotten.get(row.name, 0) for row in rows if row.what == "made"}
    items = {row.name: row for row in rows if row.what == "items"}
    first = min((row.first for row in settled), default=0)
    total = sum(row.amount for row in settled)
    return Counts(
        processing=events["processing"].amount if "processing" in events else 0,
        projections=[
            Reconciled(
                projector=name,
                delivered=items[name].delivered if name in items else 0,
                made=made.get(name),
                # A projector that was added later knows nothing of what was settled before it.
                unknown=total - items[name].amount if name in items and items[name].first <= first else 0,
            )
            for name in sorted({*made, *items})
        ],
    )


async def differences(sessions: Sessions) -> list[Difference] | None:
    """The first fifty events of each kind whose projection is not as the ledger says. None when not found in time."""
    found: list[Difference] = []
    for projector, table in _TABLES.items():
        rows = await in_time(
            sessions, text(_DIFFERENCES.format(table=table, kept=_kept(projector))), {"projector": projector}, _LONGER
        )
        if rows is None:
            return None
        found += [Difference(event_id=row.event_id, projector=projector, what=row.what) for row in rows]
    return found


def _kept(projector: str) -> str:
    """What of a projector's table has ledger rows still: younger than whatever was forgotten."""
    if projector not in _STAYS:
        return "true"
    return f"occurred_at > coalesce((SELECT at {_FORGOTTEN} AND destination = '{projector}'), '-infinity')"


_DIFFERENCES: Final = f"""
(SELECT event_id, 'delivered, and not in {{table}}' AS what FROM service_projector_ledger AS item
  WHERE projector = :projector AND status = 'delivered'
    AND NOT EXISTS (SELECT FROM {{table}} AS made WHERE made.event_id = item.event_id) LIMIT {_LIMIT})
UNION ALL (SELECT event_id, 'in {{table}}, and not delivered' FROM {{table}} AS made
  WHERE {{kept}} AND NOT EXISTS (SELECT FROM service_projector_ledger AS item
    WHERE item.event_id = made.event_id AND projector = :projector AND status = 'delivered') LIMIT {_LIMIT})
UNION ALL (SELECT event_id, status || ', and not in the ledger' FROM service_lifecycle_outbox AS event
  WHERE status <> 'pending' AND NOT EXISTS (SELECT FROM service_projector_ledger AS item
    WHERE item.event_id = event.event_id AND projector = :projector) LIMIT {_LIMIT})
"""  # noqa: S608 - ours
