"""Whatever happens, in any order: nothing illegal, one event per transition, nobody blocked and forgotten."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property.machine import ACTS, AnyOrder
from tests.property.operators import Events
from tests.property.owners import Consents
from tests.property.scene import Scene
from tests.property.world import World

pytestmark = pytest.mark.usefixtures("_hasty")


async def in_any_order(world: World, **given: Any) -> None:
    """hypothesis in a thread; what it sets going in the loop in which worker, web app and this test live."""
    machine = type("AnyOrder", (AnyOrder,), {"world": world, "loop": asyncio.get_running_loop()})
    chosen = settings(
        deadline=None,
        print_blob=True,
        report_multiple_bugs=False,
        phases=(Phase.reuse, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        **given,
    )
    await asyncio.to_thread(run_state_machine_as_test, machine, settings=chosen)


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_each_act_by_itself(world: World) -> None:
    """Once to a connection that works and once to one that waits, whatever the examples of the day leave out."""
    for act in ACTS.values():
        scene = Scene(world)
        await scene.begin()
        for revoked in (False, True):
            subject = await scene.add()
            await scene.consents(subject, Consents.WHOLLY)
            await scene.rests()
            if revoked:
                await scene.is_noticed(subject, Events.REVOKED)
                await scene.rests()
        for subject in scene.subjects:
            await act(scene, subject)
            await scene.rests()
        await scene.comes_up()
        await scene.sweep()
        await scene.rests()
        await scene.end()


@pytest.mark.timeout(600)  # a failure is shrunk for up to five minutes
async def test_holds_together(world: World) -> None:
    """The same examples in every run."""
    await in_any_order(world, max_examples=5, stateful_step_count=25, derandomize=True)


@pytest.mark.chaos
@pytest.mark.timeout(1200)
async def test_holds_together_for_longer(world: World) -> None:
    """New examples in every run; a failure prints how to repeat it."""
    await in_any_order(world, max_examples=35, stateful_step_count=25)
