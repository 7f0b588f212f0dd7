"""What an outage's workflow decides, with scripted steps: hours of it in a second."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.testing import WorkflowEnvironment

from integrations import temporal
from integrations.domain.outage import Ended, Isolate, Limits, OutageRequest, OutageResult, Pin, Sample, Scope, Word
from integrations.domain.outage_steps import Look, Scoped, Tick, Validated
from tests.workflows.fake_outage import CIRCUIT, QUEUE, SHIELD, FakeOutage
from tests.workflows.fakes import workers
from worker.plugin import runbook_plugin
from workflows.outage import ProviderOutageWorkflow

PAUSED = "outage is paused by ada until 2026-11-30 12:00 UTC: their release"
ADA = Word(by="ada", reason="their status page says that it is over")
WHOLE = ["open", "scope", "contain", "shield", "probe", "5 %", "10 %", "25 %", "50 %", "100 %"]
END = ["replay", "validate", "close"]
BAD = Sample(calls=20, failing=15)
POOR = Sample(calls=20, failing=5)


def request(**changes: Any) -> OutageRequest:
    return OutageRequest(**({"provider_id": "simulator", "by": "outage-detector", "reason": "24 of 30"} | changes))


@asynccontextmanager
async def started(
    env: WorkflowEnvironment, fake: FakeOutage, cached: int = 100, **changes: Any
) -> AsyncIterator[WorkflowHandle[Any, OutageResult]]:
    async with workers(env.client, outage=fake, cached=cached):
        handle = await temporal.start_outage(env.client, request(**changes))
        yield handle
        if (await handle.describe()).close_time is None:
            await handle.terminate()


async def ended(env: WorkflowEnvironment, fake: FakeOutage, cached: int = 100, **changes: Any) -> OutageResult:
    async with started(env, fake, cached, **changes) as handle:
        return await asyncio.wait_for(handle.result(), 60)


async def until(true: Any) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.02)


class TestAnOutage:
    async def test_is_contained_probed_ramped_replayed_and_validated(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutage(parked=25)

        result = await ended(time_skipping, fake)

        assert result.ended is Ended.HEALED
        assert fake.did == [*WHOLE, "replay", "150 %", *END]
        # While it catches up there is room beside live traffic, which may need all of the rate before.
        assert fake.rates == [0.2, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0]
        assert fake.probes == 2 + Limits().probes
        # A little first: whoever waited longest finds out whether it works.
        assert fake.replayed == [1, 10, 14]

    async def test_goes_the_same_way_when_each_task_is_replayed_from_its_history(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeOutage(parked=3, samples=[Sample(calls=20), BAD])

        assert (await ended(time_skipping, fake, cached=0)).relapses == 1

    async def test_that_probes_do_not_confirm_is_closed_and_nothing_was_touched(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeOutage(scoped=[Scoped(scope=Scope.PROVIDER, why="2 probes were answered")])

        result = await ended(time_skipping, fake)

        assert (result.ended, result.why) == (Ended.UNFOUNDED, "2 probes were answered")
        assert fake.did == ["open", "scope", "close"]

    async def test_that_is_unclear_is_looked_at_again(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutage(scoped=[Scoped(scope=Scope.PROVIDER, why="1 of 2", clear=False)] * 2)

        assert (await ended(time_skipping, fake)).ended is Ended.HEALED

    async def test_that_stays_unclear_is_left_to_the_detector(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutage(scoped=[Scoped(scope=Scope.PROVIDER, why="1 of 2", clear=False, targets=(QUEUE,))] * 9)

        assert (await ended(time_skipping, fake)).ended is Ended.UNFOUNDED
        assert "contain" not in fake.did

    async def test_of_days_goes_on_in_runs_that_know_where_they_are(self, time_skipping: WorkflowEnvironment) -> None:
        # With a clock of its own a workflow may skip some two hundred times: here the waits are short instead.
        soon = timedelta(milliseconds=1)
        fake = FakeOutage(down_for=330, limits=Limits(probe_first=soon, probe_most=soon, step=soon))
        client = await Client.connect(
            time_skipping.client.service_client.config.target_host, plugins=[runbook_plugin()]
        )

        async with workers(client, outage=fake):
            handle = await temporal.start_outage(client, request())
            result = await asyncio.wait_for(handle.result(), 100)
            last = await client.get_workflow_handle(handle.id).describe()

        assert last.run_id != handle.result_run_id
        assert result.ended is Ended.HEALED
        # Contained once, whatever the number of runs.
        assert fake.did == [*WHOLE, *END]


class TestTheRamp:
    async def test_steps_down_by_itself(self, time_skipping: WorkflowEnvironment) -> None:
        fine = [Sample(calls=20)] * 6
        fake = FakeOutage(samples=[*fine, *fine, POOR])

        result = await ended(time_skipping, fake)

        assert fake.did[5:9] == ["5 %", "10 %", "25 %", "10 %"]
        assert (result.ended, result.relapses) == (Ended.HEALED, 0)

    async def test_that_relapses_is_contained_again(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutage(samples=[*[Sample(calls=20)] * 6, BAD])

        result = await ended(time_skipping, fake)

        assert fake.did == ["open", "scope", *WHOLE[2:7], *WHOLE[2:], *END]
        assert result.relapses == 1

    async def test_that_fails_at_its_first_step_is_contained_again(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutage(samples=[POOR])

        assert (await ended(time_skipping, fake)).relapses == 1

    @pytest.mark.parametrize("step", ["replay", "validate"])
    async def test_a_relapse_at_the_very_end_is_one_too(self, time_skipping: WorkflowEnvironment, step: str) -> None:
        until_there = [Sample(calls=20)] * 30
        fake = FakeOutage(samples=[*until_there, BAD], parked=step == "replay", validated=[step == "replay"])

        result = await ended(time_skipping, fake)

        assert (result.ended, result.relapses) == (Ended.HEALED, 1)

    async def test_goes_on_until_what_was_parked_has_its_turn_behind_a_day_that_became_busier(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        """Ten calls a second before, and forty by now: at half as much again nobody parked would ever be done."""
        fake = FakeOutage(parked=1, demand=40.0)

        result = await ended(time_skipping, fake)

        assert result.ended is Ended.HEALED
        assert fake.rates[-4:] == [15.0, 22.5, 33.7, 50.5]

    async def test_waits_for_refreshes_that_were_put_off(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutage(down_for=0, parked=1, late=3)

        async with started(time_skipping, fake) as handle:
            await asyncio.wait_for(handle.result(), 60)
            history = str((await handle.fetch_history()).to_json())

        # The job is done at the second look; nothing is made due twice.
        assert history.count("outage.replay") == 4
        assert fake.begun == 1

    async def test_stays_open_until_it_is_as_before(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutage(validated=[False, False])

        async with started(time_skipping, fake) as handle:
            result = await asyncio.wait_for(handle.result(), 60)
            history = await handle.fetch_history()

        assert result.ended is Ended.HEALED
        assert str(history.to_json()).count("outage.validate") == 3

    async def test_is_validated_by_all_calls_since_everything_is_let_through(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        asked: list[Tick] = []

        class Silent(FakeOutage):
            @activity.defn(name="outage.validate")
            async def validate(self, tick: Tick) -> Validated:
                """What failed is not called again: time alone proves nothing."""
                asked.append(tick)
                return Validated(passed=len(asked) > 50, why="0 of 10 connections fine")

        await ended(time_skipping, Silent(down_for=0))

        # 50 looks, 5 s apart each.
        assert {each.since for each in asked} == {asked[0].since}
        assert asked[0].progress.paced_at is not None
        assert asked[0].since <= asked[0].progress.paced_at

    async def test_of_few_calls_remembers_which_of_them_failed(self, time_skipping: WorkflowEnvironment) -> None:
        """One call in five minutes, and it fails each time, though probes are fine: nothing there is quiet."""

        class Rare(FakeOutage):
            @activity.defn(name="outage.sample")
            async def sample(self, tick: Tick) -> Look:
                apart, paced_at = timedelta(minutes=5), tick.progress.paced_at
                if paced_at is None or tick.step_since is None or self.did.count("contain") > 1:
                    return Look(sample=Sample(calls=20))
                failing = (activity.info().scheduled_time - paced_at) // apart
                failing += (paced_at - tick.step_since) // apart + 1
                return Look(whole=Sample(calls=failing, failing=failing))

        fake = Rare(down_for=0, limits=Limits(step=timedelta(seconds=90)))

        result = await ended(time_skipping, fake)

        assert (result.ended, result.relapses) == (Ended.HEALED, 1)
        assert fake.did == ["open", "scope", *WHOLE[2:6], *WHOLE[2:], *END]

    async def test_what_reaches_further_is_contained_as_well(self, time_skipping: WorkflowEnvironment) -> None:
        first = Scoped(scope=Scope.ENDPOINT, names=("notes.read",), targets=(CIRCUIT,), why="notes.read fails")
        whole = Scoped(scope=Scope.PROVIDER, targets=(QUEUE, SHIELD), why="now everything fails")
        fake = FakeOutage(scoped=[first], wider=[whole])

        result = await ended(time_skipping, fake)

        assert fake.did.count("contain") == 2
        assert fake.closed is not None
        assert fake.closed.progress.targets == (CIRCUIT, QUEUE, SHIELD)
        assert result.relapses == 0


class TestAProbe:
    async def test_that_is_asked_to_wait_waits(self, time_skipping: WorkflowEnvironment) -> None:
        """W15: a Retry-After counts, also of a 503, and no failure makes the next look come sooner."""
        fake = FakeOutage(down_for=3, asks=timedelta(minutes=10))

        async with started(time_skipping, fake) as handle:
            await asyncio.wait_for(handle.result(), 60)
            found = await handle.describe()

        assert found.close_time is not None
        assert found.close_time - found.start_time > timedelta(minutes=30)

    async def test_waits_longer_each_time_it_fails(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutage(down_for=5)

        async with started(time_skipping, fake) as handle:
            await asyncio.wait_for(handle.result(), 60)
            times = [
                event.event_time.ToDatetime()
                async for event in handle.fetch_history_events()
                if event.activity_task_scheduled_event_attributes.activity_type.name == "outage.probe"
            ]

        apart = [(after - before).total_seconds() for before, after in itertools.pairwise(times)]
        # Those that are fine are met sooner. What the machine itself takes between two is no part of the wait.
        assert apart == pytest.approx([15, 30, 60, 120, 120, 15, 15], abs=5)

    async def test_is_no_success_when_nobody_heard_its_end(self, time_skipping: WorkflowEnvironment) -> None:
        class Deaf(FakeOutage):
            pass

        fake = Deaf(down_for=0)
        asked = FakeOutage.probe

        tried = 0

        async def lost_once(tick: Any) -> Any:
            nonlocal tried
            tried += 1
            if tried == 2:
                raise RuntimeError("the worker went away")
            return await asked(fake, tick)

        fake.probe = activity.defn(name="outage.probe")(lost_once)  # type: ignore[method-assign]
        result = await ended(time_skipping, fake)

        assert result.ended is Ended.HEALED
        # One was fine, one lost: three more in a row were needed.
        assert tried == 5

    async def test_that_nothing_can_answer_lets_a_little_through_in_the_end(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        """An endpoint that only writes, and whose callers are all parked."""
        fake = FakeOutage(is_mute=True, samples=[Sample()] * 3)

        async with started(time_skipping, fake) as handle:
            result = await asyncio.wait_for(handle.result(), 60)
            found = await handle.describe()

        assert result.ended is Ended.HEALED
        assert found.close_time is not None
        assert found.close_time - found.start_time > Limits().step_quiet

    async def test_comes_no_sooner_for_what_is_contained_already(self, time_skipping: WorkflowEnvironment) -> None:
        whole = Scoped(scope=Scope.PROVIDER, targets=(QUEUE, SHIELD), why="everything fails")
        fake = FakeOutage(down_for=4, reaches=whole)

        async with started(time_skipping, fake) as handle:
            await asyncio.wait_for(handle.result(), 60)

        assert fake.did.count("contain") == 1
        assert min(after - before for before, after in itertools.pairwise(fake.asked)) >= Limits().probe_first

    async def test_of_our_own_way_out_goes_on_without_who_stays_silent(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        other = QUEUE.model_copy(update={"provider_id": "github"})
        first = Scoped(scope=Scope.OURS, names=("github", "simulator"), targets=(QUEUE, SHIELD, other), why="ours")
        fake = FakeOutage(down_for=0, scoped=[first], silent=["github"])

        result = await ended(time_skipping, fake, provider_id="ours")

        assert "drop github" in fake.did
        assert fake.closed is not None
        assert fake.closed.progress.targets == (QUEUE, SHIELD)
        assert result.ended is Ended.HEALED


class Paused(FakeOutage):
    """Somebody pauses when the ramp is at a quarter."""

    def _let(self, tick: Tick) -> None:
        super()._let(tick)
        if tick.progress.percent == 25 and len(self.rates) == 4:
            self.why_not = PAUSED


class TestWhileThePlatformMayNotAct:
    async def test_a_rate_stays_as_it_is(self, time_skipping: WorkflowEnvironment) -> None:
        fake = Paused(parked=1, wider=[None] * 14 + [Scoped(scope=Scope.PROVIDER, targets=(QUEUE, SHIELD), why="all")])

        async with started(time_skipping, fake) as handle:
            await until(lambda: fake.why_not)
            kept = fake.kept
            await until(lambda: fake.kept > kept + 15)
            assert fake.did[-1] == "25 %"
            assert PAUSED in (await handle.query("__temporal_workflow_metadata")).current_details

            fake.why_not = None
            result = await asyncio.wait_for(handle.result(), 60)

        assert result.ended is Ended.HEALED
        assert fake.did[-len(END) :] == END
        assert fake.did[:9] == [*WHOLE[:8], "50 %"]

    async def test_nobody_is_probed(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutage(down_for=10_000)

        async with started(time_skipping, fake) as handle:
            await until(lambda: fake.probes)
            fake.why_not = PAUSED
            fake.reaches = Scoped(scope=Scope.ENDPOINT, targets=(CIRCUIT,), why="it reaches further")
            kept = fake.kept
            await until(lambda: fake.kept > kept + 2)
            kept, probes = fake.kept, fake.probes
            await until(lambda: fake.kept > kept + 15)
            assert (fake.probes, fake.did.count("contain")) == (probes, 1)

            fake.down_for, fake.why_not = 0, None
            result = await asyncio.wait_for(handle.result(), 60)

        assert result.ended is Ended.HEALED
        assert fake.did.count("contain") == 2

    async def test_what_people_say_is_done(self, time_skipping: WorkflowEnvironment) -> None:
        fake = Paused()

        async with started(time_skipping, fake) as handle:
            await until(lambda: fake.why_not)
            await handle.execute_update(ProviderOutageWorkflow.pin, Pin(by="ada", reason="a fixed quota", rate=3))
            await until(lambda: fake.rates[-1] == 3.0)
            await handle.execute_update(ProviderOutageWorkflow.close, ADA)
            result = await asyncio.wait_for(handle.result(), 60)

        assert result.ended is Ended.BY_HAND


class TestPeople:
    async def test_close_it_early(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutage(down_for=10_000)
        async with started(time_skipping, fake) as handle:
            await until(lambda: fake.probes)

            said = await handle.execute_update(ProviderOutageWorkflow.close, ADA)
            result = await asyncio.wait_for(handle.result(), 60)

        assert "closed" in said
        assert (result.ended, result.why) == (Ended.BY_HAND, ADA.reason)
        assert fake.closed is not None
        assert fake.closed.word == ADA
        assert fake.did[-1] == "close"

    async def test_cancel_it_as_every_workflow(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutage(down_for=10_000)
        async with started(time_skipping, fake) as handle:
            await until(lambda: fake.probes)
            await handle.cancel()
            result = await asyncio.wait_for(handle.result(), 60)

        assert result.ended is Ended.BY_HAND
        assert fake.did[-1] == "close"

    async def test_pin_a_rate_that_nothing_changes_until_it_is_taken_off(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeOutage(down_for=1)
        async with started(time_skipping, fake) as handle:
            await until(lambda: fake.probes)
            pin = Pin(by="ada", reason="a fixed quota", rate=2, hold=timedelta(days=7))
            await handle.execute_update(ProviderOutageWorkflow.pin, pin)
            await until(lambda: fake.rates[-1] == 2.0)
            probes, kept = fake.probes, fake.kept
            await until(lambda: fake.kept > kept + 20)
            assert fake.probes <= probes + 1
            assert fake.rates[-1] == 2.0

            await handle.execute_update(ProviderOutageWorkflow.unpin, ADA)
            result = await asyncio.wait_for(handle.result(), 60)

        assert result.ended is Ended.HEALED
        assert fake.rates[-1] == 10.0

    async def test_pin_nothing_while_nothing_is_contained(self, time_skipping: WorkflowEnvironment) -> None:
        """There is no rate to hold yet, and it may prove to be unfounded: who was told "pinned" would wait in vain."""
        vague = Scoped(scope=Scope.PROVIDER, why="1 of 2", clear=False)
        handle = await temporal.start_outage(time_skipping.client, request())
        pin = Pin(by="ada", reason="slowly", rate=2)
        said = [
            asyncio.create_task(handle.execute_update(ProviderOutageWorkflow.pin, pin)),
            asyncio.create_task(handle.execute_update(ProviderOutageWorkflow.unpin, ADA)),
        ]
        await asyncio.sleep(0.5)
        fake = FakeOutage(down_for=0, scoped=[vague] * 2)

        async with workers(time_skipping.client, outage=fake):
            for each in said:
                with pytest.raises(WorkflowUpdateFailedError) as refused:
                    await asyncio.wait_for(each, 20)
                assert "nothing is contained yet" in str(refused.value.cause)
            result = await asyncio.wait_for(handle.result(), 60)

        # It did not cut the second look short either.
        assert result.ended is Ended.HEALED

    async def test_forget_a_pin_and_it_is_over_by_itself(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutage(down_for=1)
        async with started(time_skipping, fake) as handle:
            await until(lambda: fake.probes)
            said = await handle.execute_update(
                ProviderOutageWorkflow.pin, Pin(by="ada", reason="a fixed quota", rate=0, hold=timedelta(minutes=20))
            )
            result = await asyncio.wait_for(handle.result(), 60)
            found = await handle.describe()

        assert "pinned at 0 calls/s until " in said
        assert result.ended is Ended.HEALED
        assert fake.rates[-1] == 10.0
        assert found.close_time is not None
        assert found.close_time - found.start_time > timedelta(minutes=20)

    async def test_pin_no_rate_without_an_end(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutage(down_for=10_000)
        async with started(time_skipping, fake) as handle:
            await until(lambda: fake.probes)
            for more in ({"rate": float("inf")}, {"rate": 2, "hold": "P8D"}, {"rate": 2, "hold": "PT0S"}):
                with pytest.raises(WorkflowUpdateFailedError):
                    await handle.execute_update("pin", {"by": "ada", "reason": "a fixed quota"} | more)

    async def test_see_what_reaches_further_contained_beside_their_pin(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        first = Scoped(scope=Scope.ENDPOINT, names=("notes.read",), targets=(CIRCUIT,), why="notes.read fails")
        fake = FakeOutage(down_for=10_000, scoped=[first])
        async with started(time_skipping, fake) as handle:
            await until(lambda: fake.probes)
            await handle.execute_update(ProviderOutageWorkflow.pin, Pin(by="ada", reason="a fixed quota", rate=2))
            fake.reaches = Scoped(scope=Scope.PROVIDER, targets=(QUEUE, SHIELD), why="now everything fails")
            await until(lambda: fake.did.count("contain") == 2)
            await handle.execute_update(ProviderOutageWorkflow.close, ADA)
            await asyncio.wait_for(handle.result(), 60)

        assert fake.closed is not None
        assert fake.closed.progress.targets == (CIRCUIT, QUEUE, SHIELD)

    async def test_isolate_what_they_know_better(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutage(down_for=10_000)
        async with started(time_skipping, fake) as handle:
            await until(lambda: fake.probes)
            wish = Isolate(by="ada", reason="they say so", endpoint="notes.read")
            await handle.execute_update(ProviderOutageWorkflow.isolate, wish)
            await until(lambda: fake.did.count("contain") == 2)

        assert fake.wishes == [wish]

    async def test_hold_one_that_is_open_for_as_long_as_they_say(self, time_skipping: WorkflowEnvironment) -> None:
        """Also where what they name is contained already, and the ramp has begun."""
        first = Scoped(scope=Scope.ENDPOINT, names=("notes.read",), targets=(CIRCUIT,), why="notes.read fails")
        fake = FakeOutage(down_for=0, scoped=[first], samples=[Sample()] * 10_000)
        async with started(time_skipping, fake) as handle:
            await until(lambda: "5 %" in fake.did)
            for hold in (timedelta(minutes=20), timedelta(minutes=1)):
                wish = Isolate(by="ada", reason="they say so", endpoint="notes.read", hold=hold)
                said = await handle.execute_update(ProviderOutageWorkflow.isolate, wish)
            began = len(fake.did)
            result = await asyncio.wait_for(handle.result(), 60)
            found = await handle.describe()

        assert "all of it stays so until" in said
        assert result.ended is Ended.HEALED
        assert "contain" in fake.did[began - 1 :]
        assert found.close_time is not None
        assert found.close_time - found.start_time > timedelta(minutes=20)

    async def test_hold_it_for_as_long_as_they_say(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeOutage(down_for=0)

        async with started(time_skipping, fake, by="ada", hold=timedelta(minutes=20)) as handle:
            result = await asyncio.wait_for(handle.result(), 60)
            found = await handle.describe()

        assert result.ended is Ended.HEALED
        assert found.close_time is not None
        assert found.close_time - found.start_time > timedelta(minutes=20)

    @pytest.mark.parametrize(
        ("update", "word"),
        [
            (ProviderOutageWorkflow.close, Word(by=" ", reason="x")),
            (ProviderOutageWorkflow.unpin, Word(by="ada", reason=" ")),
            (ProviderOutageWorkflow.pin, Pin(by="ada", reason=" ", rate=1)),
            (ProviderOutageWorkflow.isolate, Isolate(by="ada", reason="x", endpoint="a", tenant="org:b")),
            (ProviderOutageWorkflow.isolate, Isolate(by="ada", reason="x", tenant="acme")),
        ],
    )
    async def test_are_asked_who_they_are_and_why(
        self, time_skipping: WorkflowEnvironment, update: Any, word: Word
    ) -> None:
        async with started(time_skipping, FakeOutage(down_for=10_000)) as handle:
            with pytest.raises(WorkflowUpdateFailedError):
                await handle.execute_update(update, word)


async def test_what_it_does_can_be_read_in_its_details(time_skipping: WorkflowEnvironment) -> None:
    fake = FakeOutage(down_for=10_000)
    async with started(time_skipping, fake) as handle:
        await until(lambda: fake.probes > 1)
        told = await handle.query("__temporal_workflow_metadata")
        found = await handle.describe()

    details = str(told)
    assert "runbook outage explain simulator" in details
    assert "the queue of simulator" in details
    assert found.typed_search_attributes.get(temporal.STEP) == "hold"
