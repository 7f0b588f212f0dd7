"""The detector's look: rows of what is out, a workflow for each, and nothing at all while the platform only looks."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import delete, update
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities import outage_detector
from activities.outage_detector import OutageDetectorActivities
from activities.reconcile import ReconcileActivities
from integrations import temporal
from integrations.db import outages
from integrations.db.call_tables import ProviderCall
from integrations.db.outage_tables import Mitigation, Outage, OutageNote
from integrations.db.session import Sessions
from integrations.domain.automation import Conduct, FailureMode
from integrations.domain.outage import DETECTOR, OURS, Brake, Ended, Finding, Limits, Looked, OutageRequest, Scope
from integrations.domain.outage import outage_id as workflow_id
from integrations.domain.reauth import Terms
from integrations.domain.verdict import Meaning
from tests.automated import conduct, pause, resume
from tests.db.test_outage_counts import SECOND, add, made
from tests.factories import every, stored
from tests.outage_rows import add_outage

OUTAGE = Meaning.OUTAGE
EVERY = Limits(every=timedelta(seconds=7))


class Ground:
    """A detector, the calls that it looks at, and the workflows that it started: nobody works on those."""

    def __init__(self, client: Client, sessions: Sessions) -> None:
        self.client = client
        self.sessions = sessions

    async def called(self, provider_id: str = "simulator", count: int = 30, **of: Any) -> None:
        now = datetime.now(UTC)
        given = {"outcome": OUTAGE, "provider_id": provider_id, "at": now - SECOND} | of
        await add(self.sessions, *(made(SECOND, **({"tenant": f"org:{n % 5}"} | given)) for n in range(count)))

    async def answered(self, **of: Any) -> None:
        await self.called(**({"outcome": Meaning.OK, "count": 60} | of))

    async def look(self) -> Looked:
        families = {"google-docs": "google", "google-drive": "google"}
        return await ActivityEnvironment(client=self.client).run(
            OutageDetectorActivities(self.sessions, EVERY, families).look
        )

    async def runs(self, provider_id: str = "simulator") -> str | None:
        """The run of its outage's workflow, while there is one."""
        return await self.run_of(workflow_id(provider_id))

    async def run_of(self, name: str) -> str | None:
        try:
            found = await self.client.get_workflow_handle(name).describe()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return None
        return found.run_id if found.status is WorkflowExecutionStatus.RUNNING else None

    async def end(self, provider_id: str = "simulator") -> None:
        await self.client.get_workflow_handle(workflow_id(provider_id)).terminate()

    async def row(self, provider_id: str = "simulator") -> Outage:
        [found] = [each for each in await self.rows() if each.provider_id == provider_id]
        return found

    async def rows(self) -> list[Outage]:
        return sorted(await every(self.sessions, Outage), key=lambda each: each.opened_at)

    async def forget_calls(self) -> None:
        async with self.sessions.begin() as session:
            await session.execute(delete(ProviderCall))


@pytest_asyncio.fixture
async def ground(time_skipping: WorkflowEnvironment, sessions: Sessions) -> AsyncIterator[Ground]:
    made = Ground(time_skipping.client, sessions)
    yield made
    # By their names, for the server's list lags behind: what is left would be another test's.
    names = [DETECTOR, *(f"outbox-dispatch:{n}" for n in range(4))]
    for name in [*names, *{workflow_id(each.provider_id) for each in await made.rows()}]:
        if await made.run_of(name):
            await made.client.get_workflow_handle(name).terminate()


async def braked(ground: Ground, outage_id: UUID) -> None:
    async with ground.sessions.begin() as session:
        until = datetime.now(UTC) + timedelta(minutes=2)
        session.add(
            Mitigation(
                outage_id=outage_id,
                provider_id="simulator",
                brake=Brake.QUEUE,
                name="",
                rate=0.5,
                reason="a test",
                put_by="a test",
                lease_until=until,
            )
        )


class TestALook:
    async def test_goes_back_no_more_than_a_day_for_a_quiet_provider(self, ground: Ground) -> None:
        """Its last five calls took three days; what came before the last one's day is among everybody's of a week."""
        for number in range(5):
            await ground.called(count=1, at=datetime.now(UTC) - SECOND - number * timedelta(hours=15))

        await ground.look()

        found = Finding.model_validate((await ground.row()).finding)
        assert [(cell.calls, cell.failing) for cell in found.matrix] == [(2, 2)]

    async def test_writes_down_what_is_out_and_starts_its_workflow(self, ground: Ground) -> None:
        await ground.called()

        looked = await ground.look()

        row = await ground.row()
        found = Finding.model_validate(row.finding)
        assert (row.scope, row.names, row.observed, row.opened_by, row.closed_at) == (
            Scope.PROVIDER,
            [],
            False,
            DETECTOR,
            None,
        )
        assert (found.calls, found.failing, found.certain, len(found.matrix)) == (30, 30, True, 5)
        assert row.reason == found.why == "30 of 30 calls failed in 14 s: 30 of 30 calls failed, of 5 tenants at token"
        assert looked == Looked(every=EVERY.every, failing=(f"simulator: {row.reason}",))
        handle = ground.client.get_workflow_handle(workflow_id("simulator"))
        started = (await handle.fetch_history()).events[0].workflow_execution_started_event_attributes
        [request] = await ground.client.data_converter.decode(list(started.input.payloads), [OutageRequest])
        assert request == OutageRequest(provider_id="simulator", by=DETECTOR, reason=row.reason)

    async def test_joins_what_is_under_way(self, ground: Ground) -> None:
        await ground.called()
        await ground.look()
        before, run = await ground.row(), await ground.runs()

        looked = await ground.look()

        after = await ground.row()
        assert await ground.runs() == run is not None
        assert (after.id, after.reason) == (before.id, before.reason)
        assert after.seen_at > before.seen_at
        assert looked.failing == ("simulator: 30 of 30 calls failed in 14 s",)

    async def test_sees_two_providers_as_two(self, ground: Ground) -> None:
        await ground.called("simulator")
        await ground.called("github")

        await ground.look()

        assert {each.provider_id for each in await ground.rows()} == {"simulator", "github"}
        assert await ground.runs("simulator")
        assert await ground.runs("github")

    async def test_sees_our_own_way_out_where_three_unrelated_ones_fail(self, ground: Ground) -> None:
        for provider_id in ("simulator", "github", "slack"):
            await ground.called(provider_id)

        await ground.look()
        await ground.look()

        [row] = await ground.rows()
        assert (row.provider_id, row.scope, row.names) == (OURS, Scope.OURS, ["github", "simulator", "slack"])
        assert await ground.runs(OURS)
        assert await ground.runs("simulator") is None

    async def test_leaves_those_to_our_own_outage_when_the_others_fail_no_more(self, ground: Ground) -> None:
        for provider_id in ("simulator", "github", "slack"):
            await ground.called(provider_id)
        await ground.look()
        await ground.answered(provider_id="github")
        await ground.answered(provider_id="slack")

        await ground.look()

        assert [each.provider_id for each in await ground.rows()] == [OURS]

    async def test_finds_whoever_fails_beside_our_own_outage(self, ground: Ground) -> None:
        names = ("github", "simulator", "slack")
        await add_outage(ground.sessions, OURS, scope=Scope.OURS, names=names)
        for provider_id in names:
            await ground.called(provider_id, count=6)
        await ground.called("hubspot")

        await ground.look()

        assert {each.provider_id for each in await ground.rows()} == {OURS, "hubspot"}
        assert await ground.runs("hubspot")

    async def test_finds_those_that_our_own_outage_has_let_go(self, ground: Ground) -> None:
        await add_outage(ground.sessions, OURS, scope=Scope.OURS, names=("hubspot",))
        await ground.answered(provider_id="hubspot")
        for provider_id in ("github", "simulator", "slack"):
            await ground.called(provider_id)

        await ground.look()

        assert {each.provider_id for each in await ground.rows()} == {OURS, "github", "simulator", "slack"}

    async def test_makes_no_outage_of_our_own_of_those_that_have_one(self, ground: Ground) -> None:
        for provider_id in ("github", "simulator", "slack"):
            await add_outage(ground.sessions, provider_id)
            await ground.called(provider_id)

        await ground.look()
        await ground.called("hubspot")
        await ground.look()

        assert {each.provider_id for each in await ground.rows()} == {"github", "hubspot", "simulator", "slack"}

    async def test_sees_our_own_way_out_in_those_that_fail_a_look_later(self, ground: Ground) -> None:
        for provider_id in ("github", "google-docs"):
            await ground.called(provider_id)
        await ground.look()
        for provider_id in ("hubspot", "simulator", "slack"):
            await ground.called(provider_id)

        await ground.look()

        rows = {each.provider_id: each.names for each in await ground.rows()}
        assert rows == {"github": [], "google-docs": [], OURS: ["hubspot", "simulator", "slack"]}

    async def test_finds_nothing_where_calls_are_answered(self, ground: Ground) -> None:
        await ground.answered()

        assert (await ground.look()).failing == ()
        assert await ground.rows() == []

    async def test_finds_what_trips_again_after_it_was_closed_by_later_calls_only(self, ground: Ground) -> None:
        await ground.called()
        await ground.look()
        await ground.end()
        async with ground.sessions.begin() as session:
            await outages.close(session, (await ground.row()).id, Ended.BY_HAND, by="ada", reason="seen")

        await ground.look()

        assert len(await ground.rows()) == 1

        await ground.called(at=datetime.now(UTC))
        await ground.look()

        assert [each.closed_at is None for each in await ground.rows()] == [False, True]
        assert await ground.runs()


class TestAnOutageWithoutItsWorkflow:
    async def test_gets_it_although_it_trips_no_more(self, ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
        """The worker was killed between the row and the start."""
        await ground.called()

        async def dies(*_: object) -> None:
            raise RPCError("killed", RPCStatusCode.UNAVAILABLE, b"")

        with monkeypatch.context() as patched:
            patched.setattr(outage_detector.temporal, "start_outage", dies)
            with pytest.raises(RPCError):
                await ground.look()
        assert (await ground.row()).observed is False
        assert await ground.runs() is None
        await ground.answered(count=300)

        await ground.look()

        assert await ground.runs()

    async def test_waits_for_its_leases_when_it_was_ended_by_hand(self, ground: Ground) -> None:
        await ground.called()
        await ground.look()
        await braked(ground, (await ground.row()).id)
        await ground.end()

        await ground.look()

        assert await ground.runs() is None

    async def test_is_a_persons_to_start_who_opened_it_a_moment_ago(self, ground: Ground) -> None:
        async with ground.sessions.begin() as session:
            outage_id, _ = await outages.found(
                session, "simulator", scope=Scope.PROVIDER, names=(), reason="I know", by="ada"
            )

        await ground.look()

        assert await ground.runs() is None

        async with ground.sessions.begin() as session:
            earlier = datetime.now(UTC) - EVERY.every
            await session.execute(update(Outage).where(Outage.id == outage_id).values(opened_at=earlier))
        await ground.look()

        assert await ground.runs()


async def paused(sessions: Sessions) -> str:
    await pause(sessions, FailureMode.OUTAGE)
    return "outage is paused by ada"


async def observing(sessions: Sessions) -> str:
    await conduct(sessions, Conduct.OBSERVE)
    return "the platform observes"


class TestWhileThePlatformMayNotAct:
    @pytest.mark.parametrize("held", [paused, observing], ids=["paused", "observing"])
    async def test_what_is_found_is_recorded_and_nothing_touched(self, ground: Ground, held: Any) -> None:
        said = await held(ground.sessions)
        await ground.called()

        for _ in range(2):
            looked = await ground.look()

        row = await ground.row()
        assert row.observed
        assert row.why_not is not None
        assert row.why_not.startswith(said)
        assert looked.why_not == row.why_not
        assert await ground.runs() is None
        assert await every(ground.sessions, Mitigation) == []
        assert sorted(each.what for each in await every(ground.sessions, OutageNote)) == sorted(
            [row.reason, f"only looked at: {row.why_not}"]
        )

    async def test_what_is_found_is_told_as_the_last_look_found_it(self, ground: Ground) -> None:
        await pause(ground.sessions, FailureMode.OUTAGE)
        await ground.called(tenant="org:acme")
        await ground.look()
        first = await ground.row()
        await ground.called()

        await ground.look()

        row = await ground.row()
        assert (first.scope, first.names) == (Scope.TENANT, ["org:acme"])
        assert (row.id, row.scope, row.names) == (first.id, Scope.PROVIDER, [])

    async def test_it_is_acted_on_once_the_pause_ends(self, ground: Ground) -> None:
        await pause(ground.sessions, FailureMode.OUTAGE)
        await ground.called()
        await ground.look()
        before = await ground.row()
        await resume(ground.sessions, FailureMode.OUTAGE)

        await ground.look()

        row = await ground.row()
        assert (row.id, row.observed, row.why_not) == (before.id, False, None)
        assert await ground.runs()

    async def test_it_is_closed_when_its_calls_are_answered_again(self, ground: Ground) -> None:
        await pause(ground.sessions, FailureMode.OUTAGE)
        await ground.called()
        await ground.look()
        await ground.answered()

        await ground.look()

        row = await ground.row()
        assert (row.ended, row.closed_by, row.closed_reason) == (Ended.PASSED, DETECTOR, "its calls are answered again")

    async def test_it_stays_while_too_few_call_to_trip(self, ground: Ground) -> None:
        """Jobs come back ever more seldom: that is no recovery."""
        await pause(ground.sessions, FailureMode.OUTAGE)
        await ground.called(endpoint="notes.read")
        await ground.answered(count=100)
        await ground.look()
        assert (await ground.row()).names == ["notes.read"]
        await ground.forget_calls()
        await ground.called(endpoint="notes.read", count=2)
        await ground.answered(count=5)
        before = await ground.row()

        await ground.look()

        row = await ground.row()
        assert (row.closed_at, row.observed) == (None, True)
        assert row.seen_at > before.seen_at

        await resume(ground.sessions, FailureMode.OUTAGE)
        await ground.look()

        row = await ground.row()
        assert (row.closed_at, row.observed, row.why_not) == (None, False, None)
        assert await ground.runs()

    async def test_it_stays_for_a_while_when_nobody_calls(self, ground: Ground) -> None:
        await pause(ground.sessions, FailureMode.OUTAGE)
        await ground.called(endpoint="notes.read")
        await ground.answered(count=100)
        await ground.look()
        await ground.forget_calls()

        await ground.look()

        row = await ground.row()
        assert row.closed_at is None

        async with ground.sessions.begin() as session:
            earlier = datetime.now(UTC) - timedelta(minutes=11)
            await session.execute(update(Outage).where(Outage.id == row.id).values(seen_at=earlier))
        await ground.look()

        row = await stored(ground.sessions, Outage, row.id)
        assert row.closed_reason == "it is not called any more"

    async def test_what_is_acted_on_already_is_let_alone(self, ground: Ground) -> None:
        await ground.called()
        await ground.look()
        await ground.end()
        await pause(ground.sessions, FailureMode.OUTAGE)

        await ground.look()

        row = await ground.row()
        assert (row.observed, row.closed_at) == (False, None)
        assert await ground.runs() is None


class TestReconcile:
    async def test_starts_a_detector_that_was_ended_by_hand(self, ground: Ground) -> None:
        await temporal.start_detector(ground.client)
        await ground.client.get_workflow_handle(DETECTOR).terminate()

        await ActivityEnvironment(client=ground.client).run(ReconcileActivities(ground.sessions, Terms()).outbox)

        assert await ground.run_of(DETECTOR)
