"""Many refreshes at one provider, through the activities, against a provider that refuses them."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from temporalio.testing import ActivityEnvironment

from activities.refresh import RefreshActivities
from integrations.db import surge
from integrations.db.ledger_tables import OutboxEvent
from integrations.db.session import Sessions
from integrations.db.surge_counts import Watched, count
from integrations.db.tables import Connection, Credential, GrantEvent, OperatorTask
from integrations.db.vault import Vault
from integrations.domain.refresh import Refresh, Refreshed, RefreshStep
from integrations.domain.surge import Limits
from integrations.providers.oauth import Providers
from tests.activities.connected import altered
from tests.factories import every
from tests.providers.person import Person
from tests.refresh.ground import add_due, at_several

AT_ONCE = 16
SMALL = "small"
INVALID_GRANT = {"kind": "status", "path": "/oauth/token", "status": 400, "body": {"error": "invalid_grant"}}
INVALID_CLIENT = {"kind": "status", "path": "/oauth/token", "status": 401, "body": {"error": "invalid_client"}}


class Crowd:
    """Connections with real grants, and what their refreshes lead to."""

    def __init__(self, sessions: Sessions, vault: Vault, person: Person) -> None:
        self.sessions, self.vault, self.person = sessions, vault, person
        self.accounts: dict[UUID, str] = {}

    async def joins(self, count: int, provider_id: str = "simulator") -> list[UUID]:
        ground = await add_due(self.sessions, self.vault, self.person.http, count, provider_id=provider_id)
        self.accounts |= ground.accounts
        return ground.ids

    async def breaks(self, order: dict[str, object]) -> None:
        """For everybody."""
        (await self.person.http.post("/admin/faults", json=order)).raise_for_status()

    async def revokes(self, ids: Sequence[UUID]) -> None:
        for each in ids:
            order = {"account_id": self.accounts[each]}
            (await self.person.http.post("/admin/grants/revoke", json=order)).raise_for_status()

    async def statuses(self) -> Counter[str]:
        return Counter(row.status for row in await every(self.sessions, Connection))

    async def tasks(self) -> list[OperatorTask]:
        return [row for row in await every(self.sessions, OperatorTask) if row.status != "closed"]


@pytest.fixture
def crowd(sessions: Sessions, vault: Vault, person: Person) -> Crowd:
    return Crowd(sessions, vault, person)


@pytest.fixture
def steps(sessions: Sessions, vault: Vault, providers: Providers) -> RefreshActivities:
    """Of a platform that knows two providers, one of them small."""
    return RefreshActivities(sessions, vault, at_several(providers, SMALL))


async def _all(ids: Sequence[UUID], one: Callable[[UUID], Awaitable[Refreshed]]) -> dict[UUID, Refreshed]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def in_turn(each: UUID) -> Refreshed:
        async with gate:
            return await one(each)

    return dict(zip(ids, await asyncio.gather(*map(in_turn, ids)), strict=True))


async def looked_at(steps: RefreshActivities, ids: Sequence[UUID]) -> dict[UUID, Refreshed]:
    return await _all(
        ids, lambda each: ActivityEnvironment().run(steps.refresh, RefreshStep(connection_id=each, known_version=None))
    )


async def swept(steps: RefreshActivities, ids: Sequence[UUID]) -> dict[UUID, Refreshed]:
    """Each refreshed, and what was refused looked at again, as the workflow does."""
    first = await looked_at(steps, ids)
    refused = [each for each, found in first.items() if found.refresh is Refresh.REFUSED]

    def again(each: UUID) -> Awaitable[Refreshed]:
        step = RefreshStep(connection_id=each, known_version=first[each].version, meaning=first[each].meaning)
        return ActivityEnvironment().run(steps.confirm, step)

    return first | await _all(refused, again)


def outcomes(found: dict[UUID, Refreshed]) -> Counter[Refresh]:
    return Counter(each.refresh for each in found.values())


class TestAHundredAtOnce:
    @pytest.mark.parametrize("order", [INVALID_CLIENT, INVALID_GRANT], ids=["invalid_client", "invalid_grant"])
    async def test_are_one_task_and_nobody_is_demoted(
        self, steps: RefreshActivities, crowd: Crowd, sessions: Sessions, order: dict[str, object]
    ) -> None:
        ids = await crowd.joins(100)
        await crowd.breaks(order)

        found = await swept(steps, ids)

        [task] = await crowd.tasks()
        assert outcomes(found) == {Refresh.SUSPECT: 100}
        assert await crowd.statuses() == {"active": 100}
        assert await every(sessions, GrantEvent) == []
        assert "100 of 100 connections" in task.cause
        assert [row.name for row in await every(sessions, OutboxEvent)] == ["refresh.surge"]
        assert {row.version for row in await every(sessions, Credential)} == {1}


class TestBelowIt:
    async def test_each_revocation_is_acted_on(
        self, steps: RefreshActivities, crowd: Crowd, sessions: Sessions
    ) -> None:
        few, many = await crowd.joins(3, SMALL), await crowd.joins(200)
        dead = [few[1], many[0], many[150]]
        await crowd.revokes(dead)

        found = await swept(steps, [*many, *few])

        detected = await every(sessions, GrantEvent)
        assert {row.connection_id for row in detected} == set(dead)
        assert {found[each].detection_id for each in dead} == {row.id for row in detected}
        assert outcomes(found) == {Refresh.REFRESHED: 200, Refresh.REFUSED: 3}
        assert await crowd.tasks() == []

    async def test_a_refused_registration_makes_each_errored(
        self, steps: RefreshActivities, crowd: Crowd, person: Person
    ) -> None:
        ids = await crowd.joins(4)
        await crowd.breaks(INVALID_CLIENT)

        found = await swept(steps, ids)

        assert outcomes(found) == {Refresh.OPERATOR_MUST_ACT: 4}
        assert await crowd.statuses() == {"errored": 4}
        assert {task.kind for task in await crowd.tasks()} == {"errored"}

    async def test_what_is_errored_already_is_no_news(
        self, steps: RefreshActivities, crowd: Crowd, sessions: Sessions
    ) -> None:
        old = await crowd.joins(4)
        await crowd.breaks(INVALID_CLIENT)
        await swept(steps, old)
        others = await crowd.joins(1)

        again = await looked_at(steps, old)
        async with sessions.begin() as session:
            known = await count(session, Watched("simulator", "Simulator", ""))
        found = await swept(steps, others)

        assert outcomes(again) == {Refresh.OPERATOR_MUST_ACT: 4}
        assert known.refused == 4
        assert outcomes(found) == {Refresh.SUSPECT: 1}  # the fifth within the window


class TestASurge:
    async def test_is_acted_on_by_nobody_at_the_same_moment(
        self, sessions: Sessions, vault: Vault, providers: Providers, crowd: Crowd
    ) -> None:
        """Two workers whose first looks nobody counted: no more are demoted than the threshold allows."""
        ids = await crowd.joins(40)
        await crowd.breaks(INVALID_GRANT)
        workers = [RefreshActivities(sessions, vault, providers) for _ in range(2)]

        async def confirmed(steps: RefreshActivities, part: Sequence[UUID]) -> dict[UUID, Refreshed]:
            step = lambda each: RefreshStep(connection_id=each, known_version=1)  # noqa: E731
            return await _all(part, lambda each: ActivityEnvironment().run(steps.confirm, step(each)))

        first, second = await asyncio.gather(confirmed(workers[0], ids[::2]), confirmed(workers[1], ids[1::2]))

        assert outcomes(first) + outcomes(second) == {Refresh.REFUSED: 4, Refresh.SUSPECT: 36}
        assert len(await every(sessions, GrantEvent)) == 4

    async def test_of_refused_grants_that_introspection_calls_alive_is_one_task_too(
        self, sessions: Sessions, vault: Vault, providers: Providers, crowd: Crowd, simulator_url: str
    ) -> None:
        asking = altered(providers, introspect_url=f"{simulator_url}/oauth/introspect")
        ids = await crowd.joins(20)
        await crowd.breaks(INVALID_GRANT)

        found = await swept(RefreshActivities(sessions, vault, asking), ids)

        [task] = await crowd.tasks()
        assert (task.kind, outcomes(found)) == ("surge", {Refresh.SUSPECT: 20})

    async def test_once_known_is_asked_about_once_for_each_connection(
        self, steps: RefreshActivities, crowd: Crowd, person: Person
    ) -> None:
        ids = await crowd.joins(10)
        await crowd.breaks(INVALID_CLIENT)
        await swept(steps, ids)

        again = await looked_at(steps, ids)

        assert outcomes(again) == {Refresh.SUSPECT: 10}

    async def test_ends_by_itself_when_refreshes_work_again(
        self, steps: RefreshActivities, crowd: Crowd, sessions: Sessions, person: Person
    ) -> None:
        ids = await crowd.joins(10)
        await crowd.breaks(INVALID_CLIENT)
        await swept(steps, ids)
        await person.heals()

        found = await swept(steps, ids)

        assert outcomes(found) == {Refresh.REFRESHED: 10}
        assert await crowd.tasks() == []
        assert [row.closed_by for row in await every(sessions, OperatorTask)] == ["RefreshWorkflow"]

    async def test_leaves_what_is_really_revoked_to_be_acted_on_after_it(
        self, steps: RefreshActivities, crowd: Crowd, sessions: Sessions, person: Person
    ) -> None:
        ids = await crowd.joins(20)
        await crowd.breaks(INVALID_GRANT)
        await swept(steps, ids)
        await person.heals()
        await crowd.revokes(ids[:2])

        found = await swept(steps, [*ids[2:], *ids[:2]])

        assert outcomes(found) == {Refresh.REFRESHED: 18, Refresh.REFUSED: 2}
        assert {row.connection_id for row in await every(sessions, GrantEvent)} == set(ids[:2])

    async def test_released_is_acted_on_one_by_one(
        self, steps: RefreshActivities, crowd: Crowd, sessions: Sessions
    ) -> None:
        ids = await crowd.joins(8)
        await crowd.revokes(ids)
        assert outcomes(await swept(steps, ids)) == {Refresh.SUSPECT: 8}
        async with sessions.begin() as session:
            await surge.release(session, "simulator", Limits(), by="ada", reason="the customer has left")

        found = await swept(steps, ids)

        assert outcomes(found) == {Refresh.REFUSED: 8}
        assert len(await every(sessions, GrantEvent)) == 8

    async def test_is_what_the_settings_call_so(
        self, sessions: Sessions, vault: Vault, providers: Providers, crowd: Crowd
    ) -> None:
        steps = RefreshActivities(
            sessions, vault, providers, Limits(window=timedelta(minutes=1), connections=2, share=50)
        )
        ids = await crowd.joins(2)
        await crowd.breaks(INVALID_CLIENT)

        found = await swept(steps, ids)

        [task] = await crowd.tasks()
        assert (outcomes(found), "in 1 min" in task.cause) == ({Refresh.SUSPECT: 2}, True)
