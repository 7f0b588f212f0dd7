"""The rows that a surge is told by: what was tried and refused at a provider, and the lock that guards them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from sqlalchemy import case, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.surge_tables import RefreshRefusal
from integrations.db.tables import Connection
from integrations.domain.automation import Step
from integrations.domain.surge import TASK, Counted, Limits
from integrations.domain.verdict import Meaning


@dataclass(frozen=True, slots=True)
class Watched:
    """A provider whose refreshes are counted."""

    provider_id: str
    name: str
    """For people."""
    fix: str
    """What repairs our registration there, by its catalog entry."""
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A terminal answer to a refresh, without its secrets."""

    connection_id: UUID
    version: int
    meaning: Meaning
    """OWNER_MUST_ACT or OPERATOR_MUST_ACT."""
    rule: str
    answer: str
    contested: bool = False
    """The provider's own introspection says otherwise."""

    @property
    def leads_to(self) -> Step:
        """What would be done, were it believed."""
        if self.contested:
            return Step.CONTEST
        return Step.BLOCK if self.meaning is Meaning.OWNER_MUST_ACT else Step.ERRORED


_LOCK_CLASS: Final = 0x73757267
"""The first half of the advisory locks; the second is the provider. `pg_locks` shows both."""


async def add_tries(session: AsyncSession, at: Watched, ids: Sequence[UUID]) -> bool:
    """Count connections whose refresh was answered, in one round trip. Whether a surge is known at the provider."""
    counting = {"provider": at.provider_id, "window": at.limits.window, "ids": ids}
    return bool((await session.execute(_TRIED, counting)).scalar_one())


async def try_lock(session: AsyncSession, provider_id: str) -> bool:
    """False when somebody else counts at this moment."""
    return bool(await session.scalar(_TRY_LOCK, {"class": _LOCK_CLASS, "provider": provider_id}))


async def lock(session: AsyncSession, provider_id: str, refused: Sequence[Refusal]) -> None:
    """In a statement of its own, so that the next one sees what was committed while this one waited."""
    # A refusal's row refers to its connection's: that is locked first, whoever inserts.
    ids = [each.connection_id for each in refused]
    if ids:
        rows = select(Connection.id).where(Connection.id.in_(ids)).order_by(Connection.id)
        await session.execute(rows.with_for_update(read=True, key_share=True))
    await session.execute(_LOCK, {"class": _LOCK_CLASS, "provider": provider_id})


async def note(session: AsyncSession, at: Watched, refused: Sequence[Refusal]) -> None:
    """One row for a connection, however often it is refused."""
    noted = insert(RefreshRefusal).values(
        [
            {
                "connection_id": each.connection_id,
                "provider_id": at.provider_id,
                "version": each.version,
                "meaning": each.meaning,
                "rule": each.rule,
                "answer": each.answer,
            }
            for each in refused
        ]
    )
    same = RefreshRefusal.version == noted.excluded.version
    await session.execute(
        noted.on_conflict_do_update(
            index_elements=[RefreshRefusal.connection_id],
            set_={
                **{name: noted.excluded[name] for name in ("version", "meaning", "rule", "answer", "at")},
                # What was said of one version says nothing of the next.
                **{name: case((same, getattr(RefreshRefusal, name))) for name in ("held_at", "released_at")},
            },
        )
    )


async def hold(session: AsyncSession, refused: Sequence[Refusal]) -> frozenset[UUID]:
    """Those that are held back by now: all but what a person released."""
    held = await session.scalars(
        update(RefreshRefusal)
        .where(
            RefreshRefusal.connection_id.in_([each.connection_id for each in refused]),
            RefreshRefusal.released_at.is_(None),
        )
        .values(held_at=func.coalesce(RefreshRefusal.held_at, func.now()))
        .returning(RefreshRefusal.connection_id)
    )
    return frozenset(held.all())


async def count(session: AsyncSession, at: Watched) -> Counted:
    """The provider's connections as a surge is judged by them."""
    asked = {"provider": at.provider_id, "window": at.limits.window, "least": at.limits.connections}
    return Counted(**(await session.execute(_COUNT, asked)).mappings().one())


_LOCK: Final = text("SELECT pg_advisory_xact_lock(:class, hashtext(:provider))")
_TRY_LOCK: Final = text("SELECT pg_try_advisory_xact_lock(:class, hashtext(:provider))")
# Counting is one round trip, and cleaning up after it needs nobody else.
_TRIED: Final = text(f"""
WITH old AS (
  DELETE FROM service_refresh_tries WHERE id IN (
    SELECT id FROM service_refresh_tries WHERE provider_id = :provider AND at < now() - cast(:window AS interval)
    ORDER BY at LIMIT 2 FOR UPDATE SKIP LOCKED)
), fresh AS (
  INSERT INTO service_refresh_tries (provider_id, connection_ids) VALUES (:provider, cast(:ids AS uuid[]))
)
SELECT EXISTS (SELECT FROM service_operator_tasks
  WHERE provider_id = :provider AND kind = '{TASK}' AND status <> 'closed')
""")  # noqa: S608 - our own word
# A credential that is newer than the refused one has answered the question, and where none is active nobody asks it:
# unless a webhook had it retired, when the next one may be as wrong. All that was tried is counted only where enough
# was refused: below that it decides nothing. What was held back and has been acted on by somebody since is nobody's
# question any more. Each is looked up by its key: as a join the planner reads all credentials.
_COUNT: Final = text("""
WITH suspect AS MATERIALIZED (
  SELECT refusal.connection_id, refusal.meaning, refusal.answer
  FROM service_refresh_refusals AS refusal
  WHERE refusal.provider_id = :provider AND refusal.released_at IS NULL
    AND (refusal.at > now() - cast(:window AS interval) OR refusal.held_at IS NOT NULL)
    AND coalesce((SELECT credential.version FROM service_credentials AS credential
         WHERE credential.connection_id = refusal.connection_id AND credential.state = 'active'),
         CASE WHEN refusal.rule = 'webhook' AND refusal.held_at IS NULL THEN refusal.version END) = refusal.version
    AND (refusal.held_at IS NULL OR (
      SELECT (connection.status, refusal.meaning)
        NOT IN (('pending_reauth', 'owner_must_act'), ('errored', 'operator_must_act'))
        AND connection.status <> 'disconnected'
      FROM service_connections AS connection WHERE connection.id = refusal.connection_id))
), commonest AS (
  SELECT answer, meaning, count(*) AS alike FROM suspect GROUP BY 1, 2 ORDER BY 3 DESC, 1 LIMIT 1
)
SELECT refused,
  CASE WHEN refused < :least THEN 0 ELSE (
    SELECT count(*) FROM (
      SELECT connection_id FROM suspect UNION SELECT unnest(connection_ids) FROM service_refresh_tries
      WHERE provider_id = :provider AND at > now() - cast(:window AS interval)
    ) AS each
  ) END AS tried,
  coalesce(answer, '') AS answer, coalesce(alike, 0) AS alike, coalesce(meaning, 'operator_must_act') AS meaning
FROM (SELECT count(*) AS refused FROM suspect) AS counted LEFT JOIN commonest ON true
""")
