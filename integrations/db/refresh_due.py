"""What is due for a refresh at one provider: claimed fifty at a time, and put off again when it could not be refreshed.

A connection is due by its active credential's `refresh_at`. Whoever claims holds the lease of each (`leases`), reads
what it refreshes with only then, and looks again whether it is due: another's refresh may have ended in between.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.leases import LEASE
from integrations.db.refresh import REFRESHABLE, Claim
from integrations.db.tables import DUE, Connection, Credential

_IDS: Final = bindparam("ids", type_=ARRAY(UUID_TYPE))
_TOKENS: Final = bindparam("tokens", type_=ARRAY(BIGINT))
_COUNTED: Final = text(f"""
SELECT provider_id, (SELECT count(*) FROM (
    SELECT FROM service_credentials WHERE provider_id = asked.provider_id AND {DUE} AND refresh_at <= now() LIMIT :most
  ) AS due) AS due
FROM unnest(cast(:providers AS text[])) AS asked (provider_id)
""")  # noqa: S608 - ours
# Rows that another claim is taking are passed over; those whose lease lives are somebody's already. Each lease is
# looked up by its key: as a join the planner reads all there are. So is each tenant, when some are left out.
_CLAIMED: Final = text(f"""
WITH due AS (
  SELECT kept.connection_id FROM service_credentials AS kept
  WHERE kept.provider_id = :provider_id AND {DUE} AND kept.refresh_at <= now()
    AND coalesce((SELECT lease.until < now() FROM service_refresh_leases AS lease
                  WHERE lease.connection_id = kept.connection_id), true)
    AND (cardinality(cast(:without AS text[])) = 0
      OR (SELECT scope_type || ':' || scope_id FROM service_connections WHERE id = kept.connection_id)
        <> ALL (cast(:without AS text[])))
  ORDER BY kept.refresh_at LIMIT :most
  FOR NO KEY UPDATE OF kept SKIP LOCKED
)
INSERT INTO service_refresh_leases AS lease (connection_id, token, until)
SELECT connection_id, 1, now() + cast(:lease AS interval) FROM due ORDER BY connection_id
ON CONFLICT (connection_id) DO UPDATE SET token = lease.token + 1, until = excluded.until WHERE lease.until < now()
RETURNING connection_id, token, sent_version, sent_at
""")  # noqa: S608 - ours
_NEWEST: Final = (
    select(func.max(Credential.version))
    .where(Credential.connection_id == Connection.id)
    .correlate(Connection)
    .scalar_subquery()
)
_RELEASED: Final = text("""
UPDATE service_refresh_leases AS lease SET until = now() - interval '1 s',
  sent_version = CASE WHEN ours.answered THEN NULL ELSE lease.sent_version END,
  sent_at = CASE WHEN ours.answered THEN NULL ELSE lease.sent_at END
FROM unnest(:ids, :tokens, cast(:answered AS boolean[])) AS ours (connection_id, token, answered)
WHERE lease.connection_id = ours.connection_id AND lease.token = ours.token
""").bindparams(_IDS, _TOKENS)
_MARKED: Final = text("""
UPDATE service_refresh_leases AS lease SET until = now() + cast(:lease AS interval), sent_version = ours.version,
  sent_at = CASE WHEN lease.sent_version = ours.version THEN lease.sent_at ELSE now() END
FROM unnest(:ids, :tokens, cast(:versions AS integer[])) AS ours (connection_id, token, version)
WHERE lease.connection_id = ours.connection_id AND lease.token = ours.token AND lease.until > now()
RETURNING lease.connection_id
""").bindparams(_IDS, _TOKENS)
_UNMARKED: Final = text("""
UPDATE service_refresh_leases AS lease SET sent_version = NULL, sent_at = NULL
FROM unnest(:ids, :tokens) AS ours (connection_id, token)
WHERE lease.connection_id = ours.connection_id AND lease.token = ours.token
""").bindparams(_IDS, _TOKENS)
_PUT_OFF: Final = text("""
UPDATE service_credentials AS kept SET
  refresh_at = now() + ours.wait * (1 + random() / 4),
  failing_since = CASE WHEN ours.failing THEN coalesce(kept.failing_since, now()) END
FROM unnest(cast(:credentials AS bigint[]), cast(:waits AS interval[]), cast(:failing AS boolean[]))
  AS ours (id, wait, failing)
WHERE kept.id = ours.id AND kept.state = 'active'
""")


@dataclass(frozen=True, slots=True)
class Late:
    """A connection that could not be refreshed."""

    claim: Claim
    wait: timedelta | None
    """Until it is due again. None: there is nothing to refresh it with."""
    answered: bool
    """Did the provider say anything? Then nothing is ambiguous, unless an earlier answer was lost."""
    failing: bool
    """Is it late for trouble that may pass? People see since when."""

    @property
    def settled(self) -> bool:
        return self.answered and self.claim.certain


async def providers_due(session: AsyncSession, providers: Sequence[str], most: int) -> Mapping[str, int]:
    """The providers at which something is due, each with how much, counted up to `most`."""
    found = await session.execute(_COUNTED, {"providers": list(providers), "most": most})
    return {provider_id: due for provider_id, due in found if due}


async def claim_due(
    session: AsyncSession, provider_id: str, most: int, *, without: Collection[str] = ()
) -> tuple[list[Claim], int]:
    """Take the leases of at most `most` connections that are due, the longest overdue first, of all but some tenants.

    What can be refreshed of them, and how many were taken in all. The others, whose status forbids it or who are not
    due any more, are given back: no more due for the sweep until they have another credential.
    """
    values = {"provider_id": provider_id, "most": most, "lease": LEASE, "without": list(without)}
    taken = (await session.execute(_CLAIMED, values)).all()
    if not taken:
        return [], 0
    leases = {row.connection_id: row for row in taken}
    # A statement of its own, under the leases: it sees what their last holders committed.
    found = await session.execute(
        select(Connection, Credential, _NEWEST)
        .join(Credential, Credential.connection_id == Connection.id)
        .where(
            Connection.id.in_(leases),
            Connection.status.in_(REFRESHABLE),
            Credential.state == "active",
            Credential.refresh_at <= func.now(),
        )
    )
    claims = []
    for connection, credential, newest in found:
        lease = leases.pop(connection.id)
        since = lease.sent_at if lease.sent_version == credential.version else None
        claims.append(Claim(connection, credential, lease.token, since, newest))
    if leases:
        await _give_back(session, [(row.connection_id, row.token) for row in leases.values()])
    return claims, len(taken)


async def _give_back(session: AsyncSession, taken: Sequence[tuple[UUID, int]]) -> None:
    ids = [connection_id for connection_id, _ in taken]
    unfit = select(Connection.id).where(Connection.id.in_(ids), Connection.status.not_in(REFRESHABLE))
    await session.execute(
        update(Credential)
        .where(Credential.connection_id.in_(unfit), Credential.state == "active")
        .values(refresh_at=None)
    )
    await _release(session, [(connection_id, token, False) for connection_id, token in taken])


async def release(session: AsyncSession, claims: Sequence[Claim]) -> None:
    """Give back what was not sent: it is due as before."""
    await _release(session, [(claim.connection.id, claim.token, False) for claim in claims])


async def put_off(session: AsyncSession, late: Sequence[Late]) -> None:
    """Give back what could not be refreshed: due again after its wait and up to a quarter more, or for no sweep."""
    # Of these versions only: another one, that came meanwhile, has a time of its own.
    values = {
        "credentials": [each.claim.credential.id for each in late],
        "waits": [each.wait for each in late],
        "failing": [each.failing for each in late],
    }
    await session.execute(_PUT_OFF, values)
    await _release(session, [(each.claim.connection.id, each.claim.token, each.settled) for each in late])


async def mark_sent(session: AsyncSession, claims: Sequence[Claim]) -> set[UUID]:
    """Write down that these versions' refresh tokens will go out. The connections whose lease is still held."""
    values = {
        "ids": [claim.connection.id for claim in claims],
        "tokens": [claim.token for claim in claims],
        "versions": [claim.credential.version for claim in claims],
        "lease": LEASE,
    }
    return set((await session.scalars(_MARKED, values)).all())


async def unmark(session: AsyncSession, claims: Sequence[Claim]) -> None:
    """What was sent was answered: nothing is ambiguous any more, whatever becomes of this process."""
    ids, tokens = [claim.connection.id for claim in claims], [claim.token for claim in claims]
    await session.execute(_UNMARKED, {"ids": ids, "tokens": tokens})


async def _release(session: AsyncSession, taken: Sequence[tuple[UUID, int, bool]]) -> None:
    ids, tokens, answered = zip(*taken, strict=True) if taken else ((), (), ())
    await session.execute(_RELEASED, {"ids": list(ids), "tokens": list(tokens), "answered": list(answered)})
