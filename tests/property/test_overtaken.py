"""A consent that is completed while a refresh of the old grant is still on its way."""

import asyncio

import pytest

from integrations.domain.refresh import Refresh
from tests.property import operators
from tests.property.operators import Refreshes
from tests.property.owners import Consents
from tests.property.scene import Scene
from tests.property.world import World


@pytest.mark.usefixtures("_hasty")
async def test_is_not_undone_by_it(world: World) -> None:
    scene = Scene(world)
    await scene.begin()
    subject = await scene.add()
    await scene.consents(subject, Consents.WHOLLY)
    await scene.rests()
    before = subject.grant_id

    await world.breaks(account_id=subject.account_id, **operators.FAULTS[Refreshes.SLOWLY])
    refreshing = await world.refresh(subject.id)
    await scene.consents(subject, Consents.WHOLLY)
    await scene.rests()
    overtaken = await asyncio.wait_for(refreshing.result(), 20)

    assert overtaken.refresh is Refresh.NOT_CONNECTED
    assert subject.grant_id not in {None, before}
    await scene.end()
