"""Whether news is news still: what came later of the same order key, and whether an invitation waits for an answer."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import text

from integrations.db.session import Executor
from integrations.db.wildcards import like
from integrations.domain.notification import Definition, News

_LATER: Final = text("""
SELECT told.id, later.name FROM unnest(cast(:ids AS uuid[]), cast(:order_keys AS text[]), cast(:seqs AS bigint[]),
  cast(:patterns AS text[])) AS told (id, order_key, seq, patterns) CROSS JOIN LATERAL (
  SELECT event.name FROM service_lifecycle_outbox AS event
  WHERE event.order_key = told.order_key AND event.seq > told.seq
    AND event.name LIKE ANY(string_to_array(told.patterns, ' ')) ORDER BY event.seq DESC LIMIT 1
) AS later
""")
_INVITING: Final = text("""
SELECT id FROM service_consent_sessions WHERE id = ANY(:ids) AND status = 'invited' AND expires_at > now()
""")


@dataclass(frozen=True, slots=True)
class Told:
    """Something that is to be told, with the definition that says what makes it old."""

    id: UUID
    definition: Definition
    news: News


async def superseded(run: Executor, told: Sequence[Told]) -> Mapping[UUID, str]:
    """Those that something later has made old, by id: the name of that event. One statement for all."""
    asked = [each for each in told if each.definition.superseded_by]
    if not asked:
        return {}
    found = await run.execute(
        _LATER,
        {
            "ids": [each.id for each in asked],
            "order_keys": [each.news.order_key for each in asked],
            "seqs": [each.news.seq for each in asked],
            "patterns": [" ".join(map(like, each.definition.superseded_by)) for each in asked],
        },
    )
    return {row.id: row.name for row in found}


async def inviting(run: Executor, session_ids: Collection[UUID]) -> set[UUID]:
    """Those invitations whose link leads somewhere."""
    if not session_ids:
        return set()
    return set((await run.execute(_INVITING, {"ids": list(session_ids)})).scalars())
