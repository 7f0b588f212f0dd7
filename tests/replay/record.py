"""Record the histories that CI replays: python -m tests.replay.record

Each scenario runs on a real dev server with scripted steps. A history is recorded once, when its scenario is new; it
is never recorded again to make a replay pass: a workflow that has run for a week must survive today's deployment.
"""

import asyncio
import json
import sys
import sysconfig
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from temporalio.client import Client, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from integrations import temporal
from integrations.domain.job import JobRequest
from integrations.domain.keys import Pass, ReencryptRequest, Unopened
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
from integrations.domain.refresh import Refresh, RefreshRequest
from tests.workflows.fakes import (
    OUTAGE,
    FakeJob,
    FakeKeys,
    FakeReauth,
    FakeRefresh,
    FakeWaiting,
    consent,
    detected,
    refreshed,
    request,
    workers,
)
from worker.plugin import runbook_plugin
from workflows.queues import WORKFLOWS
from workflows.reauth import ReauthWorkflow
from workflows.reconcile import ReconcileWorkflow

HISTORIES: Final = Path(__file__).with_name("histories")
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


async def works_again(client: Client) -> WorkflowHandle[Any, Any]:
    """A blocked connection that a person has refreshed once more."""
    fake = FakeRefresh(refreshed(Refresh.REFRESHED, version=2, repaired=True))
    wanted = RefreshRequest(
        connection_id=uuid4(), provider_id="simulator", tenant="org:acme", by="ada", reason="the provider says so"
    )
    async with workers(client, refresh=fake):
        handle = await temporal.start_refresh(client, wanted)
        await handle.result()
    return handle


async def confirmed(client: Client) -> WorkflowHandle[Any, Any]:
    fake = FakeRefresh(
        refreshed(Refresh.REFUSED, version=1, why="400 invalid_grant"),
        refreshed(Refresh.REFUSED, version=1, why="refused twice", detection_id=uuid4()),
    )
    wanted = RefreshRequest(
        connection_id=uuid4(),
        provider_id="simulator",
        tenant="org:acme",
        by="ada",
        reason="the token is due",
        confirm_after=timedelta(seconds=1),
    )
    async with workers(client, refresh=fake):
        handle = await temporal.start_refresh(client, wanted)
        await handle.result()
    return handle


async def called(client: Client) -> WorkflowHandle[Any, Any]:
    wanted = JobRequest(
        connection_id=uuid4(),
        provider_id="simulator",
        tenant="org:acme",
        capability="notes.write",
        idempotency_key=str(uuid4()),
        by="ada",
        reason="the nightly copy",
    )
    async with workers(client, job=FakeJob(OUTAGE)):
        handle = await temporal.start_job(client, wanted)
        await handle.result()
    return handle


async def swept(client: Client) -> WorkflowHandle[Any, Any]:
    async with workers(client):
        handle = await client.start_workflow(ReconcileWorkflow.run, id=f"reconcile-{uuid4()}", task_queue=WORKFLOWS)
        await handle.result()
    return handle


async def reencrypted(client: Client) -> WorkflowHandle[Any, Any]:
    """Two steps, an outage in the second, a row that does not open, and a second pass that finds nothing to do."""
    lost = Unopened(count=1, named=["credential … is sealed with key 'k0', and this process has only 'k2'"])
    half = Pass(what="credentials", after="10000", moved=10_000)
    steps = [half, OUTAGE, Pass(what="consent sessions", done=True, moved=12_000, busy=1, unopened=lost)]
    keys = FakeKeys(counts=[12_002, 1], steps=[*steps, Pass(done=True, moved=1, unopened=lost)])
    async with workers(client, keys=keys):
        wanted = ReencryptRequest(key_id="k2", by="ada", reason="yearly")
        handle = await temporal.start_reencryption(client, wanted)
        await handle.result()
    return handle


SCENARIOS: Final[dict[str, Callable[[Client], Awaitable[WorkflowHandle[Any, Any]]]]] = {
    "ReauthWorkflow/repaired": repaired,
    "ReauthWorkflow/expired": expired,
    "ReauthWorkflow/repaired_elsewhere": repaired_elsewhere,
    "ReauthWorkflow/pressed": pressed,
    "ReauthWorkflow/cancelled": cancelled,
    "ReauthWorkflow/given_up_on_the_way": given_up_on_the_way,
    "ReauthWorkflow/proven_and_activated": proven_and_activated,
    "ReauthWorkflow/proven_apart": proven_apart,
    "ReauthWorkflow/in_time": in_time,
    "ReauthWorkflow/repaired_by_a_refresh": repaired_by_a_refresh,
    "ReauthWorkflow/disconnected_by_a_command": disconnected_by_a_command,
    "ReauthWorkflow/void": void,
    "ReauthWorkflow/taken_up_late": taken_up_late,
    "RefreshWorkflow/confirmed": confirmed,
    "RefreshWorkflow/works_again": works_again,
    "ProviderJobWorkflow/called": called,
    "ReconcileWorkflow/swept": swept,
    "KeysReencryptWorkflow/reencrypted": reencrypted,
}


async def _until(fake: FakeReauth, step: str, times: int) -> None:
    async with asyncio.timeout(30):
        while fake.steps.count(step) < times:
            await asyncio.sleep(0.05)


def _without_paths(value: Any) -> Any:
    """A stack trace tells where this machine keeps things, and nothing that a replay needs."""
    if isinstance(value, dict):
        return {name: _without_paths(part) for name, part in value.items() if name != "stackTrace"}
    return [_without_paths(part) for part in value] if isinstance(value, list) else value


async def record() -> None:
    environment = await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(Path(sysconfig.get_path("scripts")) / "temporal"),
        plugins=[runbook_plugin()],
        search_attributes=list(temporal.SEARCH_ATTRIBUTES),
        dev_server_log_level="error",
    )
    async with environment:
        for name, scenario in SCENARIOS.items():
            file = HISTORIES / f"{name}.json"
            if file.exists():
                continue
            handle = await scenario(environment.client)
            history = await environment.client.get_workflow_handle(handle.id).fetch_history()
            file.parent.mkdir(parents=True, exist_ok=True)
            recorded = _without_paths(json.loads(history.to_json()))
            file.write_text(json.dumps(recorded, indent=2) + "\n", encoding="utf-8")
            sys.stdout.write(f"recorded {name}: {len(history.events)} events\n")


if __name__ == "__main__":
    asyncio.run(record())
