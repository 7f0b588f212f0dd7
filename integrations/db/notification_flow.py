"""The flow of one channel's dispatches: claimed with a lease, sent by somebody else, settled by whoever has the token.

pending ──claim──▶ processing ──settle──▶ delivered | retrying | dead | dropped | held | pending (given back)
                      └──lease over──▶ pending: its process is gone, and whether it was sent is not known

The claim is committed before anything is sent; what is sent again carries the same idempotency key. Each function is
one transaction, each settle is guarded by the token that its claim wrote.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from integrations.db.notification_expand import NEWS, news_of
from integrations.db.session import Executor
from integrations.domain.ledger import Failure
from integrations.domain.notification import News

LEASE: Final = timedelta(seconds=60)
"""Longer than a message waits behind others and is sent: whoever has less of it left gives the message back."""
UNHEARD: Final = timedelta(seconds=30)
"""Its workflow is started right after the commit, and begins with an attempt. Later it was not started."""
_HISTORY: Final = 20
_RELEASED: Final = 5000
"""Held dispatches that go back to the flow in one statement."""

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
_LOOK: Final = text("""
SELECT
  EXISTS (SELECT FROM service_notification_requests WHERE status = 'pending') AS requests,
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
_SENT: Final = text("""
WITH sent AS (
  UPDATE service_notification_dispatches AS item SET status = 'delivered', attempts = item.attempts + 1,
    settled_at = now(), token = NULL, lease_until = NULL, plan_id = NULL, version = told.version
  FROM unnest(cast(:ids AS uuid[]), cast(:tokens AS uuid[]), cast(:versions AS text[])) AS told (id, token, version)
  WHERE item.id = told.id AND item.token = told.token RETURNING item.id
), mark AS (
  INSERT INTO service_ledger_watermarks AS mark (ledger, part, destination, position, items, at)
  SELECT 'notifications', cast(:part AS smallint), :channel, 0, count(*), now() FROM sent HAVING count(*) > 0
  ON CONFLICT (ledger, part, destination) DO UPDATE SET items = mark.items + excluded.items, at = excluded.at
)
SELECT count(*) FROM sent
""")
_OTHERWISE: Final = text(f"""
UPDATE service_notification_dispatches AS item SET status = told.status,
  attempts = item.attempts + told.tried, token = NULL, plan_id = NULL,
  lease_until = CASE WHEN told.status = 'retrying' THEN now() + told.lease * interval '1 second' END,
  cause = told.cause, fingerprint = told.fingerprint, error = told.error,
  failed_at = CASE WHEN told.tried > 0 THEN now() ELSE item.failed_at END,
  rendered = coalesce(told.rendered, item.rendered), version = coalesce(told.version, item.version),
  settled_at = CASE WHEN told.status IN ('dead', 'dropped', 'nobody') THEN now() END,
  history = CASE WHEN told.tried = 0 THEN item.history ELSE
    (CASE WHEN jsonb_array_length(item.history) >= {_HISTORY} THEN item.history - 0
      ELSE coalesce(item.history, '[]') END)
    || jsonb_strip_nulls(jsonb_build_object('at', now(), 'attempt', item.attempts + 1, 'by', cast(:by AS text),
      'error', told.error)) END
FROM jsonb_to_recordset(cast(:told AS jsonb)) AS told (id uuid, token uuid, status text, tried smallint, cause text,
  fingerprint text, error text, rendered jsonb, version text, lease double precision)
WHERE item.id = told.id AND item.token = told.token RETURNING item.id
""").bindparams(bindparam("told", type_=JSONB))  # noqa: S608 - ours
_AS_BEFORE: Final = """
status = CASE WHEN plan_id IS NULL THEN 'pending' WHEN channel = '' THEN 'nobody' ELSE 'dead' END,
  token = NULL, lease_until = NULL, plan_id = NULL
"""
"""What is in hand becomes what it was before it was taken: by the flow, or by a replay."""
_GIVE_BACK: Final = text(f"""
UPDATE service_notification_dispatches AS item SET {_AS_BEFORE}
FROM unnest(cast(:ids AS uuid[]), cast(:tokens AS uuid[])) AS told (id, token)
WHERE item.id = told.id AND item.token = told.token AND item.status = 'processing'
""")  # noqa: S608 - ours
_HOLD: Final = text("""
UPDATE service_notification_dispatches AS item SET status = 'held', token = NULL, lease_until = NULL
FROM unnest(cast(:ids AS uuid[]), cast(:tokens AS uuid[])) AS told (id, token)
WHERE item.id = told.id AND item.token = told.token AND item.status = 'processing'
""")
_LOST: Final = text(f"""
UPDATE service_notification_dispatches SET {_AS_BEFORE}
WHERE status = 'processing' AND lease_until < now() AND part = cast(:part AS smallint) RETURNING id
""")  # noqa: S608 - ours
_BRAKE: Final = text("""
INSERT INTO service_ledger_holds (ledger, part, destination, order_key, item_id)
VALUES ('notifications', :part, :channel, :origin, :item_id)
ON CONFLICT (ledger, part, destination, order_key) DO UPDATE SET
  item_id = excluded.item_id, since = now(), released_at = NULL
WHERE service_ledger_holds.released_at IS NOT NULL
RETURNING order_key
""")
_LET_GO: Final = text("""
UPDATE service_ledger_holds SET released_at = now() WHERE ledger = 'notifications' AND released_at IS NULL
  AND (item_id = :item_id OR (:arrived AND destination = :channel AND order_key = :origin))
""")
_CHANNELS: Final = text("""
SELECT channel FROM service_notification_dispatches
WHERE event_id = :event_id AND definition = :definition AND recipient = :recipient
""")
_HELD: Final = text("""
SELECT order_key AS origin, released_at IS NOT NULL AS released FROM service_ledger_holds
WHERE ledger = 'notifications' AND part = :part
""")
_RELEASE: Final = text(f"""
WITH held AS (
  SELECT item.ctid AS place FROM service_notification_dispatches AS item
  LEFT JOIN service_contact_addresses AS address ON address.id = item.address_id
  WHERE item.status = 'held' AND item.part = cast(:part AS smallint) AND NOT EXISTS (
    -- An address may have been replaced since, or removed: where it leads by now is what counts.
    SELECT FROM service_ledger_holds AS hold WHERE hold.ledger = 'notifications' AND hold.part = item.part
      AND hold.order_key = address.origin AND hold.released_at IS NULL)
  LIMIT {_RELEASED}
)
UPDATE service_notification_dispatches SET status = 'pending' WHERE ctid = ANY(ARRAY(SELECT place FROM held))
RETURNING id
""")  # noqa: S608 - ours
_END_HOLD: Final = text("""
DELETE FROM service_ledger_holds WHERE ledger = 'notifications' AND part = :part AND order_key = :origin
  AND released_at IS NOT NULL
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
class Settled:
    """What became of a claimed dispatch that was not simply sent."""

    item: Claimed
    status: str
    failure: Failure
    tried: bool
    """It was tried, and that failed: an attempt is used up."""
    rendered: dict[str, Any] | None = None
    version: str | None = None
    lease: timedelta = UNHEARD
    """Of what is `retrying`: then nobody has been at it for too long."""


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


async def seen(run: Executor, ids: Sequence[UUID]) -> list[Claimed]:
    """As a claim would find them. Nobody has them in hand for that."""
    return [claimed_of(row) for row in await run.execute(_OF_IDS, {"ids": list(ids)})]


async def next_due(connection: AsyncConnection, part: int) -> UUID | None:
    """What a claim of one would take."""
    return (await connection.execute(_DUE, {"part": part})).scalar()


async def sent(run: Executor, part: int, channel: str, items: Sequence[tuple[Claimed, str]]) -> int:
    """Settle what was sent, each with the version of its templates. How many of them were still in hand."""
    if not items:
        return 0
    told = {
        "part": part,
        "channel": channel,
        "ids": [item.id for item, _ in items],
        "tokens": [item.token for item, _ in items],
        "versions": [version for _, version in items],
    }
    return int((await run.execute(_SENT, told)).scalar_one())


async def settle(run: Executor, items: Sequence[Settled], *, by: str) -> set[UUID]:
    """Settle what was not sent. Which of them were still in hand. `by` stands in their history."""
    if not items:
        return set()
    rows = [
        {
            "id": str(each.item.id),
            "token": str(each.item.token),
            "status": each.status,
            "tried": int(each.tried),
            "cause": each.failure.cause,
            "fingerprint": each.failure.fingerprint,
            "error": each.failure.error,
            "rendered": each.rendered,
            "version": each.version,
            "lease": each.lease.total_seconds(),
        }
        for each in items
    ]
    return set((await run.execute(_OTHERWISE, {"told": rows, "by": by})).scalars())


async def give_back(run: Executor, items: Collection[Claimed]) -> None:
    """Put down what was not begun: somebody takes it up, and no attempt is used up."""
    await _each(run, _GIVE_BACK, items)


async def hold(run: Executor, items: Collection[Claimed]) -> None:
    """Put aside what goes to where nothing arrives at the moment."""
    await _each(run, _HOLD, items)


async def channels_of(run: Executor, item: Claimed) -> Sequence[str]:
    """By which channels this has been sent, or tried, to this recipient."""
    told = {"event_id": item.news.event_id, "definition": item.definition, "recipient": item.recipient}
    return (await run.execute(_CHANNELS, told)).scalars().all()


async def let_go(run: Executor, item: Claimed, *, arrived: bool) -> None:
    """A dispatch is settled that others may have been held for: they go on. `arrived`: where it goes to is back."""
    told = {"item_id": item.id, "channel": item.channel, "origin": item.origin, "arrived": arrived}
    await run.execute(_LET_GO, told)


async def recover(connection: AsyncConnection, part: int) -> int:
    """Take up what a process took with it. How many those were. They may have been sent: the receiver knows the key."""
    return len((await connection.execute(_LOST, {"part": part})).all())


async def brake(run: Executor, item: Claimed, part: int) -> bool:
    """Where an item goes to is out as a whole, and that item tries for all. False: another one does already."""
    told = {"part": part, "channel": item.channel, "origin": item.origin, "item_id": item.id}
    return (await run.execute(_BRAKE, told)).one_or_none() is not None


@dataclass(frozen=True, slots=True)
class Holds:
    out: frozenset[str]
    """Origins that nothing is sent to."""
    released: frozenset[str]
    """Those that may be tried again by all."""


async def holds(connection: AsyncConnection, part: int) -> Holds:
    rows = (await connection.execute(_HELD, {"part": part})).all()
    return Holds(
        frozenset(row.origin for row in rows if not row.released), frozenset(row.origin for row in rows if row.released)
    )


async def go_on(connection: AsyncConnection, part: int, origin: str) -> int:
    """Let what was held for an origin into the flow again, and end the hold with the last. How many those were."""
    count = len((await connection.execute(_RELEASE, {"part": part})).all())
    if count < _RELEASED:
        await connection.execute(_END_HOLD, {"part": part, "origin": origin})
    return count


async def _each(run: Executor, statement: Any, items: Collection[Claimed]) -> None:
    if items:
        await run.execute(statement, {"ids": [item.id for item in items], "tokens": [item.token for item in items]})


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
