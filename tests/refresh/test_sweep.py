"""A sweep as production runs it: two workers, four providers, hundreds of connections, and what people are promised."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio.client import Client
from temporalio.service import RPCError

from activities.reconcile_kit import is_running
from integrations import temporal
from integrations.db.session import Sessions
from integrations.db.surge_tables import RefreshRefusal
from integrations.db.tables import GrantEvent, OperatorTask, Transition
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.refresh import Refresh, Refreshed, RefreshRequest, Swept
from tests.factories import every
from tests.providers.person import Person
from tests.refresh.conftest import SERVED, Working
from tests.refresh.ground import Due, active, add_due, statuses
from workflows.queues import WORKFLOWS
from workflows.refresh_sweep import RefreshSweepWorkflow

_WITHIN = 60.0
"""Seconds from a refusal to the lifecycle that asks the owner."""


async def sweep(client: Client) -> Swept:
    """What the Schedule does each minute, and not while the run of a test before is just ending: it would be joined."""
    for each in SERVED:
        for _ in range(50):
            if not await is_running(client, f"refresh:{each}"):
                break
            await asyncio.sleep(0.1)
    handle = await client.start_workflow(RefreshSweepWorkflow.run, id=f"refresh-sweep-{uuid4()}", task_queue=WORKFLOWS)
    return await asyncio.wait_for(handle.result(), 30)


async def until(true: Callable[[], object], what: str, within: float = _WITHIN) -> float:
    """How long it took, in seconds, until an awaitable's answer was true."""
    start = time.monotonic()
    while not await true():  # type: ignore[misc]
        assert time.monotonic() - start < within, f"not within {within:g} s: {what}"
        await asyncio.sleep(0.2)
    return time.monotonic() - start


async def refreshed(sessions: Sessions, ground: Due) -> int:
    rows = await active(sessions)
    return sum(rows[each].version == 2 for each in ground.ids)


async def ended(client: Client, *providers: str) -> None:
    for each in providers:
        try:
            await client.get_workflow_handle(f"refresh:{each}").terminate()
        except RPCError:
            continue


class TestASweep:
    async def test_finds_the_revoked_and_lets_nobody_wait_for_anothers_provider(
        self, working: Working, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        """500 connections: 1 of 3 revoked at a small provider, 2 of 200 at a large one, and one provider that hangs."""
        small = await add_due(sessions, vault, person.http, 3, provider_id="small")
        large = await add_due(sessions, vault, person.http, 200, provider_id="large")
        others = await add_due(sessions, vault, person.http, 267)
        slow = await add_due(sessions, vault, person.http, 30, provider_id="slow")
        dead = {small.ids[1], large.ids[20], large.ids[150]}
        await small.revoke(small.ids[1])
        await large.revoke(large.ids[20], large.ids[150])
        await slow.breaks(*slow.ids, kind="hang")

        await sweep(client)

        async def the_others_are_done() -> bool:
            found = [await refreshed(sessions, ground) for ground in (small, large, others)]
            return found == [2, 198, 267]

        assert await until(the_others_are_done, "the other providers' refreshes") < 20
        assert await refreshed(sessions, slow) == 0

        async def are_demoted() -> bool:
            found = await statuses(sessions)
            return {each for each, status in found.items() if status == Status.PENDING_REAUTH} == dead

        await until(are_demoted, "the owners of what was revoked are asked")
        await person.heals()
        await ended(client, "slow")
        assert {row.to_status for row in await every(sessions, Transition)} == {Status.PENDING_REAUTH}
        assert {row.connection_id for row in await every(sessions, OperatorTask)} == dead

    async def test_that_finds_nothing_starts_nothing(
        self, working: Working, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        await add_due(sessions, vault, person.http, 2, overdue=-timedelta(minutes=1))

        assert await sweep(client) == Swept(due={})


class TestASurge:
    @pytest.mark.parametrize("answer", [(401, "invalid_client"), (400, "invalid_grant")], ids=lambda each: each[1])
    async def test_is_one_task_and_demotes_nobody(
        self,
        working: Working,
        client: Client,
        sessions: Sessions,
        vault: Vault,
        person: Person,
        answer: tuple[int, str],
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 500, provider_id="large")
        status, error = answer
        await ground.breaks(kind="status", status=status, body={"error": error})

        await sweep(client)

        async def all_are_held_back() -> bool:
            return len([row for row in await every(sessions, RefreshRefusal) if row.held_at]) == 500

        await until(all_are_held_back, "each is looked at twice, or found to be one of a surge")
        [task] = await every(sessions, OperatorTask)
        assert (task.provider_id, task.kind, task.status) == ("large", "surge", "open")
        assert "500 of 500 connections" in task.cause
        assert f"most often {status} {error} (500)" in task.cause
        assert set((await statuses(sessions)).values()) == {Status.ACTIVE}
        assert await every(sessions, GrantEvent) == []
        assert await every(sessions, Transition) == []


class TestTwentyTriggers:
    async def test_at_two_workers_are_one_refresh(
        self, working: Working, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        """A sweep, operators' commands and API calls that were told 401, all for the same version at the same time."""
        ground = await add_due(sessions, vault, person.http, 1)
        [connection_id] = ground.ids

        async def trigger(number: int) -> Refreshed:
            request = RefreshRequest(
                connection_id=connection_id,
                provider_id="simulator",
                tenant="org:acme",
                by=f"trigger {number}",
                reason="401",
                known_version=1,
            )
            handle = client.get_workflow_handle(
                (await temporal.start_refresh(client, request)).id, result_type=Refreshed
            )
            return await asyncio.wait_for(handle.result(), 30)

        results = await asyncio.gather(sweep(client), *(trigger(number) for number in range(20)))

        assert len(await ground.asked()) == 1
        assert (await active(sessions))[connection_id].version == 2
        told = {each.refresh for each in results if isinstance(each, Refreshed)}
        assert told <= {Refresh.REFRESHED, Refresh.ROTATED_MEANWHILE}


class TestOneThatLeft:
    async def test_is_refreshed_by_itself_once_its_trouble_ends(
        self, working: Working, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 12)
        await ground.breaks(ground.ids[3], kind="status", status=503, count=2)

        await sweep(client)

        async def all_are_refreshed() -> bool:
            return await refreshed(sessions, ground) == 12

        await until(all_are_refreshed, "the one that met trouble twice", within=30)
        assert set((await statuses(sessions)).values()) == {Status.ACTIVE}
        assert await every(sessions, GrantEvent) == []

    async def test_after_a_lost_rotation_survives_where_the_provider_forgives(
        self, working: Working, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 2)
        await ground.breaks(ground.ids[0], kind="drop", count=1)

        await sweep(client)

        async def both_are_refreshed() -> bool:
            return await refreshed(sessions, ground) == 2

        await until(both_are_refreshed, "the one whose answer was lost", within=30)
        assert set((await statuses(sessions)).values()) == {Status.ACTIVE}
