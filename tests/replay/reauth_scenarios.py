"""The endings of a re-consent, played for `record.py`. A scenario's name is its history's."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from temporalio.client import Client, WorkflowHandle

from integrations import temporal
from integrations.domain.reauth import (
    Activation,
    Cancel,
    ConsentDenied,
    Exchange,
    Exchanged,
    Opened,
    Opening,
    Proof,
    Repaired,
    Said,
    SaidUntil,
)
from tests.workflows.fakes import OUTAGE, FakeReauth, FakeWaiting, consent, detected, request, workers
from workflows.reauth import ReauthWorkflow

_BACK: Final = Exchanged(exchange=Exchange.INVITED_AGAIN, why="the consent was given by b••@other.example")


async def repaired(client: Client) -> WorkflowHandle[Any, Any]:
    """An outage in the exchange, a consent by another account, one that fails its proof, and the one that repairs."""
    fake = FakeReauth(exchange=[OUTAGE, _BACK], prove=[Proof(works=False, why="403")])
    async with workers(client, reauth=fake):
        handle = await detected(client, request())
        for rounds in (1, 2, 3):
            await _until(fake, "open" if rounds == 1 else "exchange", max(1, rounds))
            await handle.signal(ReauthWorkflow.consent_received, consent(fake))
        await handle.result()
    return handle


async def opened_at_once(client: Client) -> WorkflowHandle[Any, Any]:
    """In its own task, as all are since 2026-12, and once more for a second detection."""
    fake = FakeReauth()
    wanted = request()
    async with workers(client, reauth=fake):
        handle = await detected(client, wanted)
        await _until(fake, "open", 1)
        await detected(client, wanted)
        await _until(fake, "open", 2)
        await handle.signal(ReauthWorkflow.consent_received, consent(fake))
        await handle.result()
    return handle


async def opened_after_trouble(client: Client) -> WorkflowHandle[Any, Any]:
    """The database was in trouble, so it opened by an activity."""
    fake = FakeReauth(open=[OUTAGE, OUTAGE])
    async with workers(client, reauth=fake):
        handle = await detected(client, request())
        await _until(fake, "open", 3)
        await handle.signal(ReauthWorkflow.consent_received, consent(fake))
        await handle.result()
    return handle


async def expired(client: Client) -> WorkflowHandle[Any, Any]:
    async with workers(client):
        handle = await detected(client, request(patience=timedelta(seconds=1)))
        await handle.result()
    return handle


async def repaired_elsewhere(client: Client) -> WorkflowHandle[Any, Any]:
    """A second detection while it waits finds everything repaired."""
    fake, wanted = (
        FakeReauth(open=[Opened(opening=Opening.OPENED), Opened(opening=Opening.ALREADY_REPAIRED)]),
        request(),
    )
    async with workers(client, reauth=fake):
        handle = await detected(client, wanted)
        await _until(fake, "open", 1)
        await detected(client, wanted)
        await handle.result()
    return handle


async def pressed(client: Client) -> WorkflowHandle[Any, Any]:
    """A reminder and an escalation by the clock, each of a person's wishes, and the consent that repairs."""
    now = datetime.now(UTC)
    opened = Opened(
        opening=Opening.OPENED,
        why="revoked",
        remind_at=(now + timedelta(seconds=1), now + timedelta(days=3)),
        escalate_at=now + timedelta(seconds=1),
    )
    fake, waiting = FakeReauth(open=[opened]), FakeWaiting()
    async with workers(client, reauth=fake, waiting=waiting):
        handle = await detected(client, request())
        await _until(fake, "open", 1)
        while "escalate" not in waiting.steps:
            await asyncio.sleep(0.05)
        said = {"by": "ada", "reason": "the owner called"}
        await handle.execute_update(ReauthWorkflow.acknowledge, Said(**said))
        await handle.execute_update(ReauthWorkflow.remind, Said(**said))
        await handle.execute_update(ReauthWorkflow.extend, SaidUntil(**said, until=now + timedelta(days=20)))
        await handle.execute_update(ReauthWorkflow.cancel, Cancel(**said, snooze_until=now + timedelta(days=2)))
        await handle.signal(ReauthWorkflow.consent_received, consent(fake))
        await handle.result()
    return handle


async def cancelled(client: Client) -> WorkflowHandle[Any, Any]:
    """A decline, and then a person gives the connection up."""
    fake = FakeReauth(open=[Opened(opening=Opening.OPENED), Opened(opening=Opening.DISCONNECTED, why="left us")])
    async with workers(client, reauth=fake):
        handle = await detected(client, request())
        await _until(fake, "open", 1)
        declined = ConsentDenied(**consent(fake).model_dump())
        await handle.signal(ReauthWorkflow.consent_denied, declined)
        await handle.execute_update(ReauthWorkflow.cancel, Cancel(by="ada", reason="left us", disconnect=True))
        await handle.result()
    return handle


async def given_up_on_the_way(client: Client) -> WorkflowHandle[Any, Any]:
    """The connection is disconnected while its consent is being activated."""
    fake = FakeReauth(activate=[Activation.VOID])
    async with workers(client, reauth=fake):
        handle = await detected(client, request())
        await _until(fake, "open", 1)
        await handle.signal(ReauthWorkflow.consent_received, consent(fake))
        await handle.result()
    return handle


async def proven_and_activated(client: Client) -> WorkflowHandle[Any, Any]:
    """Since 2026-11: a partial consent and a lost answer, each with a fresh invitation, then the repair."""
    partial = Exchanged(exchange=Exchange.INVITED_AGAIN, why="these permissions were not given: notes.write")
    lost = Exchanged(exchange=Exchange.INVITED_AGAIN, why="the answer to the owner's consent was lost")
    fake = FakeReauth(exchange=[partial, lost])
    async with workers(client, reauth=fake):
        handle = await detected(client, request())
        await _until(fake, "open", 1)
        for rounds in (1, 2, 3):
            await handle.signal(ReauthWorkflow.consent_received, consent(fake))
            await _until(fake, "exchange", rounds)
        await handle.result()
    return handle


async def in_time(client: Client) -> WorkflowHandle[Any, Any]:
    """The deadline finds a consent whose signal was lost; it fails its proof, and the next deadline is the end."""
    fake = FakeReauth(expire=[uuid4()], prove=[Proof(works=False, why="403")])
    async with workers(client, reauth=fake):
        handle = await detected(client, request(patience=timedelta(seconds=1)))
        await handle.result()
    return handle


async def repaired_by_a_refresh(client: Client) -> WorkflowHandle[Any, Any]:
    fake = FakeReauth(open=[Opened(opening=Opening.OPENED), Opened(opening=Opening.ALREADY_REPAIRED)])
    async with workers(client, reauth=fake):
        handle = await detected(client, request())
        await _until(fake, "open", 1)
        await handle.signal(ReauthWorkflow.connection_repaired, Repaired(by="ada", reason="a refresh works again"))
        await handle.result()
    return handle


async def disconnected_by_a_command(client: Client) -> WorkflowHandle[Any, Any]:
    """A second revocation joins, then a person gives the connection up elsewhere."""
    ended = Opened(opening=Opening.DISCONNECTED, why="disconnected: the customer left")
    again = Opened(opening=Opening.OPENED, why="revoked again")
    fake, wanted = FakeReauth(open=[Opened(opening=Opening.OPENED), again, ended]), request()
    async with workers(client, reauth=fake):
        handle = await detected(client, wanted)
        await _until(fake, "open", 1)
        await detected(client, wanted)
        await _until(fake, "open", 2)
        await handle.signal(ReauthWorkflow.connection_repaired, Repaired(by="ada", reason="disconnected: left"))
        await handle.result()
    return handle


async def proven_apart(client: Client) -> WorkflowHandle[Any, Any]:
    """The provider has trouble with the proof that follows the exchange: it becomes a step that is repeated."""
    fake = FakeReauth(prove=[OUTAGE], proves_apart=True)
    async with workers(client, reauth=fake):
        handle = await detected(client, request())
        await _until(fake, "open", 1)
        await handle.signal(ReauthWorkflow.consent_received, consent(fake))
        await handle.result()
    return handle


async def void(client: Client) -> WorkflowHandle[Any, Any]:
    """Given up while the proof that would have activated ran."""
    fake = FakeReauth(activate=[Activation.VOID])
    async with workers(client, reauth=fake):
        handle = await detected(client, request())
        await _until(fake, "open", 1)
        await handle.signal(ReauthWorkflow.consent_received, consent(fake))
        await handle.result()
    return handle


async def taken_up_late(client: Client) -> WorkflowHandle[Any, Any]:
    """A consent that waits when the lifecycle opens, stale, announced again, and good then."""
    left = uuid4()
    fake = FakeReauth(
        open=[Opened(opening=Opening.OPENED, session_id=left, received=True)],
        exchange=[Exchanged(exchange=Exchange.STALE, why="the session is invited")],
    )
    async with workers(client, reauth=fake):
        handle = await detected(client, request())
        await _until(fake, "exchange", 1)
        while (await handle.describe()).typed_search_attributes.get(temporal.STEP) != "wait":
            await asyncio.sleep(0.05)
        await handle.signal(ReauthWorkflow.consent_received, consent(fake, session_id=left))
        await handle.result()
    return handle


async def left(client: Client) -> WorkflowHandle[Any, Any]:
    """The platform could do nothing by itself just then."""
    fake = FakeReauth(open=[Opened(opening=Opening.LEFT, why="reauth is paused by ada")])
    async with workers(client, reauth=fake):
        handle = await detected(client, request())
        await handle.result()
    return handle


async def held_back(client: Client) -> WorkflowHandle[Any, Any]:
    """A deadline that the platform could not carry out by itself, until a person had given more time."""
    fake = FakeReauth(
        expire=[OUTAGE, uuid4()], exchange=[Exchanged(exchange=Exchange.STALE, why="the session is invited")]
    )
    async with workers(client, reauth=fake):
        handle = await detected(client, request(patience=timedelta(seconds=1)))
        await _until(fake, "expire", 1)
        said = SaidUntil(by="ada", reason="on holiday", until=datetime.now(UTC) + timedelta(days=1))
        await handle.execute_update(ReauthWorkflow.extend, said)
        await _until(fake, "exchange", 1)
        await handle.signal(ReauthWorkflow.consent_received, consent(fake))
        await handle.result()
    return handle


async def _until(fake: FakeReauth, step: str, times: int) -> None:
    async with asyncio.timeout(30):
        while fake.steps.count(step) < times:
            await asyncio.sleep(0.05)


ALL: Final[tuple[Callable[[Client], Awaitable[WorkflowHandle[Any, Any]]], ...]] = (
    repaired,
    opened_at_once,
    opened_after_trouble,
    expired,
    repaired_elsewhere,
    pressed,
    cancelled,
    given_up_on_the_way,
    proven_and_activated,
    proven_apart,
    in_time,
    repaired_by_a_refresh,
    disconnected_by_a_command,
    void,
    taken_up_late,
    left,
    held_back,
)
