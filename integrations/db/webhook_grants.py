"""A provider says that a grant is gone, or that its application was taken away: believed, looked at, or held back.

A notice speaks of the consent that there was when it happened. It may come late, once more, or from somebody who kept
it: it is believed of a credential that was there before, and otherwise the credential is tried, which says the truth.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, update
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import automation, connections, credentials, ending, surge, tasks
from integrations.db.refresh import REFRESHABLE
from integrations.db.surge_counts import Refusal, Watched
from integrations.db.tables import Connection, Credential
from integrations.db.webhook_events import DOUBTFUL, UNMATCHED, tell, tell_of, whose
from integrations.db.webhook_outcome import Handler, Outcome
from integrations.domain.automation import FailureMode, Step
from integrations.domain.connection import Status
from integrations.domain.reauth import Detected
from integrations.domain.surge import BY_WEBHOOK
from integrations.domain.verdict import Meaning
from integrations.domain.webhook import Reaction

ACTOR: Final = "webhook"
_SAME_SECOND: Final = timedelta(seconds=5)
"""Providers tell whole seconds: what came so soon after a notice was there before it."""
_CLOCKS: Final = timedelta(minutes=5)
"""What their clocks may be off from ours."""
_REPEATED_FOR: Final = timedelta(days=3)
"""No provider of the catalog goes on repeating a delivery for longer."""
WatchedBy = Callable[[str], Watched]
"""How a provider's refusals are counted, by its id."""
_About = Callable[[AsyncSession, Any, Connection, Watched, bool], Awaitable[Outcome]]


def about_each(reaction: Reaction, does: _About, watched: WatchedBy) -> Handler:
    """A handler that does something about each connection of a delivery, under that one's lock."""

    async def handler(session: AsyncSession, rows: Sequence[Any], replayed: bool) -> dict[UUID, Outcome]:
        owners = await whose(session, rows)
        # All of them before anything else: who locks several does so in the order of their ids.
        locked = {
            id_: await connections.lock(session, id_) for id_ in sorted({id_ for ids in owners.values() for id_ in ids})
        }
        return {row.id: await one(session, row, [locked[id_] for id_ in owners[row.id]], replayed) for row in rows}

    async def one(session: AsyncSession, row: Any, its: Sequence[Connection], replayed: bool) -> Outcome:
        if not its:
            await tell(session, [row], UNMATCHED, replayed=replayed)
            return Outcome(f"{reaction}: no connection of its account, operators are told")
        done = []
        for connection in its:
            done.append(await does(session, row, connection, watched(row.provider_id), replayed))
            if done[-1].waits:
                return done[-1]
        words = Counter(outcome.handled_as for outcome in done)
        return Outcome(
            f"{reaction}: " + ", ".join(f"{word} ({count})" if count > 1 else word for word, count in words.items()),
            tuple(found for outcome in done for found in outcome.detections),
        )

    return handler


async def revoked(session: AsyncSession, row: Any, connection: Connection, watched: Watched, replayed: bool) -> Outcome:
    if connection.status not in REFRESHABLE:
        return Outcome(f"{connection.status} already")
    active = await credentials.active(session, connection.id)
    if doubt := _doubt(active, row):
        return await _look(session, row, connection, doubt, replayed=replayed)
    if held := await _held(session, row, active, watched):
        return Outcome("", waits=held)
    found = await connections.detect(
        session,
        connection.id,
        Detected.REVOKED,
        cause=_cause(row),
        actor=ACTOR,
        version=active.version if active else None,
        evidence={"delivery": str(row.delivery), "event": row.event, "replay": replayed},
    )
    return Outcome("detected", (found,))


async def uninstalled(
    session: AsyncSession, row: Any, connection: Connection, watched: Watched, replayed: bool
) -> Outcome:
    if connection.status == Status.DISCONNECTED:
        return Outcome("disconnected already")
    active = await credentials.active(session, connection.id)
    if doubt := _doubt(active, row):
        return await _look(session, row, connection, doubt, replayed=replayed)
    if not await automation.may(session, connection, FailureMode.REAUTH, Step.DISCONNECT, cause=_cause(row)):
        return Outcome("", waits=await automation.why_not(session, FailureMode.REAUTH, connection) or "held back")
    if held := await _held(session, row, active, watched):
        return Outcome("", waits=held)
    among = tuple(status for status in Status if status is not Status.DISCONNECTED)
    await ending.give_up(session, connection, among=among, reason=_cause(row), actor=ACTOR, ended="expired")
    return Outcome("disconnected")


async def refresh_now(session: AsyncSession, connection_id: UUID) -> bool:
    """The next sweep refreshes it, which says more than any notice. False where there is nothing to refresh with.

    The caller has locked the connection.
    """
    due = await session.scalars(
        update(Credential)
        .where(
            Credential.connection_id == connection_id, Credential.state == "active", Credential.refresh_at.is_not(None)
        )
        .values(refresh_at=func.least(Credential.refresh_at, func.now()))
        .returning(Credential.id)
    )
    return bool(due.all())


def _doubt(active: Credential | None, row: Any) -> str:
    """Why a notice may speak of an earlier consent. Empty: it speaks of the one that there is."""
    if active is None or active.activated_at is None:
        return ""
    if row.occurred_at is None:
        # When it was signed says only when it was sent, which may be long after it happened.
        late = active.refresh_at is not None or active.activated_at > row.received_at - _REPEATED_FOR
        return "doubtful: it does not say when that was" if late else ""
    happened = min(row.occurred_at, row.sent_at or row.received_at)
    if active.activated_at <= happened + _SAME_SECOND:
        return ""
    return "doubtful: at the time of the consent" if active.activated_at <= happened + _CLOCKS else _STALE


_STALE: Final = "stale: a newer credential is active"


async def _look(session: AsyncSession, row: Any, connection: Connection, doubt: str, *, replayed: bool) -> Outcome:
    """Have somebody see whether it is so: the refresh, or a person where there is nothing to refresh with.

    Once, however often the delivery is handled anew because something else in it waits.
    """
    if not await tell_of(session, row, DOUBTFUL, connection.id, replayed=replayed):
        return Outcome(f"{doubt}, and looked at before")
    if await refresh_now(session, connection.id):
        return Outcome(f"{doubt}, and refreshed to see")
    if doubt == _STALE:
        return Outcome(f"{doubt}, and there is nothing to refresh")
    await tasks.open_task(
        session,
        connection.id,
        tasks.DOUBTED,
        title="the provider says that this grant is gone, perhaps of an earlier consent",
        cause=f"{_cause(row)} ({doubt}; delivery {row.delivery})",
        way_out=f"see whether it works: runbook connections show {connection.id}; if the owner took the grant back: "
        f"runbook connections disconnect {connection.id}; if not, close this task",
    )
    return Outcome(f"{doubt}, and operators are asked to look")


async def _held(session: AsyncSession, row: Any, active: Credential | None, watched: Watched) -> str | None:
    """Why it waits, as one of too many at once to be true: a provider may be wrong about all of them."""
    if active is None:
        return None
    refusal = Refusal(
        active.connection_id, active.version, Meaning.OWNER_MUST_ACT, rule=BY_WEBHOOK, answer=f"webhook {row.event}"
    )
    return await surge.suspected(session, watched, refusal)


def _cause(row: Any) -> str:
    return f"{row.provider_id} told so by a webhook: {row.event}"
