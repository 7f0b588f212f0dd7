"""Outbox events in trouble: out of the flow, tried by a workflow of their own, delivered or dead in the end.

Each function is one transaction's part, and each change is guarded by the state that it comes from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import text

from integrations.db.projectors import DUE, Projector
from integrations.db.session import Executor
from integrations.domain.ledger import PARTITIONS, WHOLE, Failure
from integrations.domain.outbox import Pair

_UNHEARD: Final = timedelta(seconds=30)
"""Its workflow is started right after the commit, and begins with an attempt. Later it was not started."""
_BETWEEN: Final = timedelta(minutes=10)
"""Longer than any wait between two attempts: a `retrying` item that nobody spoke of for so long lost its workflow."""
APPEND: Final = "(CASE WHEN jsonb_array_length(history) >= 20 THEN history - 0 ELSE coalesce(history, '[]') END) || "
"""In front of an attempt: an item's history holds the last twenty."""

_ENTRY: Final = "jsonb_build_object('at', now(), 'attempt', cast(:attempt AS int), 'error', cast(:error AS text))"
_LEAVE: Final = text(f"""
WITH event AS (
  SELECT event_id, id, part, order_key, name, provider_id, scope_type || ':' || scope_id AS tenant, connection_id
  FROM service_lifecycle_outbox WHERE event_id = :event_id
), item AS (
  INSERT INTO service_projector_ledger (event_id, projector, position, status, part, order_key, attempts, cause,
    fingerprint, error, failed_at, lease_until, history)
  SELECT event_id, :projector, id, 'retrying', part, order_key, cast(:attempt AS smallint), :cause, :fingerprint,
    cast(:error AS text), now(), now() + cast(:lease AS interval), jsonb_build_array({_ENTRY}) FROM event
  ON CONFLICT (event_id, projector) DO UPDATE SET
    status = 'retrying', attempts = excluded.attempts, cause = excluded.cause, fingerprint = excluded.fingerprint,
    error = excluded.error, failed_at = excluded.failed_at, lease_until = excluded.lease_until,
    history = excluded.history
  WHERE service_projector_ledger.status = 'held'
  RETURNING event_id
), hold AS (
  INSERT INTO service_ledger_holds (ledger, part, destination, order_key, item_id)
  SELECT 'outbox', part, :projector, order_key, event_id FROM event JOIN item USING (event_id)
  ON CONFLICT (ledger, part, destination, order_key) DO UPDATE SET
    item_id = excluded.item_id, since = now(), released_at = NULL
)
SELECT event.event_id, name, provider_id, tenant, connection_id FROM event JOIN item USING (event_id)
""")  # noqa: S608 - ours
_STAY: Final = text("""
INSERT INTO service_projector_ledger (event_id, projector, position, status, part, order_key)
SELECT event_id, :projector, id, 'held', part, order_key FROM service_lifecycle_outbox AS event
WHERE event_id = :event_id AND EXISTS (SELECT FROM service_ledger_holds AS hold WHERE hold.ledger = 'outbox'
  AND hold.part = event.part AND hold.destination = :projector AND hold.order_key IN (event.order_key, '*'))
ON CONFLICT DO NOTHING RETURNING event_id
""")
_WAITS: Final = text("""
SELECT EXISTS (SELECT FROM service_projector_ledger AS item
  WHERE event_id = :event_id AND projector = :projector AND status = 'held' AND (
    EXISTS (SELECT FROM service_ledger_holds AS hold WHERE hold.ledger = 'outbox' AND hold.part = item.part
      AND hold.destination = item.projector AND hold.order_key IN (item.order_key, '*') AND hold.released_at IS NULL)
    OR EXISTS (SELECT FROM service_projector_ledger AS earlier WHERE earlier.status = 'held'
      AND earlier.projector = item.projector AND earlier.part = item.part AND earlier.order_key = item.order_key
      AND earlier.position < item.position)))
""")
_BRAKE: Final = text("""
INSERT INTO service_ledger_holds (ledger, part, destination, order_key, item_id)
SELECT 'outbox', part, :projector, :whole, :event_id FROM generate_series(0, :last) AS part
ON CONFLICT (ledger, part, destination, order_key) DO UPDATE SET
  item_id = excluded.item_id, since = now(), released_at = NULL
WHERE service_ledger_holds.released_at IS NOT NULL
""")
_SETTLE: Final = text("""
UPDATE service_lifecycle_outbox AS event SET status = coalesce((
  SELECT CASE WHEN bool_or(status = 'dead') THEN 'dead' WHEN bool_or(status = 'retrying') THEN 'retrying'
    WHEN bool_or(status = 'held') THEN 'held' WHEN count(*) > 0 THEN 'delivered' END
  FROM service_projector_ledger AS item WHERE item.event_id = event.event_id), status)
WHERE event_id = ANY(:ids)
""")
_LOCK: Final = text(
    "SELECT FROM service_lifecycle_outbox WHERE event_id = ANY(:ids) ORDER BY event_id FOR NO KEY UPDATE"
)
_RELEASE: Final = text("""
UPDATE service_ledger_holds SET released_at = now()
WHERE ledger = 'outbox' AND item_id = :event_id AND destination = :projector AND released_at IS NULL
""")
_DELIVER: Final = """
WITH item AS (
  UPDATE service_projector_ledger SET status = 'delivered', settled_at = now(), lease_until = NULL,
    attempts = cast(:attempt AS smallint)
  WHERE event_id = :event_id AND projector = :projector AND status = 'retrying' RETURNING event_id
), due AS MATERIALIZED (
  SELECT {due}, false AS out_of_order FROM service_lifecycle_outbox JOIN item USING (event_id)
), projected AS (
  {insert}
)
SELECT count(*) FROM due
"""
_FAILED: Final = text(f"""
UPDATE service_projector_ledger SET attempts = cast(:attempt AS smallint), cause = :cause, fingerprint = :fingerprint,
  error = cast(:error AS text), failed_at = now(), lease_until = now() + cast(:lease AS interval),
  history = {APPEND}{_ENTRY}
WHERE event_id = :event_id AND projector = :projector AND status = 'retrying'
""")  # noqa: S608 - ours
_BURY: Final = text("""
UPDATE service_projector_ledger SET status = 'dead', settled_at = now(), lease_until = NULL,
  attempts = greatest(attempts, cast(:tried AS smallint))
WHERE event_id = :event_id AND projector = :projector AND status = 'retrying'
RETURNING cause, attempts
""")


async def leave_flow(run: Executor, event_id: UUID, projector: str, failure: Failure) -> Pair | None:
    """Make the pair `retrying` and hold back what comes after it. None when it is settled already."""
    told = _told(event_id, projector, failure, 1, _UNHEARD)
    row = (await run.execute(_LEAVE, told)).one_or_none()
    return None if row is None else Pair(projector=projector, cause=failure.cause, **row._asdict())


async def stay_behind(run: Executor, event_id: UUID, projector: str) -> bool:
    """Make what the flow has not taken yet `held` where its order key is held back. Whether it waits now.

    So does what was held before, unless it is its turn.
    """
    named = {"event_id": event_id, "projector": projector}
    if (await run.execute(_STAY, named)).one_or_none() is not None:
        return True
    return bool((await run.execute(_WAITS, named)).scalar_one())


async def brake(run: Executor, projector: str, event_id: UUID) -> None:
    """The projector fails as a whole: everything for it waits, in every partition, while this one event is tried."""
    await run.execute(_BRAKE, {"projector": projector, "whole": WHOLE, "event_id": event_id, "last": PARTITIONS - 1})


async def settle_events(run: Executor, ids: Sequence[UUID]) -> None:
    """Give events the worst state of their projections. The transaction must have changed those before.

    Locked by a statement of its own: the one that looks at the projections then sees those that somebody else, who
    had the lock until now, has changed.
    """
    if ids:
        await run.execute(_LOCK, {"ids": list(ids)})
        await run.execute(_SETTLE, {"ids": list(ids)})


async def deliver(run: Executor, event_id: UUID, name: str, projector: Projector, attempt: int) -> bool:
    """Project a `retrying` pair, and let what waited for it go on. False when it was settled before."""
    sql = text(_DELIVER.format(due=DUE, insert=projector("due")))
    delivered = (await run.execute(sql, {"event_id": event_id, "projector": name, "attempt": attempt})).scalar_one()
    if delivered:
        await _leave_trouble(run, event_id, name)
    return bool(delivered)


async def attempt_failed(run: Executor, event_id: UUID, projector: str, failure: Failure, attempt: int) -> None:
    """Write down one more failed attempt, and that somebody is at it."""
    await run.execute(_FAILED, _told(event_id, projector, failure, attempt, _BETWEEN))


@dataclass(frozen=True)
class Buried:
    cause: str
    attempts: int


async def bury(run: Executor, event_id: UUID, projector: str, tried: int = 1) -> Buried | None:
    """Give a `retrying` pair up, and let what waited for it go on. None when it was settled before.

    `tried`: how often, which the row does not know of attempts that ended the process.
    """
    given_up = {"event_id": event_id, "projector": projector, "tried": tried}
    row = (await run.execute(_BURY, given_up)).one_or_none()
    if row is None:
        return None
    await _leave_trouble(run, event_id, projector)
    return Buried(row.cause, row.attempts)


async def _leave_trouble(run: Executor, event_id: UUID, projector: str) -> None:
    await settle_events(run, [event_id])
    await run.execute(_RELEASE, {"event_id": event_id, "projector": projector})


def _told(event_id: UUID, projector: str, failure: Failure, attempt: int, lease: timedelta) -> dict[str, object]:
    return {
        "event_id": event_id,
        "projector": projector,
        "attempt": attempt,
        "cause": failure.cause,
        "fingerprint": failure.fingerprint,
        "error": failure.error,
        "lease": lease,
    }
