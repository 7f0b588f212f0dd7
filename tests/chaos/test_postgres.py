"""Postgres is killed in the middle of a step, and comes back with what was committed."""

import pytest

from tests.chaos import evidence, steps
from tests.chaos.account import Account
from tests.chaos.ground import Ground

pytestmark = pytest.mark.chaos


async def test_killed_while_a_code_is_exchanged(ground: Ground, account: Account) -> None:
    """The provider has used the code up, and there is nowhere to store what it answers."""
    await account.begin()
    async with ground.provider.answering_slowly():
        await account.consent()
        await ground.provider.has_used(account.codes)
        await ground.kill_postgres()
        # The answer arrives, its place is gone.
        await account.failed_once("reauth.exchange")
    await ground.bring_postgres_back()

    await steps.owner_comes_again(account)
    assert ground.died() == {}


async def test_killed_while_a_version_is_activated(ground: Ground, account: Account) -> None:
    async with steps.activating(account):
        await ground.kill_postgres()
    await ground.bring_postgres_back()

    await evidence.repaired(account)
    assert ground.died() == {}
