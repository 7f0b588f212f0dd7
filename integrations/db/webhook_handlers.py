"""What is done about a verified delivery, by its reaction: each within the transaction that settles it.

A handler only writes here. What has to leave the database is a row that somebody else takes up: a lifecycle event, a
detection that opens a lifecycle, a credential that is due.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, func, update
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import automation, connections, credentials, ending
from integrations.db.refresh import REFRESHABLE
from integrations.db.session import Executor
from integrations.db.tables import Connection, Credential
from integrations.db.webhook_events import MISSED, REAUTHORIZE, RECEIVED, tell, whose
from integrations.domain.automation import FailureMode, Step
from integrations.domain.connection import Status
from integrations.domain.errors import RunbookError
from integrations.domain.reauth import Detected
from integrations.domain.webhook import SELF_TEST_HEADER, Reaction, Reactions
from integrations.domain.webhook_selftest import is_marked

ACTOR: Final = "webhook"
_CLOCKS: Final = timedelta(seconds=5)
"""Providers sign whole seconds, by clocks of their own: what came so soon after a notice was there before it."""
COLUMNS: Final = (
    "id, position, provider_id, channel, delivery_id, event, resource, account, received_at, sent_at, due_at, "
    f"headers ->> '{SELF_TEST_HEADER}' AS mark"
)
"""What a handler is shown of a delivery's row."""
TOGETHER: Final = frozenset({Reaction.EVENT, Reaction.MISSED, Reaction.SELF_TEST})
"""Handled as a set. The others take the locks of connections one by one, and a transaction for each delivery."""


class WaitsError(RunbookError):
    """The platform may not do by itself now what a delivery asks for: it waits, and is no failure."""


@dataclass(frozen=True, slots=True)
class Outcome:
    handled_as: str
    detections: tuple[UUID, ...] = ()
    """To be announced once this is committed. Whoever does not leaves them to reconcile."""
    waits: str = ""
    """Why it may not be done now; then it is not settled."""


Handler = Callable[[AsyncSession, Sequence[Row[Any]], bool], Awaitable[dict[UUID, Outcome]]]
"""Of deliveries with one reaction, and whether they are replayed. Raises whatever keeps it from handling them."""
_About = Callable[[AsyncSession, Row[Any], Connection], Awaitable[Outcome]]


class Handling:
    """Which handler a delivery is for, by its provider's entry, and the handlers."""

    def __init__(
        self, reactions: Reactions, self_test_key: bytes, handlers: Mapping[Reaction, Handler] | None = None
    ) -> None:
        """`self_test_key`: what marks a delivery as our own."""
        self._reactions = reactions
        self._key = self_test_key
        self._handlers = {**HANDLERS, **(handlers or {})}

    def reaction(self, row: Row[Any]) -> Reaction:
        headers = {SELF_TEST_HEADER: row.mark}
        if row.mark and is_marked(self._key, row.provider_id, row.channel, row.delivery_id, headers):
            return Reaction.SELF_TEST
        return self._reactions.get(row.provider_id, {}).get(row.event, Reaction.EVENT)

    async def handle(self, run: Executor, row: Row[Any], /, *, replayed: bool) -> str:
        """Handle one delivery within the caller's transaction. What it is settled as.

        `row` has the columns of `COLUMNS`, and is locked by the caller. Raises WaitsError when the platform may not do
        that by itself now, and whatever the handler raises: it failed, and the transaction, or its savepoint, is to be
        undone.
        """
        outcome = (await self.react(run, [row], replayed=replayed))[row.id]
        if outcome.waits:
            raise WaitsError(outcome.waits)
        return outcome.handled_as

    async def react(self, run: Executor, rows: Sequence[Row[Any]], *, replayed: bool) -> dict[UUID, Outcome]:
        """The same for deliveries of one reaction."""
        handler = self._handlers[self.reaction(rows[0])]
        async with session_on(run) as session:
            outcomes = await handler(session, rows, replayed)
        return outcomes  # noqa: RET504 - only once the session is flushed


@asynccontextmanager
async def session_on(run: Executor) -> AsyncIterator[AsyncSession]:
    """A session that joins the transaction of a dispatcher's own connection, and leaves it to commit that."""
    if isinstance(run, AsyncSession):
        yield run
        await run.flush()
        return
    session = AsyncSession(bind=run, expire_on_commit=False, execution_options={"synchronize_session": False})
    try:
        yield session
        await session.flush()
    finally:
        await session.close()


def _telling(name: str) -> Handler:
    """A handler that makes a lifecycle event of each delivery."""

    async def handler(session: AsyncSession, rows: Sequence[Row[Any]], replayed: bool) -> dict[UUID, Outcome]:
        told = await tell(session, rows, name, replayed=replayed)
        return {id_: Outcome(words) for id_, words in told.items()}

    return handler


async def _reauthorize(session: AsyncSession, rows: Sequence[Row[Any]], replayed: bool) -> dict[UUID, Outcome]:
    """A fresh token is what keeps the provider sending; the host application may have to renew what it subscribed."""
    # First, for it takes the connections' locks: whoever stores a credential holds that one before the other.
    told = await _telling(REAUTHORIZE)(session, rows, replayed)
    for connection_ids in (await whose(session, rows)).values():
        for connection_id in connection_ids:
            await _refresh_now(session, connection_id)
    return told


async def _self_test(_session: AsyncSession, rows: Sequence[Row[Any]], _replayed: bool) -> dict[UUID, Outcome]:
    return {row.id: Outcome("self test") for row in rows}


def _about_each(reaction: Reaction, does: _About) -> Handler:
    """A handler that does something about each connection of a delivery, under that one's lock."""

    async def handler(session: AsyncSession, rows: Sequence[Row[Any]], _replayed: bool) -> dict[UUID, Outcome]:
        return {row.id: await about_each(session, row) for row in rows}

    async def about_each(session: AsyncSession, row: Row[Any]) -> Outcome:
        done = []
        for connection_id in (await whose(session, [row]))[row.id]:
            done.append(await does(session, row, await connections.lock(session, connection_id)))
            if done[-1].waits:
                return done[-1]
        words = Counter(outcome.handled_as for outcome in done) or {"no connection of its account": 0}
        return Outcome(
            f"{reaction}: " + ", ".join(f"{word} ({count})" if count > 1 else word for word, count in words.items()),
            tuple(found for outcome in done for found in outcome.detections),
        )

    return handler


async def _revoked(session: AsyncSession, row: Row[Any], connection: Connection) -> Outcome:
    if connection.status not in REFRESHABLE:
        return Outcome(f"{connection.status} already")
    active = await credentials.active(session, connection.id)
    if _is_newer(active, row):
        await _refresh_now(session, connection.id)
        return Outcome("stale: a newer credential is active, and refreshed to see")
    found = await connections.detect(
        session,
        connection.id,
        Detected.REVOKED,
        cause=_cause(row),
        actor=ACTOR,
        version=active.version if active else None,
        evidence={"delivery": str(row.id), "event": row.event},
    )
    return Outcome("detected", (found,))


async def _uninstalled(session: AsyncSession, row: Row[Any], connection: Connection) -> Outcome:
    if connection.status == Status.DISCONNECTED:
        return Outcome("disconnected already")
    if _is_newer(await credentials.active(session, connection.id), row):
        await _refresh_now(session, connection.id)
        return Outcome("stale: a newer credential is active, and refreshed to see")
    if not await automation.may(session, connection, FailureMode.REAUTH, Step.DISCONNECT, cause=_cause(row)):
        return Outcome("", waits=await automation.why_not(session, FailureMode.REAUTH, connection) or "held back")
    among = tuple(status for status in Status if status is not Status.DISCONNECTED)
    await ending.give_up(session, connection, among=among, reason=_cause(row), actor=ACTOR, ended="expired")
    return Outcome("disconnected")


def _is_newer(active: Credential | None, row: Row[Any]) -> bool:
    """Did the credential come after the notice? Then that speaks of an earlier consent: it came late, or once more."""
    noticed = (row.sent_at or row.received_at) + _CLOCKS
    return active is not None and active.activated_at is not None and active.activated_at > noticed


async def _refresh_now(session: AsyncSession, connection_id: UUID) -> None:
    """The next sweep refreshes it, which says more than any notice. Nothing where there is nothing to refresh with."""
    await session.execute(
        update(Credential)
        .where(
            Credential.connection_id == connection_id, Credential.state == "active", Credential.refresh_at.is_not(None)
        )
        .values(refresh_at=func.least(Credential.refresh_at, func.now()))
    )


def _cause(row: Row[Any]) -> str:
    return f"{row.provider_id} told so by a webhook: {row.event}"


HANDLERS: Final[Mapping[Reaction, Handler]] = {
    Reaction.EVENT: _telling(RECEIVED),
    Reaction.MISSED: _telling(MISSED),
    Reaction.REAUTHORIZE: _reauthorize,
    Reaction.SELF_TEST: _self_test,
    Reaction.REVOKED: _about_each(Reaction.REVOKED, _revoked),
    Reaction.UNINSTALLED: _about_each(Reaction.UNINSTALLED, _uninstalled),
}
"""What is registered for each reaction. Another one is a function, a line here, and a word in the catalog."""
