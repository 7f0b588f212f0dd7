"""A grant that is revoked while its provider is down: nobody is demoted under the shield, and one is found after it."""

from datetime import timedelta

import pytest
from temporalio.client import Client

from integrations.db import parked
from integrations.db.automation_tables import WouldHaveDone
from integrations.db.session import Sessions
from integrations.db.tables import GrantEvent, Transition
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from tests.factories import every
from tests.providers.person import Person
from tests.refresh.ground import add_due, statuses
from tests.refresh.test_sweep import refreshed, sweep, until
from tests.shielded import lift, put_up


@pytest.mark.usefixtures("working")
async def test_is_found_within_one_sweep_after_the_shield_lifts_and_nobody_else_is_demoted(
    client: Client, sessions: Sessions, vault: Vault, person: Person
) -> None:
    """The provider answers 503 to most refreshes, and to the others what looks like the end of a grant."""
    refused = await add_due(sessions, vault, person.http, 20, overdue=timedelta(minutes=2))
    down = await add_due(sessions, vault, person.http, 40)
    revoked = refused.ids[7]
    await refused.breaks(*refused.ids, kind="status", status=400, body={"error": "invalid_grant"})
    await down.breaks(*down.ids, kind="status", status=503)
    await refused.revoke(revoked)
    outage_id = await put_up(sessions)

    await sweep(client)

    async def all_are_set_aside() -> bool:
        return len(await every(sessions, WouldHaveDone)) == 20

    await until(all_are_set_aside, "refusals that are set aside", within=30)
    assert await every(sessions, GrantEvent) == []
    assert set((await statuses(sessions)).values()) == {Status.ACTIVE}

    await person.heals()
    assert await lift(sessions, outage_id) == 20
    async with sessions.begin() as session:
        await parked.refreshes_due(session, "simulator", 100)
    await sweep(client)

    async def it_is_found() -> bool:
        return (await statuses(sessions))[revoked] == Status.PENDING_REAUTH

    async def the_others_are_refreshed() -> bool:
        return (await refreshed(sessions, refused), await refreshed(sessions, down)) == (19, 40)

    await until(it_is_found, "the revoked grant")
    await until(the_others_are_refreshed, "the others' refreshes")
    assert {row.connection_id for row in await every(sessions, Transition)} == {revoked}
