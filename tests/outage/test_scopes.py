"""How far an outage reaches, and what is done about that and nothing else. Real providers that break, real traffic."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from integrations.db.outage_tables import Outage
from integrations.db.session import Sessions
from integrations.db.tables import Connection, Transition
from integrations.db.vault import Vault
from integrations.domain.automation import Conduct, FailureMode
from integrations.domain.connection import Status
from integrations.domain.outage import Brake, Ended, Scope, Word
from tests.automated import conduct, pause, resume
from tests.factories import every
from tests.outage.conftest import TENANTS
from tests.outage.ground import Ground, until
from tests.refresh.ground import Due, add_due, statuses
from workflows.outage import ProviderOutageWorkflow

pytestmark = [pytest.mark.usefixtures("detector"), pytest.mark.timeout(240)]


async def connections(
    ground: Ground, sessions: Sessions, vault: Vault, provider_id: str = "simulator", count: int = 30
) -> Due:
    return await add_due(
        sessions,
        vault,
        ground.http,
        count,
        provider_id=provider_id,
        overdue=-timedelta(hours=1),
        tenants=TENANTS,
    )


async def opened(ground: Ground, provider_id: str = "simulator") -> Outage:
    async def is_there() -> bool:
        return any(each.provider_id == provider_id for each in await ground.outages())

    await until(is_there, "an outage is found", 40)
    return next(each for each in await ground.outages() if each.provider_id == provider_id)


def on(journal: Sequence[Any], provider_id: str = "simulator") -> set[tuple[str, str]]:
    return {(each.brake, each.name) for each in journal if each.provider_id == provider_id and not each.released_at}


async def of_tenant(sessions: Sessions, due: Due, tenant: str) -> list[UUID]:
    rows = await every(sessions, Connection)
    return [row.id for row in rows if row.id in due.accounts and row.tenant == tenant]


@pytest.mark.chaos
async def test_one_endpoint_alone_is_contained_and_comes_back(ground: Ground, sessions: Sessions, vault: Vault) -> None:
    due = await connections(ground, sessions, vault)
    await ground.went_on_before(6)
    async with ground.traffic(due.ids, jobs=8, refreshes=2, capabilities=("notes.read", "profile.read")) as jobs:
        await asyncio.sleep(2)
        await ground.breaks(kind="status", status=503, path="/api/notes")

        async def is_contained() -> bool:
            return bool(on(await ground.journal()))

        await until(is_contained, "the endpoint is contained", 40)
        contained = on(await ground.journal())
        outage = await opened(ground)
        # What is not contained goes on as ever.
        await asyncio.sleep(6)
        assert await ground.queue_rate() is None
        others = [each for each in jobs.handles if not await is_waiting(each)]
        assert len(others) > len(jobs.handles) / 3
        await ground.heals()
        await until(ground.is_ramped, "everything is let through again", 90)
    result = await asyncio.wait_for(ground.outage().result(), 60)
    results = await jobs.results()

    assert contained == {(Brake.CIRCUIT, "notes.read")}, await ground.story()
    assert (outage.scope, outage.names) == (Scope.ENDPOINT, ["notes.read"])
    assert result.ended is Ended.HEALED
    assert all(each.done for each in results)
    assert not on(await ground.journal())
    assert set((await statuses(sessions)).values()) == {Status.ACTIVE}


async def is_waiting(handle: Any) -> bool:
    return (await handle.describe()).close_time is None


@pytest.mark.chaos
async def test_one_tenants_failures_contain_that_tenant_alone(ground: Ground, sessions: Sessions, vault: Vault) -> None:
    due = await connections(ground, sessions, vault)
    theirs = await of_tenant(sessions, due, "org:acme-1")
    await ground.went_on_before(6)
    both = ground.traffic(due.ids, jobs=4, refreshes=0, capabilities=("notes.read",))
    loud = ground.traffic(theirs, jobs=8, refreshes=0, capabilities=("notes.read",))
    async with both as jobs, loud as more:
        await asyncio.sleep(2)
        accounts = [due.accounts[each] for each in theirs]
        await ground.breaks(kind="status", status=503, path="/api", account_id=accounts)

        async def is_contained() -> bool:
            return bool(on(await ground.journal()))

        await until(is_contained, "the tenant is contained", 40)
        contained = on(await ground.journal())
        await asyncio.sleep(5)
        rate = await ground.queue_rate()
        await ground.heals()
        await until(ground.is_ramped, "everything is let through again", 90)
    result = await asyncio.wait_for(ground.outage().result(), 60)
    results = [*await jobs.results(), *await more.results()]

    assert contained <= {(Brake.TENANT, "org:acme-1"), (Brake.SHIELD, "org:acme-1")}, await ground.story()
    assert rate is None
    assert result.ended is Ended.HEALED
    assert all(each.done for each in results)


async def test_a_provider_that_is_called_once_in_a_while_is_seen_down(
    ground: Ground, sessions: Sessions, vault: Vault
) -> None:
    """Five calls over twenty-five minutes, all of them failing, and the probes fail too."""
    due = await connections(ground, sessions, vault, count=5)
    await ground.called_seldom(due.ids, every=timedelta(minutes=5), outcomes=["outage"] * 5)
    await ground.breaks(kind="status", status=503)

    await until(ground.is_contained, "it is contained", 40)
    outage = await opened(ground)
    await ground.heals()
    result = await asyncio.wait_for(ground.outage().result(), 90)

    assert outage.scope == Scope.PROVIDER, await ground.story()
    assert result.ended is Ended.HEALED


async def test_a_quiet_provider_whose_probes_are_answered_is_let_alone(
    ground: Ground, sessions: Sessions, vault: Vault
) -> None:
    due = await connections(ground, sessions, vault, count=5)
    await ground.called_seldom(due.ids, every=timedelta(minutes=5), outcomes=["outage"] * 5)

    await opened(ground)
    result = await asyncio.wait_for(ground.outage().result(), 30)
    # It is not suspected again for the same calls.
    await asyncio.sleep(7)

    assert result.ended is Ended.UNFOUNDED
    assert not await ground.journal()
    assert len(await ground.outages()) == 1, await ground.story()


async def test_several_unrelated_providers_at_once_are_our_own_way_out(
    ground: Ground, sessions: Sessions, vault: Vault
) -> None:
    names = ["large", "simulator", "small"]
    grounds = [await connections(ground, sessions, vault, each, count=10) for each in names]
    for each in names:
        await ground.went_on_before(5, each)
    await ground.breaks(kind="reset")
    traffic = [
        ground.traffic(due.ids, provider_id=each, jobs=5, refreshes=0) for each, due in zip(names, grounds, strict=True)
    ]
    async with traffic[0] as first, traffic[1] as second, traffic[2] as third:
        outage = await opened(ground, "ours")

        async def is_contained() -> bool:
            journal = await ground.journal()
            return all((Brake.QUEUE, "") in on(journal, each) for each in names)

        await until(is_contained, "all of them are contained", 40)
        await ground.heals()
    result = await asyncio.wait_for(ground.outage("ours").result(), 150)
    for jobs in (first, second, third):
        assert all(each.done for each in await jobs.results())

    assert outage.names == names
    assert [each.provider_id for each in await ground.outages()] == ["ours"], await ground.story()
    assert result.ended is Ended.HEALED


@pytest.mark.chaos
async def test_two_providers_down_at_once_are_two_outages_and_the_others_go_on(
    ground: Ground, sessions: Sessions, vault: Vault
) -> None:
    names = ["large", "simulator", "small"]
    grounds = [await connections(ground, sessions, vault, each, count=10) for each in names]
    for each in names:
        await ground.went_on_before(5, each)
    traffic = [
        ground.traffic(due.ids, provider_id=each, jobs=5, refreshes=0) for each, due in zip(names, grounds, strict=True)
    ]
    down = grounds[:2]
    async with traffic[0] as first, traffic[1] as second, traffic[2] as third:
        for due, kind in zip(down, ("hang", "html"), strict=True):
            await due.breaks(*due.ids, kind=kind, path="/")
        for each in names[:2]:
            await opened(ground, each)
            await until(lambda each=each: ground.is_contained(each), "each is contained", 40)  # type: ignore[misc]
        await ground.heals()
    results = [await asyncio.wait_for(ground.outage(each).result(), 120) for each in names[:2]]
    for jobs in (first, second, third):
        assert all(each.done for each in await jobs.results())

    assert [each.ended for each in results] == [Ended.HEALED, Ended.HEALED], await ground.story()
    assert {each.provider_id for each in await ground.outages()} == set(names[:2])


@pytest.mark.chaos
async def test_a_relapse_in_the_ramp_is_contained_again_and_heals(
    ground: Ground, sessions: Sessions, vault: Vault
) -> None:
    due = await connections(ground, sessions, vault)
    await ground.went_on_before(8)
    async with ground.traffic(due.ids, jobs=8, refreshes=0, capabilities=("notes.read",)) as jobs:
        await ground.breaks(kind="throttle", retry_after=1)
        await until(ground.is_contained, "it is contained", 40)
        await ground.heals()

        async def is_halfway() -> bool:
            return any(note.percent == 25 for note in await ground.notes())

        await until(is_halfway, "the ramp is at 25 %", 60)
        await ground.breaks(kind="status", status=500)

        async def is_contained_again() -> bool:
            return len([note for note in await ground.notes() if note.percent == 0]) > 1

        await until(is_contained_again, "it is contained once more", 40)
        await ground.heals()
        await until(ground.is_ramped, "everything is let through again", 90)
    result = await asyncio.wait_for(ground.outage().result(), 60)

    assert (result.ended, result.relapses) == (Ended.HEALED, 1), await ground.story()
    assert all(each.done for each in await jobs.results())


async def test_an_operator_who_closes_early_takes_everything_off(
    ground: Ground, sessions: Sessions, vault: Vault
) -> None:
    due = await connections(ground, sessions, vault)
    await ground.went_on_before(8)
    async with ground.traffic(due.ids, jobs=8, refreshes=0, capabilities=("notes.read",)) as jobs:
        await ground.breaks(kind="status", status=503)
        await until(ground.is_contained, "it is contained", 40)
        await pause(sessions, FailureMode.OUTAGE)
        await ground.outage().execute_update(ProviderOutageWorkflow.close, Word(by="ada", reason="it is not down"))
        result = await asyncio.wait_for(ground.outage().result(), 30)
        assert await ground.queue_rate() is None
        await ground.heals()
    await resume(sessions, FailureMode.OUTAGE)

    assert result.ended is Ended.BY_HAND
    assert not on(await ground.journal())
    assert all(each.done for each in await jobs.results())


@pytest.mark.parametrize("held", ["pause", "observe"])
async def test_what_is_held_back_is_found_and_written_down_and_nothing_is_touched(
    ground: Ground, sessions: Sessions, vault: Vault, held: str
) -> None:
    due = await connections(ground, sessions, vault)
    if held == "pause":
        await pause(sessions, FailureMode.OUTAGE)
    else:
        await conduct(sessions, Conduct.OBSERVE)
    async with ground.traffic(due.ids, jobs=8, refreshes=0, capabilities=("notes.read",)) as jobs:
        await ground.breaks(kind="status", status=503)
        outage = await opened(ground)
        await asyncio.sleep(5)
        await ground.heals()
    assert (outage.observed, outage.scope) == (True, Scope.PROVIDER)
    assert outage.why_not
    assert not await ground.journal()
    assert await ground.queue_rate() is None
    assert not await ground.runs("ProviderOutageWorkflow")
    assert all(each.done for each in await jobs.results())

    async def is_over() -> bool:
        return all(each.ended == Ended.PASSED for each in await ground.outages())

    await until(is_over, "it is closed by itself when it is over", 40)
    assert not await every(sessions, Transition)
