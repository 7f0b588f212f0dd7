"""Deliveries in trouble: out of the flow, tried by a workflow of their own, delivered or dead in the end.

Each function is one transaction's part, and each change is guarded by the state that it comes from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import automation
from integrations.db.outbox_trouble import APPEND
from integrations.db.session import Executor
from integrations.db.trouble import ended_the_session, failure_of, is_the_items
from integrations.db.webhook_brake import release
from integrations.db.webhook_coalescing import supersede
from integrations.db.webhook_events import whose
from integrations.db.webhook_handlers import Handling
from integrations.db.webhook_notices import COLUMNS
from integrations.db.webhook_outcome import Outcome
from integrations.domain.automation import FailureMode
from integrations.domain.errors import RunbookError
from integrations.domain.ledger import Failure
from integrations.domain.webhook import Left, Reaction, WebhookStatus

_UNHEARD: Final = timedelta(seconds=30)
"""Its workflow is started right after the commit, and begins with an attempt. Later it was not started."""
_BETWEEN: Final = timedelta(minutes=10)
"""Longer than any wait between two attempts: a `retrying` one that nobody spoke of for so long lost its workflow."""
_LOCKED: Final = text(f"""
SELECT {COLUMNS} FROM service_webhook_deliveries WHERE id = ANY(:ids) AND status = :status
ORDER BY position FOR NO KEY UPDATE
""")  # noqa: S608 - ours
_ENTRY: Final = "jsonb_build_object('at', now(), 'attempt', cast(:attempt AS int), 'error', cast(:error AS text))"
_FAILED: Final = text(f"""
UPDATE service_webhook_deliveries SET status = 'retrying', attempts = cast(:attempt AS smallint), cause = :cause,
  fingerprint = :fingerprint, error = cast(:error AS text), failed_at = now(),
  lease_until = now() + cast(:lease AS interval), waits = NULL, history = {APPEND}{_ENTRY}
WHERE id = :id AND status = :before AND woken = :woken RETURNING id
""")  # noqa: S608 - ours
_TENANT: Final = text("SELECT scope_type || ':' || scope_id FROM service_connections WHERE id = :id")
_SETTLE: Final = text("""
UPDATE service_webhook_deliveries AS item SET status = 'delivered', settled_at = now(), lease_until = NULL,
  waits = NULL, handled_as = told.handled_as, attempts = coalesce(cast(:attempt AS smallint), item.attempts)
FROM unnest(cast(:ids AS uuid[]), cast(:words AS text[])) AS told (id, handled_as)
WHERE item.id = told.id AND item.status = :before
""")
_PUT_OFF: Final = text("""
UPDATE service_webhook_deliveries AS item SET status = 'pending', due_at = now() + interval '1 minute',
  lease_until = NULL, waits = told.waits
FROM unnest(cast(:ids AS uuid[]), cast(:whys AS text[])) AS told (id, waits)
WHERE item.id = told.id AND item.status = :before
""")
_BURY: Final = text("""
UPDATE service_webhook_deliveries SET status = 'dead', settled_at = now(), lease_until = NULL,
  attempts = greatest(attempts, cast(:tried AS smallint))
WHERE id = :id AND status = 'retrying' AND woken = :woken RETURNING cause, attempts
""")


def failure_in(error: Exception, *, alone: bool = False) -> Failure | None:
    """What an error of a handler says of its delivery. None: it says only that the database is in trouble.

    Whatever a handler raises is its delivery's: a mistake in it must not keep all others from being handled. The text
    is kept of our own errors only, which hold no value that somebody sent. `alone`: a session that ended was ended by
    this delivery.
    """
    if isinstance(error, DBAPIError):
        return failure_of(error) if is_the_items(error) or (alone and ended_the_session(error)) else None
    if isinstance(error, OSError):
        return None
    kind = type(error).__name__.removesuffix("Error")
    return Failure.of(kind, str(error) if isinstance(error, RunbookError) else kind)


async def locked(run: Executor, ids: Sequence[UUID], status: WebhookStatus) -> Sequence[Row[Any]]:
    """Those of the deliveries that still have this status, locked until the transaction ends."""
    return (await run.execute(_LOCKED, {"ids": list(ids), "status": status})).all()


async def settle(
    run: Executor, outcomes: Mapping[UUID, Outcome], before: WebhookStatus, attempt: int | None = None
) -> None:
    """Settle what was handled, in the transaction that did it, and put off what may not be done now, with why."""
    done = {id_: outcome.handled_as for id_, outcome in outcomes.items() if not outcome.waits}
    waits = {id_: outcome.waits for id_, outcome in outcomes.items() if outcome.waits}
    if done:
        told = {"ids": list(done), "words": list(done.values()), "before": before, "attempt": attempt}
        await run.execute(_SETTLE, told)
    if waits:
        await run.execute(_PUT_OFF, {"ids": list(waits), "whys": list(waits.values()), "before": before})


async def leave_flow(run: Executor, row: Row[Any], reaction: Reaction, failure: Failure) -> Left | None:
    """Make a delivery `retrying`. None when it is not pending any more."""
    told = _told(row.id, failure, 1, _UNHEARD) | {"before": WebhookStatus.PENDING, "woken": row.woken}
    if (await run.execute(_FAILED, told)).one_or_none() is None:
        return None
    return await left_of(run, row, reaction, failure.cause)


async def left_of(run: Executor, row: Row[Any], reaction: Reaction, cause: str) -> Left:
    """A delivery as its workflow knows it. Of several connections none is named."""
    connections = (await whose(run, [row]))[row.id]
    connection_id = connections[0] if len(connections) == 1 else None
    tenant = (await run.execute(_TENANT, {"id": connection_id})).scalar() if connection_id else None
    return Left(
        id=row.id,
        provider_id=row.provider_id,
        channel=row.channel,
        event=row.event,
        handler=reaction,
        tenant=tenant or "",
        connection_id=connection_id,
        cause=cause,
        woken=row.woken,
    )


async def deliver(
    session: AsyncSession, delivery_id: UUID, handling: Handling, attempt: int, woken: int = 0
) -> Outcome | None:
    """Handle a `retrying` delivery once more, and let what waited for it go on. None when it was settled before.

    While the platform may not act by itself it goes back to the flow, which waits for that. `woken`: how often it had
    been sent again when its workflow began; since then it has been another one's. Raises whatever the handler raises.
    """
    found = await locked(session, [delivery_id], WebhookStatus.RETRYING)
    if not found or found[0].woken != woken:
        return None
    if await supersede(session, found):
        await release(session, delivery_id)
        return None
    held = await automation.why_not(session, FailureMode.WEBHOOK)
    outcomes = {delivery_id: Outcome("", waits=held)} if held else await handling.react(session, found, replayed=False)
    await settle(session, outcomes, WebhookStatus.RETRYING, attempt)
    await release(session, delivery_id)
    return outcomes[delivery_id]


async def attempt_failed(run: Executor, delivery_id: UUID, failure: Failure, attempt: int, woken: int = 0) -> None:
    """Write down one more failed attempt, and that somebody is at it. Nothing when it is another workflow's by now."""
    told = _told(delivery_id, failure, attempt, _BETWEEN) | {"before": WebhookStatus.RETRYING, "woken": woken}
    await run.execute(_FAILED, told)


@dataclass(frozen=True)
class Buried:
    cause: str
    attempts: int


async def bury(run: Executor, delivery_id: UUID, tried: int, woken: int = 0) -> Buried | None:
    """Give a `retrying` delivery up, and let what waited for it go on. None when it was settled before.

    Nor when it was sent again since its workflow began, and failed again in the flow: that had one attempt so far.
    `tried`: how often, which the row does not know of attempts that ended the process.
    """
    row = (await run.execute(_BURY, {"id": delivery_id, "tried": tried, "woken": woken})).one_or_none()
    if row is None:
        return None
    await release(run, delivery_id)
    return Buried(row.cause, row.attempts)


def _told(delivery_id: UUID, failure: Failure, attempt: int, lease: timedelta) -> dict[str, object]:
    return {
        "id": delivery_id,
        "attempt": attempt,
        "cause": failure.cause,
        "fingerprint": failure.fingerprint,
        "error": failure.error,
        "lease": lease,
    }
