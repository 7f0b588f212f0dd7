"""What is said of outages, by rows: where each stands, and everything that is known of one."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import text, update

from integrations.db import calls, outage_status, outages
from integrations.db.outage_explain import explained
from integrations.db.outage_tables import Outage
from integrations.db.session import Sessions
from integrations.domain.call import Caller, ProviderCall
from integrations.domain.gate import Purpose
from integrations.domain.outage import Baseline, Brake, Ended, Scope, Step
from integrations.domain.outage_page import Explained, Standing
from integrations.domain.verdict import Meaning
from tests.outage_rows import FINDING, add_brake, add_outage, add_parked, close_outage


async def standing(sessions: Sessions) -> list[Standing]:
    async with sessions.begin() as session:
        return await outage_status.standing(session)


async def explain(sessions: Sessions, outage_id: UUID) -> Explained:
    async with sessions.begin() as session:
        found = await outage_status.one(session, outage_id)
    assert found is not None
    return await explained(sessions, found)


async def noted(sessions: Sessions, outage_id: UUID, *steps: tuple[Step, int]) -> None:
    async with sessions.begin() as session:
        for number, (step, percent) in enumerate(steps):
            what = f"{percent} % are let through"
            await outages.note(session, outage_id, f"{number}", step, what, percent=percent, rate=percent / 10)


async def aged(sessions: Sessions, outage_id: UUID, by: timedelta) -> None:
    async with sessions.begin() as session:
        for moment in ("opened_at", "closed_at"):
            await session.execute(
                text(f"UPDATE service_outages SET {moment} = {moment} - cast(:by AS interval) WHERE id = :id"),
                {"by": by, "id": outage_id},
            )


async def called(
    sessions: Sessions, at: datetime, outcome: Meaning, endpoint: str = "token", tenant: str = "org:acme"
) -> None:
    caller = Caller(tenant=tenant, connection_id=uuid4(), purpose=Purpose.REFRESH, attempt=1)
    made = ProviderCall(
        caller=caller,
        provider_id="simulator",
        endpoint=endpoint,
        outcome=outcome,
        rule="r",
        status=503,
        duration_ms=9,
        at=at,
    )
    async with sessions.begin() as session:
        await calls.add(session, [(uuid4().int >> 66, made)])


class TestOutagesThatStand:
    async def test_are_none_at_first(self, sessions: Sessions) -> None:
        assert await standing(sessions) == []

    async def test_tell_where_they_are_and_what_is_let_through(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions)
        await noted(sessions, outage_id, (Step.CONTAIN, 0), (Step.RAMP, 5), (Step.RAMP, 10))
        lease = datetime.now(UTC) + timedelta(minutes=1)
        await add_brake(sessions, outage_id, rate=1.25, lease_until=lease)
        await add_brake(sessions, outage_id, Brake.SHIELD)
        await add_brake(sessions, outage_id, Brake.CIRCUIT, name="x", rate=0.1, released_at=datetime.now(UTC))
        async with sessions.begin() as session:
            await outages.at(session, outage_id, Step.RAMP)

        [found] = await standing(sessions)

        assert (found.provider, found.scope, found.step, found.reach) == (
            "simulator",
            Scope.PROVIDER,
            Step.RAMP,
            "the whole provider",
        )
        assert (found.percent, found.rate, found.relapses, found.brakes) == (10, 1.25, 0, 2)
        assert found.lease_until == lease
        assert found.next == "runbook outage explain simulator"
        assert not found.is_forgotten(datetime.now(UTC))
        assert found.is_forgotten(lease + timedelta(seconds=1))

    async def test_count_how_often_they_went_back_to_the_trickle(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions)
        walked = [(Step.CONTAIN, 0), (Step.CONTAIN, 0), (Step.RAMP, 5), (Step.RAMP, 10), (Step.RAMP, 5)]
        back = [(Step.CONTAIN, 0), (Step.RAMP, 5), (Step.RAMP, 100), (Step.CONTAIN, 0)]
        await noted(sessions, outage_id, *walked, *back)

        assert [each.relapses for each in await standing(sessions)] == [2]

    async def test_count_the_jobs_that_wait_and_those_that_are_done(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions)
        ours = await add_outage(sessions, "ours", scope=Scope.OURS, names=("github", "slack"))
        long_ago = datetime.now(UTC) - timedelta(hours=2)
        await add_parked(sessions)
        await add_parked(sessions, parked_at=long_ago)
        await add_parked(sessions, settled_at=datetime.now(UTC), outcome="done")
        await add_parked(sessions, settled_at=datetime.now(UTC), outcome="blocked")
        await add_parked(sessions, parked_at=long_ago, settled_at=long_ago, outcome="done")
        await add_parked(sessions, provider_id="github")

        counted = {each.outage: (each.parked, each.done) for each in await standing(sessions)}

        assert counted == {outage_id: (2, 1), ours: (1, 0)}

    async def test_say_that_they_are_only_observed(self, sessions: Sessions) -> None:
        await add_outage(sessions, why_not="outage is paused by ada until 20:00 UTC: a release")

        [found] = await standing(sessions)

        assert (found.observed, found.next) == (True, "runbook automation")

    async def test_end_and_are_known_for_a_day(self, sessions: Sessions) -> None:
        old, late = await add_outage(sessions), None
        await close_outage(sessions, old)
        await aged(sessions, old, timedelta(hours=25))
        late = await add_outage(sessions)
        await close_outage(sessions, late, Ended.BY_HAND)
        still_open = await add_outage(sessions, "github")
        await aged(sessions, still_open, timedelta(days=3))

        found = await standing(sessions)

        assert [(each.outage, each.ended) for each in found] == [(still_open, None), (late, "by_hand")]
        assert found[1].next == f"runbook outage explain simulator --outage {late}"


class TestTheLastOfAProvider:
    async def test_is_the_open_one_before_a_later_one(self, sessions: Sessions) -> None:
        first = await add_outage(sessions)
        await close_outage(sessions, first)
        second = await add_outage(sessions)

        async with sessions.begin() as session:
            found = [await outage_status.last_of(session, name) for name in ("simulator", "github")]
        assert [each and each.outage for each in found] == [second, None]
        await close_outage(sessions, second)
        async with sessions.begin() as session:
            last = await outage_status.last_of(session, "simulator")
        assert last is not None
        assert last.outage == second

    async def test_may_be_our_own_way_out(self, sessions: Sessions) -> None:
        await close_outage(sessions, await add_outage(sessions))
        ours = await add_outage(sessions, "ours", scope=Scope.OURS, names=("github", "simulator"))

        async with sessions.begin() as session:
            found = await outage_status.last_of(session, "simulator")
        assert found is not None
        assert found.outage == ours


class TestAnExplanation:
    async def test_has_what_rows_know(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions)
        now = datetime.now(UTC)
        before = Baseline(since=now, until=now, rate=10, refreshes=100, refreshed=99, uses=50, used=50)
        async with sessions.begin() as session:
            await session.execute(update(Outage).values(baseline=before.model_dump(mode="json")))
        await noted(sessions, outage_id, (Step.CONTAIN, 0), (Step.RAMP, 5))
        await add_brake(sessions, outage_id)
        other = await add_outage(sessions, "github")
        await noted(sessions, other, (Step.CONTAIN, 0))
        await add_brake(sessions, other, provider_id="github")
        await add_parked(sessions)
        await add_parked(sessions, released_at=now)
        await add_parked(sessions, settled_at=now, outcome="done")

        found = await explain(sessions, outage_id)

        assert found.finding == FINDING
        assert found.baseline == before
        assert [each.percent for each in found.timeline] == [0, 5]
        assert [(each.brake, each.rate, each.put_by) for each in found.journal] == [("queue", 0.5, "outage:simulator")]
        assert found.parked == {"done": 1, "going on": 1, "parked": 1}
        assert "5, 10, 25, 50" not in found.following

    async def test_of_one_that_a_person_opened_has_no_finding(self, sessions: Sessions) -> None:
        found = await explain(sessions, await add_outage(sessions, finding=None, by="ada"))

        assert (found.finding, found.baseline, found.timeline, found.traffic) == (None, None, (), ())

    async def test_counts_calls_by_the_columns_of_its_chart(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions)
        await aged(sessions, outage_id, timedelta(minutes=10))
        async with sessions.begin() as session:
            opened = (await session.get_one(Outage, outage_id)).opened_at
        for seconds in (1, 2, 3):
            await called(sessions, opened + timedelta(seconds=seconds), Meaning.OUTAGE)
        await called(sessions, opened + timedelta(minutes=9, seconds=30), Meaning.THROTTLED)
        await called(sessions, opened + timedelta(minutes=9, seconds=30), Meaning.OK)
        await called(sessions, opened - timedelta(minutes=20), Meaning.OK)

        found = await explain(sessions, outage_id)

        assert found.traffic is not None
        assert [(each.calls, each.failing) for each in found.traffic] == [(3, 3), (2, 1)]
        # A chart of eleven minutes has a minute before the outage.
        assert [each.column for each in found.traffic] == [5, 57]

    async def test_counts_the_calls_of_its_scope_alone(self, sessions: Sessions) -> None:
        endpoint = await add_outage(sessions, scope=Scope.ENDPOINT, names=("token",))
        now = datetime.now(UTC)
        for place, tenant in (("token", "org:acme"), ("notes.write", "org:acme"), ("token", "org:other")):
            await called(sessions, now, Meaning.OUTAGE, place, tenant)

        by_scope = [(await explain(sessions, endpoint)).traffic]
        async with sessions.begin() as session:
            await session.execute(update(Outage).values(scope=Scope.TENANT, names=["org:other"]))
        by_scope.append((await explain(sessions, endpoint)).traffic)
        async with sessions.begin() as session:
            await session.execute(update(Outage).values(scope=Scope.ENDPOINT, names=["notes.write", "org:other"]))
        by_scope.append((await explain(sessions, endpoint)).traffic)

        assert [sum(each.calls for each in found or ()) for found in by_scope] == [2, 1, 2]

    async def test_of_one_that_is_closed_says_so(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions)
        await noted(sessions, outage_id, (Step.CONTAIN, 0))
        await close_outage(sessions, outage_id)

        found = await explain(sessions, outage_id)

        assert found.following.endswith("(healed, outage:simulator): calls succeed as before")
        assert [percent for _, percent in found.steps] == [0, 100]

    async def test_says_that_nobody_renews_its_brakes(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions)
        await add_brake(sessions, outage_id, lease_until=datetime.now(UTC) - timedelta(seconds=1))

        assert (await explain(sessions, outage_id)).following.startswith("Nobody renews its brakes")
