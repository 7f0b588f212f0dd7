"""From events to people: requests become dispatches, each once, whoever expands them.

Any channel's dispatcher does it; a request that another one has in hand is skipped. One transaction: the request is
settled together with the dispatches that it became.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from integrations.db import contact_addresses
from integrations.db.dedicated import transaction
from integrations.db.notification_tables import NotificationDispatch
from integrations.db.session import Executor
from integrations.domain.notification import Definition, News, Recipient, dispatch_id, part_of
from integrations.domain.notification_addressing import Addressed, Unreached, addressed, audience_of
from integrations.domain.quiet_hours import QuietHours

NEWS: Final = (
    "event.event_id, event.name, event.occurred_at, event.provider_id, event.scope_type, event.scope_id, "
    "event.connection_id, event.payload, event.order_key, event.seq"
)
"""The columns of the outbox that make up `domain.notification.News`."""
# Whom it is told to does not hang on what it says, which may be large.
_ENVELOPE: Final = NEWS.replace("event.payload", "jsonb_build_object() AS payload")
_CLAIM: Final = f"""
SELECT cast(request.ctid AS text) AS place, {_ENVELOPE}
FROM service_notification_requests AS request CROSS JOIN LATERAL (
  SELECT * FROM service_lifecycle_outbox AS event WHERE event.event_id = request.event_id LIMIT 1
) AS event
WHERE request.status = 'pending' ORDER BY request.id LIMIT {{limit}} FOR UPDATE OF request SKIP LOCKED
"""  # noqa: S608 - ours
_SETTLE: Final = text("""
UPDATE service_notification_requests SET status = 'expanded' WHERE ctid = ANY(cast(cast(:places AS text[]) AS tid[]))
""")


@dataclass(frozen=True, slots=True)
class Rules:
    """What says whom an event is told to: definitions, and which channels can send."""

    about: Callable[[str], Iterable[Definition]]
    unready: Callable[[], Mapping[str, str]]
    """Channels that cannot send, with what they lack."""
    quiet: QuietHours
    """Of owners of whom nothing is known."""


async def expand(connection: AsyncConnection, rules: Rules, limit: int) -> int:
    """Expand the oldest requests. How many those were."""
    async with transaction(connection):
        rows = (await connection.execute(text(_CLAIM.format(limit=limit)))).all()
        if not rows:
            return 0
        told = [news_of(row) for row in rows]
        await put(connection, await planned(connection, rules, told))
        await connection.execute(_SETTLE, {"places": [row.place for row in rows]})
    return len(rows)


async def planned(run: Executor, rules: Rules, told: Iterable[News]) -> list[tuple[News, list[Addressed | Unreached]]]:
    """What would become of events, by what is known now. Writes nothing."""
    return await _addressed(run, rules, [(news, each) for news in told for each in rules.about(news.name)])


async def addressed_now(run: Executor, rules: Rules, news: News, definition: Definition) -> list[Addressed | Unreached]:
    """The same for one definition, whatever it is about."""
    ((_, found),) = await _addressed(run, rules, [(news, definition)])
    return found


async def _addressed(
    run: Executor, rules: Rules, wanted: Sequence[tuple[News, Definition]]
) -> list[tuple[News, list[Addressed | Unreached]]]:
    audiences = {audience_of(definition, news) for news, definition in wanted}
    people: Mapping[str, Sequence[Recipient]] = (
        await contact_addresses.of(run, audiences, quiet=rules.quiet) if audiences else {}
    )
    moment, unready = await now(run), rules.unready()
    return [
        (news, addressed(definition, news, people.get(audience_of(definition, news), []), unready, moment))
        for news, definition in wanted
    ]


async def put(run: Executor, found: Iterable[tuple[News, list[Addressed | Unreached]]]) -> int:
    """Write dispatches down. Those that are there already stay as they are. How many are new."""
    rows = [_row(news, each) for news, many in found for each in many]
    if not rows:
        return 0
    added = await run.execute(
        insert(NotificationDispatch).on_conflict_do_nothing().returning(NotificationDispatch.id), rows
    )
    return len(added.all())


async def now(run: Executor) -> datetime:
    """The database's clock, which dispatches are due by."""
    found: datetime = (await run.execute(_NOW)).scalar_one()
    return found


def news_of(row: Any) -> News:
    """Of a row that has the columns of `NEWS`."""
    return News(
        event_id=row.event_id,
        name=row.name,
        occurred_at=row.occurred_at,
        provider_id=row.provider_id,
        scope_type=row.scope_type,
        scope_id=row.scope_id,
        connection_id=row.connection_id,
        payload=row.payload,
        order_key=row.order_key,
        seq=row.seq,
    )


def _row(news: News, each: Addressed | Unreached) -> dict[str, Any]:
    channel = each.channel if isinstance(each, Addressed) else ""
    row: dict[str, Any] = {
        "id": dispatch_id(news.event_id, each.definition.id, each.recipient, channel),
        "event_id": news.event_id,
        "definition": each.definition.id,
        "recipient": each.recipient,
        "channel": channel,
        "part": part_of(channel),
        "expires_at": each.expires_at,
        "status": "pending",
        "address_id": None,
        "due_at": None,
        "cause": None,
        "fingerprint": None,
        "error": None,
        "failed_at": None,
    }
    if isinstance(each, Addressed):
        return row | {"address_id": each.address_id, "due_at": each.due_at}
    return row | {
        "status": "nobody",
        "due_at": each.expires_at,
        "cause": each.failure.cause,
        "fingerprint": each.failure.fingerprint,
        "error": each.failure.error,
    }


_NOW: Final = text("SELECT now()")
