"""The flow of one channel's dispatches: claimed with a lease, sent by somebody else, settled by whoever has the token.

pending ──claim──▶ processing ──settle──▶ delivered | retrying | dead | dropped | held | pending (given back)
                      └──lease over──▶ pending: its process is gone, and whether it was sent is not known

The claim is committed before anything is sent; what is sent again carries the same idempotency key. Each function is
one transaction, each settle is guarded by the token that its claim wrote.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from integrations.db.notification_claims import Claimed
from integrations.db.session import Executor
from integrations.domain.ledger import Failure

UNHEARD: Final = timedelta(seconds=30)
"""Its workflow is started right after the commit, and begins with an attempt. Later it was not started."""
_HISTORY: Final = 20
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
_LOST: Final = text(f"""
UPDATE service_notification_dispatches SET {_AS_BEFORE}
WHERE status = 'processing' AND lease_until < now() AND part = cast(:part AS smallint) RETURNING id
""")  # noqa: S608 - ours
_CHANNELS: Final = text("""
SELECT channel FROM service_notification_dispatches
WHERE event_id = :event_id AND definition = :definition AND recipient = :recipient
""")


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
    if items:
        await run.execute(_GIVE_BACK, {"ids": [item.id for item in items], "tokens": [item.token for item in items]})


async def channels_of(run: Executor, item: Claimed) -> Sequence[str]:
    """By which channels this has been sent, or tried, to this recipient."""
    told = {"event_id": item.news.event_id, "definition": item.definition, "recipient": item.recipient}
    return (await run.execute(_CHANNELS, told)).scalars().all()


async def recover(connection: AsyncConnection, part: int) -> int:
    """Take up what a process took with it. How many those were. They may have been sent: the receiver knows the key."""
    return len((await connection.execute(_LOST, {"part": part})).all())
