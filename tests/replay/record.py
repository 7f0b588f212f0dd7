"""Record the histories that CI replays: python -m tests.replay.record

Each scenario runs on a real dev server with scripted steps. A history is recorded once, when its scenario is new; it
is never recorded again to make a replay pass: a workflow that has run for a week must survive today's deployment.
"""

import asyncio
import json
import sys
import sysconfig
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from activities.notification import SendFailedError
from activities.outbox import ProjectionFailedError
from integrations import temporal
from integrations.domain.job import JobRequest
from integrations.domain.keys import Pass, ReencryptRequest, Unopened
from integrations.domain.notification_delivery import Left, Sending, SendRequest
from integrations.domain.outage import Looked
from integrations.domain.outbox import DeliveryRequest, Drained, Pair, Retrying
from integrations.domain.refresh import Chunk, Refresh, RefreshRequest, SweepRequest
from integrations.domain.replay import Repace, ReplayRequest, Said
from integrations.domain.run import Run
from integrations.domain.verdict import Meaning
from tests.replay import outage_scenarios, reauth_scenarios, webhook_scenarios
from tests.workflows.fake_replay import FakeReplay
from tests.workflows.fakes import (
    CALLED,
    OUTAGE,
    FakeJob,
    FakeKeys,
    FakeNotification,
    FakeOutageDetector,
    FakeOutbox,
    FakeParked,
    FakeRefresh,
    FakeSweep,
    refreshed,
    token_refused,
    workers,
)
from worker.plugin import runbook_plugin
from workflows.queues import WORKFLOWS
from workflows.reconcile import ReconcileWorkflow
from workflows.refresh_sweep import RefreshSweepWorkflow

HISTORIES: Final = Path(__file__).with_name("histories")
UNSENT: Final = SendFailedError("HTTP 503: the receiver is in trouble")


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


async def refused_in_a_sweep(client: Client) -> WorkflowHandle[Any, Any]:
    """A sweep was told no: only the second look is left, and it says that nothing is wrong."""
    fake = FakeRefresh(refreshed(Refresh.ROTATED_MEANWHILE, version=2))
    wanted = RefreshRequest(
        connection_id=uuid4(),
        provider_id="simulator",
        tenant="org:acme",
        by="refresh-sweep",
        reason="Simulator: 400 invalid_grant",
        confirm_after=timedelta(seconds=1),
        known_version=1,
        refused=refreshed(Refresh.REFUSED, version=1, why="400 invalid_grant"),
    )
    async with workers(client, refresh=fake):
        handle = await temporal.start_refresh(client, wanted)
        await handle.result()
    return handle


async def due_found(client: Client) -> WorkflowHandle[Any, Any]:
    async with workers(client, sweep=FakeSweep(due={"simulator": 70})):
        handle = await client.start_workflow(RefreshSweepWorkflow.run, id=f"refresh-{uuid4()}", task_queue=WORKFLOWS)
        await handle.result()
        await client.get_workflow_handle("refresh:simulator").result()
    return handle


async def due_refreshed(client: Client) -> WorkflowHandle[Any, Any]:
    """Two lanes, an outage in the middle, one connection that goes on by itself."""
    chunks = [Chunk(taken=50, refreshed=49, left=1), OUTAGE, Chunk(taken=1, refreshed=1), Chunk(taken=20, refreshed=20)]
    async with workers(client, sweep=FakeSweep(*chunks)):
        handle = await temporal.start_sweep(client, SweepRequest(provider_id="simulator", lanes=2))
        await handle.result()
    return handle


async def _refused(client: Client, ends: Refresh) -> WorkflowHandle[Any, Any]:
    """Our registration is refused twice: the second look says what becomes of it."""
    fake = FakeRefresh(
        refreshed(Refresh.REFUSED, version=1, why="401 invalid_client", meaning=Meaning.OPERATOR_MUST_ACT),
        refreshed(ends, version=1, why="Simulator refuses our registration: 401 invalid_client"),
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


async def errored(client: Client) -> WorkflowHandle[Any, Any]:
    return await _refused(client, Refresh.OPERATOR_MUST_ACT)


async def held_back(client: Client) -> WorkflowHandle[Any, Any]:
    return await _refused(client, Refresh.SUSPECT)


async def _job(client: Client, job: FakeJob, refresh: FakeRefresh | None = None) -> WorkflowHandle[Any, Any]:
    wanted = JobRequest(
        connection_id=uuid4(),
        provider_id="simulator",
        tenant="org:acme",
        capability="notes.write",
        idempotency_key=str(uuid4()),
        by="ada",
        reason="the nightly copy",
    )
    async with workers(client, job=job, refresh=refresh):
        handle = await temporal.start_job(client, wanted)
        await handle.result()
    return handle


async def called(client: Client) -> WorkflowHandle[Any, Any]:
    return await _job(client, FakeJob(OUTAGE))


async def called_again(client: Client) -> WorkflowHandle[Any, Any]:
    """With another token than the refused one. Recorded as `refused` too, before jobs had that renewed."""
    return await _job(client, FakeJob(token_refused(1)), FakeRefresh(refreshed(Refresh.REFRESHED, version=2)))


async def joined_an_older(client: Client) -> WorkflowHandle[Any, Any]:
    """The refresh that ran already was about a token before the refused one."""
    older = refreshed(Refresh.ROTATED_MEANWHILE, version=1)
    return await _job(client, FakeJob(token_refused(1)), FakeRefresh(older, refreshed(Refresh.REFRESHED, version=2)))


async def refused_again(client: Client) -> WorkflowHandle[Any, Any]:
    refresh = FakeRefresh(OUTAGE, refreshed(Refresh.REFRESHED, version=2))
    return await _job(client, FakeJob(token_refused(1), token_refused(2)), refresh)


async def not_renewed(client: Client) -> WorkflowHandle[Any, Any]:
    """The refresh waits ten seconds before it believes what the provider says: longer than one look takes."""
    refused = refreshed(Refresh.REFUSED, version=1, why="400 invalid_grant")
    dead = refreshed(Refresh.REFUSED, version=1, why="refused twice", detection_id=uuid4())
    return await _job(client, FakeJob(token_refused(1)), FakeRefresh(refused, dead))


async def _parked(
    client: Client, job: FakeJob, times: int = 1, refresh: FakeRefresh | None = None
) -> WorkflowHandle[Any, Any]:
    """A job with a patience of a second, told to go on as often as it is parked."""
    wanted = JobRequest(
        connection_id=uuid4(),
        provider_id="simulator",
        tenant="org:acme",
        capability="notes.write",
        idempotency_key=str(uuid4()),
        by="ada",
        reason="the nightly copy",
        patience=timedelta(seconds=1),
    )
    fake = FakeParked()
    async with workers(client, job=job, parked=fake, refresh=refresh):
        handle = await temporal.start_job(client, wanted)
        for count in range(1, times + 1):
            while len(fake.parked) < count:
                await asyncio.sleep(0.05)
            await temporal.signal_go_on(client, Run(workflow_id=handle.id, run_id=handle.result_run_id or ""))
        await handle.result()
    return handle


async def parked(client: Client) -> WorkflowHandle[Any, Any]:
    """Its attempt had failed, and the next one was waited for."""
    return await _parked(client, FakeJob(OUTAGE))


async def parked_twice(client: Client) -> WorkflowHandle[Any, Any]:
    """What it meets in the end is an answer, if none that it hoped for."""
    no = CALLED.model_copy(update={"meaning": Meaning.OWNER_MUST_ACT, "because": "403: a right", "status": 403})
    return await _parked(client, FakeJob(OUTAGE, OUTAGE, no), times=2)


async def parked_in_a_refresh(client: Client) -> WorkflowHandle[Any, Any]:
    """The refresh that its refused token asks for is set aside, under a shield; later it works."""
    aside = refreshed(Refresh.SET_ASIDE, version=1, why="400 invalid_grant; set aside, shielded")
    renewed = refreshed(Refresh.REFRESHED, version=2)
    return await _parked(client, FakeJob(token_refused(1), token_refused(1)), refresh=FakeRefresh(aside, renewed))


async def heard_out(client: Client) -> WorkflowHandle[Any, Any]:
    """Its patience is over while a call is under way, and that is good."""
    job = FakeJob(slow=1)
    asyncio.get_running_loop().call_later(3, job.may_answer.set)
    return await _parked(client, job, times=0)


async def heard_out_and_parked(client: Client) -> WorkflowHandle[Any, Any]:
    """The same, and it is not."""
    job = FakeJob(OUTAGE, slow=1)
    asyncio.get_running_loop().call_later(3, job.may_answer.set)
    return await _parked(client, job)


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


async def dispatched(client: Client) -> WorkflowHandle[Any, Any]:
    """Two drains, an outage of the database between them, and a new deal in which it has no part."""
    drains = [Drained(dispatchers=4, items=12, why="it has been long enough"), OUTAGE]
    async with workers(client, outbox=FakeOutbox(drains)):
        handle = await temporal.start_dispatcher(client, 2)
        await handle.result()
    return handle


def _pair() -> Pair:
    return Pair(
        projector="activity",
        event_id=uuid4(),
        name="connection.refreshed",
        provider_id="simulator",
        tenant="org:acme",
        connection_id=uuid4(),
        cause="CheckViolation: it is refused",
    )


async def delivered(client: Client) -> WorkflowHandle[Any, Any]:
    """Delivered by the second of two attempts; the database was in trouble for as many as there are before."""
    outbox = FakeOutbox(attempts=[OUTAGE, OUTAGE, ProjectionFailedError("it is refused")])
    async with workers(client, outbox=outbox):
        wanted = DeliveryRequest(pair=_pair(), retrying=Retrying(attempts=3))
        handle = await temporal.start_delivery(client, wanted)
        await handle.result()
    return handle


async def buried(client: Client) -> WorkflowHandle[Any, Any]:
    outbox = FakeOutbox(attempts=[ProjectionFailedError("it is refused")] * 2)
    async with workers(client, outbox=outbox):
        wanted = DeliveryRequest(pair=_pair(), retrying=Retrying(attempts=3))
        handle = await temporal.start_delivery(client, wanted)
        await handle.result()
    return handle


async def sent_out(client: Client) -> WorkflowHandle[Any, Any]:
    """Two drains of a channel, an outage of the database between them. A mistake of ours ends it: nothing else does."""
    drains = [Sending(items=12, why="it has been long enough"), OUTAGE, Sending(items=3, why="it works again")]
    async with workers(client, notification=FakeNotification(drains)):
        handle = await temporal.start_channel(client, "webhook")
        with suppress(WorkflowFailureError):
            await handle.result()
    return handle


async def _message(
    client: Client, fake: FakeNotification, *, whole: bool = False, answered: bool = True
) -> WorkflowHandle[Any, Any]:
    left = Left(
        dispatch_id=uuid4(),
        definition="repaired",
        channel="webhook",
        recipient="org:acme/ada",
        event_id=uuid4(),
        event="connection.activated",
        provider_id="simulator",
        tenant="org:acme",
        connection_id=uuid4(),
        cause="HTTP 503: the receiver is in trouble",
        expires_at=datetime.now(UTC) + timedelta(days=3),
        answered=answered,
        whole=whole,
    )
    retrying = Retrying(attempts=3, first=timedelta(seconds=1))
    async with workers(client, notification=fake):
        handle = await temporal.start_sending(client, SendRequest(left=left, retrying=retrying))
        await handle.result()
    return handle


async def arrived_at_once(client: Client) -> WorkflowHandle[Any, Any]:
    return await _message(client, FakeNotification())


async def arrived_after_crashes(client: Client) -> WorkflowHandle[Any, Any]:
    """It may have ended processes: the server counts its attempts."""
    return await _message(client, FakeNotification(), answered=False)


async def arrived(client: Client) -> WorkflowHandle[Any, Any]:
    """By the second of two attempts; the database was in trouble for as many as there are before."""
    return await _message(client, FakeNotification(attempts=[OUTAGE, OUTAGE, UNSENT]))


async def arrived_for_all(client: Client) -> WorkflowHandle[Any, Any]:
    """Where it goes to was out as a whole: more attempts than one message has."""
    return await _message(client, FakeNotification(attempts=[UNSENT] * 4), whole=True)


async def given_up(client: Client) -> WorkflowHandle[Any, Any]:
    return await _message(client, FakeNotification(attempts=[UNSENT] * 2))


async def paused(client: Client) -> WorkflowHandle[Any, Any]:
    """Large, so that somebody else agrees; paused in its second stage, paced anew, and done, with some dead again."""
    fake = FakeReplay(2000, dead=[500, 600], pauses_at=10)
    wanted = ReplayRequest(plan_id=uuid4(), ledger="outbox", by="ada", reason="the table has room", approve_above=1000)
    async with workers(client, replay=fake):
        handle = await temporal.start_replay(client, wanted)
        while (await handle.describe()).typed_search_attributes.get(temporal.STEP) != "approve":
            await asyncio.sleep(0.05)
        await handle.execute_update("approve", Said(by="grace", reason="looked at the plan"))
        while fake.watches < 2:
            await asyncio.sleep(0.05)
        await handle.execute_update("pause", Said(by="ada", reason="the receiver is slow"))
        await handle.execute_update("repace", Repace(by="ada", reason="slower", rate=50))
        await handle.execute_update("resume", Said(by="ada", reason="it is well again"))
        await handle.result()
    return handle


async def stopped(client: Client) -> WorkflowHandle[Any, Any]:
    """The first item fails again."""
    wanted = ReplayRequest(plan_id=uuid4(), ledger="outbox", by="ada", reason="perhaps it is well again")
    async with workers(client, replay=FakeReplay(100, dead=[1])):
        handle = await temporal.start_replay(client, wanted)
        await handle.result()
    return handle


async def cancelled(client: Client) -> WorkflowHandle[Any, Any]:
    fake = FakeReplay(100, pauses_at=10)
    wanted = ReplayRequest(plan_id=uuid4(), ledger="outbox", by="ada", reason="the wrong filters")
    async with workers(client, replay=fake):
        handle = await temporal.start_replay(client, wanted)
        while fake.watches < 2:
            await asyncio.sleep(0.05)
        await handle.execute_update("cancel", Said(by="ada", reason="the wrong filters"))
        await handle.result()
    return handle


async def looked(client: Client) -> WorkflowHandle[Any, Any]:
    """Nothing, an outage of the database, an outage that is found, one that may not be acted on. A mistake ends it."""
    found = ("simulator: 30 of 30 calls failed in 30 s: 30 of 30 calls failed, of 5 tenants at token",)
    every = timedelta(seconds=1)
    held = Looked(every=every, failing=found, why_not="outage is paused by ada until 2026-11-30 04:00 UTC: a drill")
    looks = [Looked(every=every), OUTAGE, Looked(every=every, failing=found), held]
    async with workers(client, detector=FakeOutageDetector(looks)):
        handle = await temporal.start_detector(client)
        with suppress(WorkflowFailureError):
            await handle.result()
    return handle


SCENARIOS: Final[dict[str, Callable[[Client], Awaitable[WorkflowHandle[Any, Any]]]]] = {
    **{f"ReauthWorkflow/{scenario.__name__}": scenario for scenario in reauth_scenarios.ALL},
    "RefreshWorkflow/confirmed": confirmed,
    "RefreshWorkflow/works_again": works_again,
    "RefreshWorkflow/errored": errored,
    "RefreshWorkflow/held_back": held_back,
    "RefreshWorkflow/refused_in_a_sweep": refused_in_a_sweep,
    "RefreshSweepWorkflow/due_found": due_found,
    "ProviderRefreshWorkflow/due_refreshed": due_refreshed,
    "ProviderJobWorkflow/called": called,
    "ProviderJobWorkflow/refused": called_again,
    "ProviderJobWorkflow/called_again": called_again,
    "ProviderJobWorkflow/joined_an_older": joined_an_older,
    "ProviderJobWorkflow/refused_again": refused_again,
    "ProviderJobWorkflow/not_renewed": not_renewed,
    "ProviderJobWorkflow/parked": parked,
    "ProviderJobWorkflow/parked_twice": parked_twice,
    "ProviderJobWorkflow/parked_in_a_refresh": parked_in_a_refresh,
    "ProviderJobWorkflow/heard_out": heard_out,
    "ProviderJobWorkflow/heard_out_and_parked": heard_out_and_parked,
    "ReconcileWorkflow/swept": swept,
    "ReconcileWorkflow/swept_with_the_outbox": swept,
    "ReconcileWorkflow/swept_with_notifications": swept,
    "ReconcileWorkflow/swept_with_what_is_old": swept,
    "ReconcileWorkflow/swept_with_brakes": swept,
    "ReconcileWorkflow/swept_with_webhooks": swept,
    "ReconcileWorkflow/swept_with_self_tests": swept,
    "KeysReencryptWorkflow/reencrypted": reencrypted,
    "ReplayWorkflow/paused": paused,
    "ReplayWorkflow/stopped": stopped,
    "ReplayWorkflow/cancelled": cancelled,
    "OutboxDispatchWorkflow/dispatched": dispatched,
    "OutboxDeliveryWorkflow/delivered": delivered,
    "OutboxDeliveryWorkflow/buried": buried,
    "NotificationDispatchWorkflow/sent_out": sent_out,
    "OutageDetectorWorkflow/looked": looked,
    "NotificationDeliveryWorkflow/arrived_at_once": arrived_at_once,
    "NotificationDeliveryWorkflow/arrived_after_crashes": arrived_after_crashes,
    "NotificationDeliveryWorkflow/arrived": arrived,
    "NotificationDeliveryWorkflow/arrived_for_all": arrived_for_all,
    "NotificationDeliveryWorkflow/given_up": given_up,
    **webhook_scenarios.SCENARIOS,
    **{f"ProviderOutageWorkflow/{name}": each for name, each in outage_scenarios.SCENARIOS.items()},
}


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
