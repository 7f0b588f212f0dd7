"""Refreshes that are refused under a shield, against the simulator: not believed, not counted, asked again after it."""

from collections.abc import Sequence
from uuid import UUID

import pytest
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities.refresh import RefreshActivities
from activities.refresh_sweep import RefreshSweepActivities
from integrations.db.automation_tables import WouldHaveDone
from integrations.db.session import Sessions
from integrations.db.surge_tables import RefreshRefusal
from integrations.db.tables import Connection, Credential, GrantEvent, OperatorTask, Transition
from integrations.db.vault import Vault
from integrations.domain.automation import Step
from integrations.domain.reauth import Terms
from integrations.domain.refresh import Chunk, ChunkStep, Refresh, RefreshStep
from integrations.providers.oauth import Providers
from tests.activities.connected import altered
from tests.activities.test_surge import INVALID_CLIENT, INVALID_GRANT, Crowd, crowd, looked_at, outcomes, swept
from tests.factories import every
from tests.providers.person import Person
from tests.shielded import lift, put_up

__all__ = ["crowd"]


@pytest.fixture
def steps(sessions: Sessions, vault: Vault, providers: Providers) -> RefreshActivities:
    return RefreshActivities(sessions, vault, providers)


async def untouched(sessions: Sessions, ids: Sequence[UUID]) -> bool:
    kinds = (Transition, GrantEvent, OperatorTask, RefreshRefusal)
    active = [row.id for row in await every(sessions, Connection, status="active")]
    return sorted(active) == sorted(ids) and not [each for kind in kinds for each in await every(sessions, kind)]


class TestARefusal:
    @pytest.mark.parametrize(
        ("order", "step"),
        [(INVALID_GRANT, Step.BLOCK), (INVALID_CLIENT, Step.ERRORED)],
        ids=["invalid_grant", "invalid_client"],
    )
    async def test_of_a_hundred_is_set_aside_at_the_first_look_and_calls_nobody(
        self, steps: RefreshActivities, crowd: Crowd, sessions: Sessions, order: dict[str, object], step: Step
    ) -> None:
        """Not even the operators: whom a shield is over is looked after already."""
        ids = await crowd.joins(100)
        await crowd.breaks(order)
        await put_up(sessions)

        found = await swept(steps, ids)

        assert outcomes(found) == {Refresh.SET_ASIDE: 100}
        assert "set aside, shielded: outage of simulator since" in found[ids[0]].why
        assert await untouched(sessions, ids)
        assert {row.step for row in await every(sessions, WouldHaveDone)} == {step}

    async def test_whose_second_look_comes_under_the_shield_is_set_aside_too(
        self, steps: RefreshActivities, crowd: Crowd, sessions: Sessions
    ) -> None:
        [each] = await crowd.joins(1)
        await crowd.revokes([each])
        first = (await looked_at(steps, [each]))[each]
        await put_up(sessions)

        second = await ActivityEnvironment().run(
            steps.confirm, RefreshStep(connection_id=each, known_version=first.version, meaning=first.meaning)
        )

        assert (first.refresh, second.refresh) == (Refresh.REFUSED, Refresh.SET_ASIDE)
        assert await every(sessions, GrantEvent) == []

    async def test_that_introspection_denies_opens_no_task(
        self, sessions: Sessions, vault: Vault, providers: Providers, crowd: Crowd, simulator_url: str
    ) -> None:
        asking = altered(providers, introspect_url=f"{simulator_url}/oauth/introspect")
        [each] = await crowd.joins(1)
        await put_up(sessions)

        steps = RefreshActivities(sessions, vault, asking)
        found = await ActivityEnvironment().run(steps.confirm, RefreshStep(connection_id=each, known_version=1))

        assert found.refresh is Refresh.SET_ASIDE
        assert [row.step for row in await every(sessions, WouldHaveDone)] == [Step.CONTEST]
        assert await every(sessions, OperatorTask) == []

    async def test_gives_its_lease_back(self, steps: RefreshActivities, crowd: Crowd, sessions: Sessions) -> None:
        ids = await crowd.joins(1)
        await crowd.breaks(INVALID_GRANT)
        await put_up(sessions)

        assert outcomes(await looked_at(steps, ids)) == {Refresh.SET_ASIDE: 1}
        assert outcomes(await looked_at(steps, ids)) == {Refresh.SET_ASIDE: 1}

    async def test_that_works_all_the_same_is_stored(
        self, steps: RefreshActivities, crowd: Crowd, sessions: Sessions
    ) -> None:
        ids = await crowd.joins(3)
        await put_up(sessions)

        assert outcomes(await looked_at(steps, ids)) == {Refresh.REFRESHED: 3}


class TestASweep:
    async def test_sets_aside_what_is_refused_and_starts_nothing_for_it(
        self,
        time_skipping: WorkflowEnvironment,
        sessions: Sessions,
        vault: Vault,
        providers: Providers,
        crowd: Crowd,
    ) -> None:
        ids = await crowd.joins(10)
        await crowd.revokes(ids[:6])
        await put_up(sessions)
        sweep = RefreshSweepActivities(sessions, vault, providers, Terms())
        at_it = ActivityEnvironment(client=time_skipping.client)

        chunk = await at_it.run(sweep.chunk, ChunkStep(provider_id="simulator"))

        assert chunk == Chunk(taken=10, refreshed=4, left=0, held=6)
        assert await untouched(sessions, ids)


class TestAfterIt:
    async def test_who_was_really_revoked_is_found_and_nobody_else(
        self, steps: RefreshActivities, crowd: Crowd, sessions: Sessions, person: Person
    ) -> None:
        ids = await crowd.joins(30)
        await crowd.breaks(INVALID_GRANT)
        outage_id = await put_up(sessions)
        await swept(steps, ids)
        await crowd.revokes(ids[:2])
        await person.heals()

        assert await lift(sessions, outage_id) == 30
        found = await swept(steps, ids)

        assert outcomes(found) == {Refresh.REFRESHED: 28, Refresh.REFUSED: 2}
        assert {row.connection_id for row in await every(sessions, GrantEvent)} == set(ids[:2])
        assert len([row for row in await every(sessions, Credential, state="active") if row.version == 2]) == 28

    async def test_who_is_still_refused_by_the_way_of_many_is_a_surge(
        self, steps: RefreshActivities, crowd: Crowd, sessions: Sessions
    ) -> None:
        ids = await crowd.joins(30)
        await crowd.breaks(INVALID_CLIENT)
        outage_id = await put_up(sessions)
        await swept(steps, ids)

        await lift(sessions, outage_id)

        assert outcomes(await swept(steps, ids)) == {Refresh.SUSPECT: 30}
        assert [task.kind for task in await crowd.tasks()] == ["surge"]
