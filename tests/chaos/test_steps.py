"""Worker, web app and Temporal server are killed at every step of a lifecycle's table. It ends right all the same."""

import pytest

from tests.chaos import steps
from tests.chaos.account import Account
from tests.chaos.ground import Ground, Victim
from tests.chaos.steps import Step

pytestmark = pytest.mark.chaos
BY_VICTIM = {
    Victim.WORKER: [
        steps.OPEN,
        steps.OPENED,
        steps.SEND,
        steps.STORE_LOST,
        steps.CHECK,
        steps.PROVE,
        steps.ACTIVATE,
        steps.ACTIVATED,
        steps.EXPIRE,
    ],
    Victim.WEB: [
        steps.OPEN,
        steps.SEND,
        steps.STORE,
        steps.CHECK,
        steps.PROVE,
        steps.ACTIVATE,
        steps.EXPIRE,
    ],
    Victim.TEMPORAL: [
        steps.OPEN,
        steps.SEND,
        steps.STORE,
        steps.CHECK,
        steps.PROVE,
        steps.ACTIVATE,
        steps.EXPIRE,
    ],
}


@pytest.mark.parametrize(
    ("victim", "step"),
    [
        pytest.param(victim, step, id=f"{victim} killed at {step.name}")
        for victim, its_steps in BY_VICTIM.items()
        for step in its_steps
    ],
)
async def test_killed(ground: Ground, account: Account, victim: Victim, step: Step) -> None:
    async with step.held(account):
        await ground.kill(victim)
    await ground.bring_back(victim)

    await step.ends(account)
    assert ground.all_live()
