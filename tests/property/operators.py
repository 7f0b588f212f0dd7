"""What operators do by commands and updates, and what happens to a grant at the provider and to a refresh of it."""

import asyncio
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from temporalio.service import RPCError, RPCStatusCode

from integrations.db import tasks
from integrations.domain.errors import StopError
from integrations.domain.refresh import Refresh
from tests.property.person import Subject
from tests.property.world import World

_WHO = {"by": "the test", "reason": "any order"}
_REFRESH = {"path": "/oauth/token", "grant_type": "refresh_token"}


class Refreshes(StrEnum):
    HEALTHY = "while all is well"
    DURING_AN_OUTAGE = "while the token endpoint answers 503 with invalid_grant in it"
    SLOWLY = "with an answer that drips"
    WITH_A_LOST_ROTATION = "with the rotation's answer lost"
    WITH_A_WRONG_SECRET = "with a client secret that is refused"


FAULTS: dict[Refreshes, dict[str, Any]] = {
    Refreshes.DURING_AN_OUTAGE: {"kind": "status", "body": {"error": "invalid_grant"}, "count": 3} | _REFRESH,
    Refreshes.SLOWLY: {"kind": "drip", "bytes_per_s": 150, "count": 1} | _REFRESH,
    Refreshes.WITH_A_LOST_ROTATION: {"kind": "drop", "count": 1} | _REFRESH,
    Refreshes.WITH_A_WRONG_SECRET: {"kind": "status", "status": 401, "body": {"error": "invalid_client"}, "count": 2}
    | _REFRESH,
}


class Orders(StrEnum):
    ASK = "ask for a consent"
    CALL_DEAD = "call the grant dead"
    REMIND = "remind"
    EXTEND = "extend"
    LET_EXPIRE = "let the deadline pass"
    SNOOZE = "snooze"
    ACKNOWLEDGE = "acknowledge the task"
    CLOSE = "close the task"
    DISCONNECT = "disconnect"


class Events(StrEnum):
    """At the provider."""

    REVOKED = "the owner revokes the grant"
    NARROWED = "the owner takes a permission back"


async def refresh(world: World, subject: Subject, how: Refreshes, *, outage: bool) -> list[str]:
    """Refresh, and wait for its end unless an outage holds it. The faults ordered for it, to be lifted afterwards."""
    if how is Refreshes.WITH_A_WRONG_SECRET:
        subject.harm()
    ordered = [await world.breaks(account_id=subject.account_id, **FAULTS[how])] if how in FAULTS else []
    handle = await world.refresh(subject.id)
    if not outage:
        done = await asyncio.wait_for(handle.result(), 20)
        if done.refresh is Refresh.REFRESHED and done.detection_id is None and not subject.harmed_now:
            subject.harmed = False  # the provider itself says that the grant lives
    return ordered


async def at_the_provider(world: World, subject: Subject, event: Events) -> None:
    subject.harm()
    if event is Events.REVOKED:
        await world.simulator.post("/admin/grants/revoke", json={"account_id": subject.account_id})  # 404: none is left
        return
    for grant in (await world.simulator.get("/admin/grants")).json():
        if grant["account_id"] == subject.account_id and grant["revoked_at"] is None:
            left = {"grant_id": grant["grant_id"], "scopes": ["notes.read", "profile"]}
            (await world.simulator.post("/admin/grants/scopes", json=left)).raise_for_status()


async def order(world: World, subject: Subject, what: Orders) -> None:
    """One command. A StopError is an answer: nobody waits, or it is refused."""
    now = datetime.now(UTC)
    match what:
        case Orders.ASK:
            subject.asked = True
            await world.platform.ask_for_consent(subject.id, revoked=False, **_WHO)
            subject.asked = True  # also when somebody disconnected at the same time: either order is right
        case Orders.CALL_DEAD:
            subject.harm()
            await world.platform.ask_for_consent(subject.id, revoked=True, **_WHO)
        case Orders.REMIND:
            await _unless_refused(world.platform.remind(subject.id, **_WHO))
        case Orders.EXTEND:
            await _unless_refused(world.platform.extend(subject.id, now + timedelta(days=7), **_WHO))
        case Orders.LET_EXPIRE:
            await _let_expire(world, subject, now + timedelta(milliseconds=150))
        case Orders.SNOOZE:
            await _unless_refused(world.platform.snooze(subject.id, now + timedelta(days=1), **_WHO))
        case Orders.DISCONNECT:
            subject.harm()
            subject.asked = False
            await world.platform.disconnect(subject.id, **_WHO)
        case Orders.ACKNOWLEDGE | Orders.CLOSE:
            await _with_the_task(world, subject, close=what is Orders.CLOSE)


async def _unless_refused(command: Any) -> bool:
    try:
        await command
    except StopError:
        return False
    return True


async def _let_expire(world: World, subject: Subject, deadline: datetime) -> None:
    """Until the lifecycle has ended by it, unless what it does at this moment takes longer."""
    if await _unless_refused(world.platform.extend(subject.id, deadline, **_WHO)):
        until = asyncio.get_running_loop().time() + 2
        while await world.lives(world.lifecycle(subject.id).id) and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.01)


async def _with_the_task(world: World, subject: Subject, *, close: bool) -> None:
    sql = "SELECT id FROM service_operator_tasks WHERE connection_id = :id AND status <> 'closed'"
    for (task_id,) in await world.rows(sql, id=subject.id):
        assert isinstance(task_id, UUID)
        async with world.sessions.begin() as session:
            if close:
                await tasks.close_by_hand(session, task_id, **_WHO)
            else:
                await tasks.acknowledge(session, task_id, by="the test")


async def kill_lifecycle(world: World, subject: Subject) -> None:
    """Terminated by hand, as nobody should: only a sweep can bring it back."""
    try:
        await world.lifecycle(subject.id).terminate(reason="the test")
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
    else:
        subject.orphaned = True
