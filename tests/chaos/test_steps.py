"""Worker, web app and Temporal server are killed at every step of a lifecycle's table. It ends right all the same."""

import pytest

from tests.chaos import steps
from tests.chaos.account import Account
from tests.chaos.ground import Ground, Victim
from tests.chaos.steps import Step

THOSE_OF_ALL = [steps.OPEN, steps.SEND, steps.CHECK, steps.PROVE, steps.ACTIVATE, steps.EXPIRE]
STEPS = {
    # What the worker holds in memory is lost with it; what it has committed, it may not have told.
    Victim.WORKER: [*THOSE_OF_ALL, steps.OPENED, steps.STORE_LOST, steps.ACTIVATED],
    Victim.WEB: [*THOSE_OF_ALL, steps.STORE],
    Victim.TEMPORAL: [*THOSE_OF_ALL, steps.STORE],
}
QUICK = (Victim.TEMPORAL, steps.CHECK)
"""For `make test`. A killed worker's step is taken up after its timeout, 10 or 30 s later."""


@pytest.mark.parametrize(
    ("victim", "step"),
    [
        pytest.param(
            victim,
            step,
            id=f"{victim} killed at {step.name}",
            marks=() if (victim, step) == QUICK else pytest.mark.chaos,
        )
        for victim, its_steps in STEPS.items()
        for step in its_steps
    ],
)
async def test_killed(ground: Ground, account: Account, victim: Victim, step: Step) -> None:
    async with step.held(account):
        await ground.kill(victim)
    await ground.bring_back(victim)

    await step.ends(account)
    assert ground.died() == {}
