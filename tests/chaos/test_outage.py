"""The worker, Temporal and the workflow itself are shot at while a provider is contained. No brake is left on."""

import asyncio
import math
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import pytest
import pytest_asyncio
from temporalio.client import WorkflowHandle

from integrations import temporal
from integrations.db import connections
from integrations.domain.job import JobRequest, JobResult
from integrations.domain.outage import RAMP, Ended, OutageRequest
from tests import outage_rows
from tests.chaos.gate import Gate, Place
from tests.chaos.ground import Ground, Victim
from tests.chaos.waiting import until
from tests.outage.ground import Ground as Field
from tests.refresh.ground import Due, add_due
from workflows.queues import WORKFLOWS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]
SETTINGS = {
    # Only what a person orders is an outage here.
    "RUNBOOK_OUTAGE_CALLS": "100000",
    "RUNBOOK_OUTAGE_QUIET_CALLS": "20",
    "RUNBOOK_OUTAGE_LEASE": "6s",
    "RUNBOOK_OUTAGE_PROBE_FIRST": "1s",
    "RUNBOOK_OUTAGE_PROBE_MOST": "2s",
    "RUNBOOK_OUTAGE_PROBES": "1",
    "RUNBOOK_OUTAGE_STEP": "1s",
    "RUNBOOK_OUTAGE_STEP_CALLS": "5",
    "RUNBOOK_OUTAGE_STEP_QUIET": "2s",
}
OUTAGE: Final = "outage:simulator"
STEPS: Final = (
    ("scope", Place.OUTAGE),
    ("contain", Place.QUEUE),
    ("shield", Place.OUTAGE),
    ("probe", Place.OUTAGE),
    ("5 percent", Place.QUEUE),
    ("replay", Place.PARKED),
    ("validate", Place.OUTAGE),
    ("close", Place.LIFTED),
)
BETWEEN: Final = {Place.QUEUE, Place.LIFTED}
"""There the journal and the queue do not say the same."""
_ON = "SELECT brake, name FROM service_mitigations WHERE released_at IS NULL ORDER BY brake"
_VERSIONS = "SELECT version FROM service_credentials WHERE connection_id = ANY(:ids) AND state = 'active'"
_LEFT = """
SELECT (SELECT count(*) FROM service_outages WHERE closed_at IS NULL) AS outages,
  (SELECT count(*) FROM service_mitigations WHERE released_at IS NULL) AS brakes,
  (SELECT count(*) FROM service_operator_tasks WHERE kind = 'outage' AND status <> 'closed') AS tasks"""
_HARMED = """
SELECT id FROM service_connections AS connection WHERE id = ANY(:ids)
  AND (status <> 'active' OR EXISTS (SELECT FROM service_connection_transitions WHERE connection_id = connection.id))"""


@dataclass(frozen=True)
class Patient:
    """A provider with traffic before, and ten connections of which none is due."""

    ground: Ground
    field: Field
    due: Due

    async def job(self, *, patience: timedelta | None = None) -> tuple[str, WorkflowHandle[Any, JobResult]]:
        """One that writes a note. Its key and itself."""
        async with self.field.sessions.begin() as session:
            row = await connections.find(session, self._any)
        key = secrets.token_hex(8)
        request = JobRequest(
            connection_id=row.id,
            provider_id=row.provider_id,
            tenant=row.tenant,
            capability="notes.write",
            idempotency_key=key,
            payload={"text": key},
            by="the test",
            reason="traffic",
            patience=patience,
        )
        started = await temporal.start_job(self.field.client, request)
        return key, self.field.client.get_workflow_handle(started.id, result_type=JobResult)

    @property
    def _any(self) -> UUID:
        return secrets.choice(self.due.ids)

    async def parked(self, count: int) -> dict[str, WorkflowHandle[Any, JobResult]]:
        """Jobs whose patience is over while the provider is broken."""
        jobs = dict([await self.job(patience=timedelta(seconds=1)) for _ in range(count)])

        async def all_are() -> bool:
            waiting = "SELECT count(*) FROM service_parked_jobs WHERE settled_at IS NULL"
            return bool(await self.ground.one(waiting) == count)

        await until(f"{count} jobs are parked", all_are)
        return jobs

    async def ordered(self, hold: timedelta, endpoint: str = "") -> None:
        request = OutageRequest(
            provider_id="simulator", by="the test", reason="maintenance", hold=hold, endpoint=endpoint
        )
        await temporal.start_outage(self.field.client, request)

    async def rates(self) -> tuple[float | None, float | None]:
        """Calls per second that the journal says are let through, and that the task queue's server says."""
        said = [each.rate for each in await self.field.journal() if each.brake == "queue" and not each.released_at]
        return (said[0] if said else None), await self.field.queue_rate()

    async def agree(self) -> bool:
        journal, queue = await self.rates()
        if journal is None or queue is None:
            return journal is queue
        return math.isclose(journal, queue, rel_tol=1e-5)

    async def on(self) -> list[tuple[str, str]]:
        return [(row["brake"], row["name"]) for row in await self.ground.rows(_ON)]

    async def nothing_is_left(self) -> None:
        assert await self.ground.rows(_LEFT) == [{"outages": 0, "brakes": 0, "tasks": 0}], await self.field.story()
        assert await self.rates() == (None, None)
        assert await self.ground.rows(_HARMED, ids=self.due.ids) == []
        assert self.ground.died() == {}

    async def all_done_once(self, jobs: dict[str, WorkflowHandle[Any, JobResult]]) -> None:
        results = await asyncio.wait_for(asyncio.gather(*(each.result() for each in jobs.values())), 60)
        assert all(each.done for each in results)
        written = Counter(
            row["detail"].get("idempotency_key")
            for row in await self.ground.provider.requests("/api/notes", method="POST")
            if row["status"] == 201
        )
        assert {key: written[key] for key in jobs} == dict.fromkeys(jobs, 1)


@pytest_asyncio.fixture
async def patient(ground: Ground) -> AsyncIterator[Patient]:
    platform = ground.platform
    field = Field(platform.temporal, platform.sessions, ground.provider._http, ground.stack.settings)
    due = await add_due(platform.sessions, ground.vault, field.http, 10, overdue=-timedelta(hours=1))
    if not await ground.one("SELECT count(*) FROM service_provider_calls"):
        await field.went_on_before(8)
    yield Patient(ground, field, due)
    await field.heals()
    # Of a test that failed: the next one begins anew.
    await field.ends(OUTAGE)


async def test_killed_at_each_step_it_goes_on_and_ends_healed(ground: Ground, patient: Patient) -> None:
    await patient.field.breaks(kind="status", status=503)
    jobs = await patient.parked(5)
    await outage_rows.add_outage(ground.platform.sessions, by="the test", finding=None)
    await patient.ordered(timedelta(seconds=1))

    last: Gate | None = None
    for step, place in STEPS:
        gate = await Gate.closed(ground, place, last)
        if last is not None:
            await ground.bring_back(Victim.WORKER)
        await gate.is_reached_by(OUTAGE, step)
        assert await patient.agree() is (place not in BETWEEN), f"{step}: {await patient.rates()}"
        await ground.kill(Victim.WORKER)
        last = gate
        if step == "shield":
            await patient.field.heals()
            # These wait in the queue, and nobody parks them.
            jobs |= dict([await patient.job() for _ in range(3)])
    assert last is not None
    last.open()
    await ground.bring_back(Victim.WORKER)
    result = await asyncio.wait_for(patient.field.outage().result(), 90)

    told = await patient.field.story()
    assert (result.ended, result.relapses) == (Ended.HEALED, 0), told
    await patient.all_done_once(jobs)
    await patient.nothing_is_left()
    # The shield first: it waits for no answer of Temporal's.
    assert [(each.brake, each.released_by) for each in await patient.field.journal()] == [
        ("shield", "ProviderOutageWorkflow"),
        ("queue", "ProviderOutageWorkflow"),
    ]
    notes = await patient.field.notes()
    assert [note.percent for note in notes if note.percent and note.step == "ramp"] == list(RAMP), told
    once = Counter(note.step for note in notes if note.step in {"contain", "shield", "validate", "close"})
    assert once == dict.fromkeys(["contain", "shield", "validate", "close"], 1), told
    assert await ground.one("SELECT count(*) FROM service_operator_tasks WHERE kind = 'outage'") == 1


async def terminated(patient: Patient) -> None:
    """By somebody who means well. Its lease runs out, and the next reconcile sees to it."""
    await patient.field.outage().terminate("somebody pressed the wrong button")
    held = await patient.on()

    async def has_run_out() -> bool:
        good = "SELECT count(*) FROM service_mitigations WHERE released_at IS NULL AND lease_until > now()"
        return bool(await patient.ground.one(good) == 0)

    await until("the leases have run out", has_run_out)
    assert await patient.on() == held, "released by nobody but reconcile"
    await reconciled(patient)
    [*_, last] = await patient.field.outages()
    assert (last.ended, last.closed_by) == (Ended.ABANDONED, "reconcile")
    await patient.nothing_is_left()


async def reconciled(patient: Patient) -> None:
    client = patient.field.client
    handle = await client.start_workflow(
        "ReconcileWorkflow", id=f"reconcile-{secrets.token_hex(4)}", task_queue=WORKFLOWS
    )
    await asyncio.wait_for(handle.result(), 60)


async def refreshes_flow(patient: Patient) -> None:
    await patient.field.due(patient.due.ids)
    await patient.ground.platform.temporal.get_schedule_handle("refresh-sweep").trigger()

    async def all_are_refreshed() -> bool:
        rows = await patient.ground.rows(_VERSIONS, ids=patient.due.ids)
        return [row["version"] for row in rows] == [2] * len(patient.due.ids)

    await until("all are refreshed", all_are_refreshed)


async def test_terminated_by_hand_while_contained_and_after_temporal_was_away(ground: Ground, patient: Patient) -> None:
    await patient.field.breaks(kind="status", status=503)
    jobs = await patient.parked(2)
    await patient.ordered(timedelta(minutes=10))

    async def is_contained() -> bool:
        return await patient.on() == [("queue", ""), ("shield", "")]

    await until("it is contained", is_contained)
    await patient.field.heals()
    jobs |= dict([await patient.job() for _ in range(3)])

    await ground.kill(Victim.TEMPORAL)
    await ground.bring_back(Victim.TEMPORAL)
    back = await ground.one("SELECT now()")

    async def are_renewed() -> bool:
        leases = "SELECT min(lease_until) FROM service_mitigations WHERE released_at IS NULL"
        return bool(await ground.one(leases) > back + timedelta(seconds=6))

    await until("the leases are renewed", are_renewed)
    # First the leases, then the queues.
    await until("the queue says what the journal says", patient.agree)
    assert (await patient.rates())[1] is not None

    await terminated(patient)
    # Reconcile gives whoever releases parked jobs a minute.
    await ground.rows("UPDATE service_parked_jobs SET parked_at = parked_at - interval '2 minutes' RETURNING 1")
    await reconciled(patient)
    await patient.all_done_once(jobs)
    await refreshes_flow(patient)


@pytest.mark.parametrize("endpoint", ["", "notes.write"])
async def test_terminated_by_hand_in_the_ramp(patient: Patient, endpoint: str) -> None:
    await patient.ordered(timedelta(seconds=1), endpoint)

    async def is_in_the_ramp() -> bool:
        return any(each.step == "ramp" for each in await patient.field.outages())

    await until("it is in the ramp", is_in_the_ramp)
    assert await patient.on() == ([("circuit", endpoint)] if endpoint else [("queue", ""), ("shield", "")])
    jobs = dict([await patient.job() for _ in range(3)])
    await terminated(patient)
    await patient.all_done_once(jobs)
