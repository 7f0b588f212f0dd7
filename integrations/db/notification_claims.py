"""Dispatches in hand: taken with a lease and a token, with all that sending them takes.

The claim is committed before anything is sent. Whoever settles shows the token that the claim wrote.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from integrations.db.notification_expand import NEWS, news_of
from integrations.db.session import Executor
from integrations.domain.ledger import Failure
from integrations.domain.notification import News

LEASE: Final = timedelta(seconds=60)
"""Longer than a message waits behind others and is sent: whoever has less of it left gives the message back."""
CLAIMED: Final = f"""
SELECT item.id, item.definition, item.recipient, item.channel, item.attempts, item.expires_at, item.token,
  item.cause, item.error, {NEWS},
  address.audience, address.name AS person, address.origin, address.shown, address.sealed, address.key_id,
  (SELECT zone FROM service_contacts AS contact
    WHERE contact.scope_type = event.scope_type AND contact.scope_id = event.scope_id) AS zone
FROM claimed AS item CROSS JOIN LATERAL (
  SELECT * FROM service_lifecycle_outbox AS event WHERE event.event_id = item.event_id LIMIT 1
) AS event LEFT JOIN LATERAL (
  SELECT * FROM service_contact_addresses AS address WHERE address.id = item.address_id LIMIT 1
) AS address ON true ORDER BY item.position
"""  # noqa: S608 - ours
"""What a statement that claims ends with: the rows that `claimed_of` reads."""
_CLAIM: Final = f"""
WITH due AS MATERIALIZED (
  SELECT ctid AS place FROM service_notification_dispatches
  WHERE status = 'pending' AND part = cast(:part AS smallint) AND due_at <= now()
  ORDER BY due_at, position LIMIT {{limit}} FOR UPDATE SKIP LOCKED
), claimed AS (
  UPDATE service_notification_dispatches SET status = 'processing', token = :token,
    lease_until = now() + cast(:lease AS interval)
  WHERE ctid = ANY(ARRAY(SELECT place FROM due)) RETURNING *
) {CLAIMED}
"""  # noqa: S608 - ours
_CLAIM_ONE: Final = text(f"""
WITH claimed AS (
  UPDATE service_notification_dispatches SET token = :token, lease_until = now() + cast(:lease AS interval)
  WHERE id = :id AND status = 'retrying' RETURNING *
) {CLAIMED}
""")  # noqa: S608 - ours
_CLAIM_SUSPECT: Final = text(f"""
WITH claimed AS (
  UPDATE service_notification_dispatches SET status = 'processing', token = :token,
    lease_until = now() + cast(:lease AS interval)
  WHERE id = :id AND status IN ('pending', 'processing') RETURNING *
) {CLAIMED}
""")  # noqa: S608 - ours
_CLAIM_EXPIRED: Final = text(f"""
WITH held AS MATERIALIZED (
  SELECT ctid AS place FROM service_notification_dispatches
  WHERE status = 'held' AND part = cast(:part AS smallint) AND expires_at <= now() LIMIT :limit FOR UPDATE SKIP LOCKED
), claimed AS (
  UPDATE service_notification_dispatches SET status = 'processing', token = :token,
    lease_until = now() + cast(:lease AS interval)
  WHERE ctid = ANY(ARRAY(SELECT place FROM held)) RETURNING *
) {CLAIMED}
""")  # noqa: S608 - ours
_IN_HAND: Final = text("""
SELECT item.id FROM service_notification_dispatches AS item
JOIN unnest(cast(:ids AS uuid[]), cast(:tokens AS uuid[])) AS told (id, token) ON told.id = item.id
WHERE item.token = told.token ORDER BY item.id FOR UPDATE OF item
""")
_LOOK: Final = text("""
SELECT
  -- One dispatcher is enough for them, and the others are there when it is not.
  EXISTS (SELECT FROM service_notification_requests WHERE status = 'pending'
    AND (cast(:part AS smallint) = 0 OR requested_at < now() - interval '5 seconds')) AS requests,
  EXISTS (SELECT FROM service_notification_dispatches
    WHERE status = 'pending' AND part = cast(:part AS smallint) AND due_at <= now()) AS due,
  EXISTS (SELECT FROM service_ledger_holds WHERE ledger = 'notifications' AND part = :part) AS held
""")
_OF_IDS: Final = text(f"""
WITH claimed AS (SELECT * FROM service_notification_dispatches WHERE id = ANY(:ids)) {CLAIMED}
""")  # noqa: S608 - ours
_DUE: Final = text("""
SELECT id FROM service_notification_dispatches
WHERE status = 'pending' AND part = cast(:part AS smallint) AND due_at <= now() ORDER BY due_at, position LIMIT 1
""")


@dataclass(frozen=True, slots=True)
class Sealed:
    """Where a dispatch goes to, as it is kept."""

    audience: str
    name: str
    channel: str
    origin: str
    """What fails as a whole with it."""
    shown: str
    """For people, masked."""
    sealed: bytes = field(repr=False)
    key_id: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A dispatch in hand, with all that sending it takes. The address is sealed still."""

    id: UUID
    token: UUID
    definition: str
    recipient: str
    channel: str
    attempts: int
    """Before this one."""
    expires_at: datetime
    news: News
    address: Sealed | None
    """None: it was removed since."""
    zone: str | None
    """Where the owner's clock is, when that is known."""
    failure: Failure | None
    """The last one, if any."""

    @property
    def origin(self) -> str:
        return self.address.origin if self.address else ""


@dataclass(frozen=True, slots=True)
class Look:
    """What a dispatcher finds to do."""

    requests: bool
    due: bool
    held: bool
    """Something is out, or was."""


async def look(connection: AsyncConnection, part: int) -> Look:
    row = (await connection.execute(_LOOK, {"part": part})).one()
    return Look(row.requests, row.due, row.held)


async def claim(connection: AsyncConnection, part: int, limit: int) -> list[Claimed]:
    """Take the next that are due, the oldest first. Committed when this returns."""
    told = {"part": part, "token": uuid4(), "lease": LEASE}
    return [claimed_of(row) for row in await connection.execute(text(_CLAIM.format(limit=limit)), told)]


async def claim_one(run: Executor, dispatch_id: UUID) -> Claimed | None:
    """Take one that is `retrying`, for its own workflow. None when it is settled."""
    told = {"id": dispatch_id, "token": uuid4(), "lease": LEASE}
    row = (await run.execute(_CLAIM_ONE, told)).one_or_none()
    return None if row is None else claimed_of(row)


async def claim_suspect(run: Executor, dispatch_id: UUID) -> Claimed | None:
    """Take one from whoever had it, who is dead. None when it is settled."""
    told = {"id": dispatch_id, "token": uuid4(), "lease": LEASE}
    row = (await run.execute(_CLAIM_SUSPECT, told)).one_or_none()
    return None if row is None else claimed_of(row)


async def claim_expired(connection: AsyncConnection, part: int, limit: int) -> list[Claimed]:
    """Take what was held until it was no news any more."""
    told = {"part": part, "limit": limit, "token": uuid4(), "lease": LEASE}
    return [claimed_of(row) for row in await connection.execute(_CLAIM_EXPIRED, told)]


async def in_hand(run: Executor, items: Collection[Claimed]) -> set[UUID]:
    """Those of a claim that nobody else has taken or settled since; nobody does until the transaction ends."""
    if not items:
        return set()
    told = {"ids": [item.id for item in items], "tokens": [item.token for item in items]}
    return set((await run.execute(_IN_HAND, told)).scalars())


async def seen(run: Executor, ids: Sequence[UUID]) -> list[Claimed]:
    """As a claim would find them. Nobody has them in hand for that."""
    return [claimed_of(row) for row in await run.execute(_OF_IDS, {"ids": list(ids)})]


async def next_due(connection: AsyncConnection, part: int) -> UUID | None:
    """What a claim of one would take."""
    return (await connection.execute(_DUE, {"part": part})).scalar()


def claimed_of(row: Any) -> Claimed:
    """Of a row that `CLAIMED` made."""
    return Claimed(
        id=row.id,
        token=row.token,
        definition=row.definition,
        recipient=row.recipient,
        channel=row.channel,
        attempts=row.attempts,
        expires_at=row.expires_at,
        news=news_of(row),
        address=None
        if row.sealed is None
        else Sealed(row.audience, row.person, row.channel, row.origin, row.shown, row.sealed, row.key_id),
        zone=row.zone,
        failure=Failure(cause=row.cause, error=row.error) if row.cause else None,
    )
