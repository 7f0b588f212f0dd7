"""A worker is killed between a rotation at the provider and its commit: the new token is lost, the old one is used up.

Where the provider forgives a second try the connection survives. Where it does not, nothing is sent again, nobody is
demoted, and the owner is told the truth.
"""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests.chaos.ground import Ground, Victim
from tests.chaos.holds import row_locked
from tests.chaos.waiting import until
from tests.refresh.ground import Due, add_due
from workflows.refresh_sweep import SCHEDULE

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(200)]
STRICT = Path(__file__).with_name("strict.toml")
_VERSIONS = "SELECT version FROM service_credentials WHERE connection_id = ANY(:ids) AND state = 'active'"
_FIRST = "SELECT sent_version FROM service_refresh_leases WHERE connection_id = ANY(:ids) AND sent_version IS NOT NULL"


async def killed_before_it_stores(ground: Ground, due: Due) -> None:
    """Every one of these has another refresh token by then, and nobody knows it."""

    async def all_are_rotated() -> bool:
        return set(await due.asked()) == set(due.accounts.values())

    async with AsyncExitStack() as locks:
        for connection_id in due.ids:
            await locks.enter_async_context(row_locked(ground, connection_id, "state"))
        await ground.platform.temporal.get_schedule_handle(SCHEDULE).trigger()
        await until("the provider has rotated all of them", all_are_rotated)
        await ground.kill(Victim.WORKER)
    await ground.bring_back(Victim.WORKER)


@pytest_asyncio.fixture
async def due(ground: Ground) -> Due:
    return await add_due(ground.platform.sessions, ground.vault, ground.provider._http, 4)


async def test_survives_where_the_provider_forgives(ground: Ground, due: Due) -> None:
    await killed_before_it_stores(ground, due)

    async def all_are_stored() -> bool:
        rows = await ground.rows(_VERSIONS, ids=due.ids)
        return [row["version"] for row in rows] == [2] * 4

    await until("each has its second version", all_are_stored, within=120)
    assert await ground.rows(_FIRST, ids=due.ids) == []
    # What is stored is the newest: it works.
    for connection_id in due.ids:
        handle = await ground.platform.refresh(connection_id, by="the test", reason="does it live?")
        assert (await handle.result()).version == 3
    assert ground.died() == {}


async def test_says_the_truth_where_it_does_not(ground: Ground, due: Due) -> None:
    await ground.kill(Victim.WORKER)
    ground.stack.environment["RUNBOOK_PROVIDERS"] = str(STRICT)
    await ground.bring_back(Victim.WORKER)
    await ground.provider.settings(rotation_grace_s=0)
    await killed_before_it_stores(ground, due)

    async def all_are_asked() -> bool:
        rows = await ground.rows(
            "SELECT cause FROM service_operator_tasks WHERE connection_id = ANY(:ids) AND kind = 'reauth'", ids=due.ids
        )
        return len(rows) == 4 and all("was lost on its way to us" in row["cause"] for row in rows)

    await until("each owner is asked, and told why", all_are_asked, within=120)
    asked = await due.asked()
    assert sorted(asked) == sorted(due.accounts.values()), "a token that may be used up was sent again"
    statuses = await ground.rows("SELECT status FROM service_connections WHERE id = ANY(:ids)", ids=due.ids)
    assert {row["status"] for row in statuses} == {"active"}
    assert ground.died() == {}
