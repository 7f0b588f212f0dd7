"""Whatever happens, in any order: nothing illegal, one event per transition, nobody blocked and forgotten."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property.machine import AnyOrder
from tests.property.world import World

pytestmark = pytest.mark.usefixtures("_hasty")


_CHOSEN = 418
"""Of a thousand seeds the one whose examples meet most of what can happen."""


async def in_any_order(world: World, *, chosen_seed: int | None = None, **given: Any) -> None:
    """hypothesis in a thread; what it sets going in the loop in which worker, web app and this test live."""
    machine = type("AnyOrder", (AnyOrder,), {"world": world, "loop": asyncio.get_running_loop()})
    if chosen_seed is not None:
        machine = seed(chosen_seed)(machine)
    chosen = settings(
        deadline=None,
        print_blob=True,
        report_multiple_bugs=False,
        phases=(Phase.reuse, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        **given,
    )
    await asyncio.to_thread(run_state_machine_as_test, machine, settings=chosen)


@pytest.mark.timeout(600)  # a failure is shrunk for up to five minutes
async def test_holds_together(world: World) -> None:
    """The same examples in every run."""
    await in_any_order(world, max_examples=12, stateful_step_count=20, database=None, chosen_seed=_CHOSEN)


@pytest.mark.chaos
@pytest.mark.timeout(1200)
async def test_holds_together_for_longer(world: World) -> None:
    """New examples in every run; a failure prints how to repeat it."""
    await in_any_order(world, max_examples=50, stateful_step_count=25)
