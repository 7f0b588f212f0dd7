"""What is done about a verified delivery, by its reaction: each within the transaction that settles it.

A handler only writes here. What has to leave the database is a row that somebody else takes up: a lifecycle event, a
detection that opens a lifecycle, a credential that is due.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.session import Executor
from integrations.db.surge_counts import Watched
from integrations.db.webhook_events import MISSED, REAUTHORIZE, RECEIVED, lock_owners, tell
from integrations.db.webhook_grants import about_each, refresh_now, revoked, uninstalled
from integrations.db.webhook_notices import notified
from integrations.db.webhook_outcome import Handler, Outcome
from integrations.domain.webhook import GRAVEST, SELF_TEST_HEADER, Reaction
from integrations.domain.webhook_selftest import is_marked

TOGETHER: Final = frozenset({Reaction.EVENT, Reaction.MISSED, Reaction.SELF_TEST})
"""Handled as a set. The others take the locks of connections one by one, and a transaction for each delivery."""


class Handling:
    """Which handler a delivery is for, and the handlers."""

    def __init__(
        self, watched: Mapping[str, Watched], self_test_key: bytes, handlers: Mapping[Reaction, Handler] | None = None
    ) -> None:
        """`watched`: how the refusals of each provider are counted. `self_test_key`: what marks a delivery as our own.

        `handlers`: in the place of ours.
        """
        self._watched = watched
        self._key = self_test_key
        self._handlers = {
            Reaction.EVENT: _telling(RECEIVED),
            Reaction.MISSED: _telling(MISSED),
            Reaction.REAUTHORIZE: _reauthorize,
            Reaction.SELF_TEST: _self_test,
            Reaction.REVOKED: about_each(Reaction.REVOKED, revoked, self._watched_at),
            Reaction.UNINSTALLED: about_each(Reaction.UNINSTALLED, uninstalled, self._watched_at),
            # Another one is a function, a line here, and a word in the catalog.
            **(handlers or {}),
        }

    def reaction(self, row: Row[Any]) -> Reaction:
        """The gravest of what it tells."""
        headers = {SELF_TEST_HEADER: row.mark}
        if row.mark and is_marked(self._key, row.provider_id, row.channel, row.delivery_id, headers):
            return Reaction.SELF_TEST
        return Reaction(row.reaction)

    async def handle(self, run: Executor, row: Row[Any], /, *, replayed: bool) -> Outcome:
        """Handle one delivery within the caller's transaction.

        `row` has the columns of `COLUMNS`, and is locked by the caller. What waits has written why, for operators.
        Raises whatever the handler raises: it failed, and the transaction, or its savepoint, is to be undone.
        """
        return (await self.react(run, [row], replayed=replayed))[row.id]

    async def react(self, run: Executor, rows: Sequence[Row[Any]], *, replayed: bool) -> dict[UUID, Outcome]:
        """The same for deliveries of one reaction. All that they tell is done, the gravest first."""
        by_reaction: dict[Reaction, list[Any]] = {}
        of: dict[UUID, UUID] = {}
        for row in rows:
            its = self.reaction(row)
            for notice in [row] if its is Reaction.SELF_TEST else notified(row):
                reaction = its if notice is row else notice.reaction
                by_reaction.setdefault(reaction, []).append(notice)
                of[notice.id] = row.id
        outcomes: dict[UUID, list[Outcome]] = {}
        async with session_on(run) as session:
            if len(by_reaction) > 1:
                await lock_owners(session, [notice for some in by_reaction.values() for notice in some])
            for reaction in sorted(by_reaction, key=GRAVEST.index):
                found = await self._handlers[reaction](session, by_reaction[reaction], replayed)
                for id_, outcome in found.items():
                    outcomes.setdefault(of[id_], []).append(outcome)
        return {id_: Outcome.of_all(found) for id_, found in outcomes.items()}

    def _watched_at(self, provider_id: str) -> Watched:
        # One that is in the catalog no more has its name for a name, and nothing to be repaired.
        return self._watched.get(provider_id) or Watched(provider_id, provider_id, "")


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

    async def handler(session: AsyncSession, rows: Sequence[Any], replayed: bool) -> dict[UUID, Outcome]:
        told = await tell(session, rows, name, replayed=replayed)
        return {id_: Outcome(words) for id_, words in told.words.items()}

    return handler


async def _reauthorize(session: AsyncSession, rows: Sequence[Any], replayed: bool) -> dict[UUID, Outcome]:
    """A fresh token is what keeps the provider sending; the host application may have to renew what it subscribed."""
    # It locks their connections: before the credentials, as everybody does who changes both.
    told = await tell(session, rows, REAUTHORIZE, replayed=replayed)
    # Once for each delivery, however often it is handled anew because something else in it waits.
    for connection_id in sorted(told.first):
        await refresh_now(session, connection_id)
    return {id_: Outcome(words) for id_, words in told.words.items()}


async def _self_test(_session: AsyncSession, rows: Sequence[Any], _replayed: bool) -> dict[UUID, Outcome]:
    return {row.id: Outcome("self test") for row in rows}
