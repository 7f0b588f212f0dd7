"""A consent that is completed while something else begins or is still on its way."""

import asyncio

import pytest

from integrations.domain.refresh import Refresh
from tests.property import operators
from tests.property.invariants import look
from tests.property.operators import Refreshes
from tests.property.owners import Consents
from tests.property.person import Subject
from tests.property.scene import Scene
from tests.property.world import World


async def consented(world: World) -> tuple[Scene, Subject]:
    """A connection that works, and nothing is under way."""
    scene = Scene(world)
    await scene.begin()
    subject = await scene.add()
    await scene.consents(subject, Consents.WHOLLY)
    await scene.rests()
    return scene, subject


@pytest.mark.usefixtures("_hasty")
async def test_is_not_undone_by_an_old_refresh(world: World) -> None:
    scene, subject = await consented(world)
    before = subject.grant_id

    await world.breaks(account_id=subject.account_id, **operators.FAULTS[Refreshes.SLOWLY])
    refreshing = await world.refresh(subject.id)
    await scene.consents(subject, Consents.WHOLLY)
    await scene.rests()
    overtaken = await asyncio.wait_for(refreshing.result(), 20)

    assert overtaken.refresh is Refresh.NOT_CONNECTED
    assert subject.grant_id not in {None, before}
    await scene.end()


@pytest.mark.usefixtures("_hasty")
async def test_counts_still_when_the_provider_can_be_asked_only_later(world: World) -> None:
    """A look during an outage asks nothing: which grant is in use, and after how many consents, is for the next one."""
    scene, subject = await consented(world)
    before = subject.grant_id

    await scene.consents(subject, Consents.WHOLLY)
    async with asyncio.timeout(20):
        while (await look(world, subject, outage=False)).completed < 2:
            await asyncio.sleep(0.01)
    await scene.goes_down(subject, ("/api/",))
    await scene.rests()
    await scene.comes_up()
    await scene.rests()

    assert subject.grant_id not in {None, before}
    await scene.end()
