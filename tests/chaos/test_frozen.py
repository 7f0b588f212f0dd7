"""Two attempts at one step are under way at the same time: the first is late, and Temporal has given it up."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.chaos import evidence, steps
from tests.chaos.account import Account
from tests.chaos.ground import Ground
from tests.chaos.holds import row_locked

pytestmark = pytest.mark.chaos


@asynccontextmanager
async def frozen(ground: Ground) -> AsyncIterator[None]:
    """Stop the worker as a paused machine would, and let it go on."""
    worker = ground.stack.processes["worker"]
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker.pid, signal.SIGCONT)


async def test_frozen_with_the_answer_in_hand(ground: Ground, account: Account) -> None:
    """It wakes to a second attempt, which finds the code sent and nothing stored: it must not send it again."""
    await account.begin()
    async with AsyncExitStack() as held:
        async with ground.provider.answering_slowly():
            await account.consent()
            await ground.provider.has_used(account.codes)
            lock = await held.enter_async_context(row_locked(ground, account.id))
            await lock.is_waited_for()
        async with frozen(ground):
            await account.failed_once("reauth.exchange")
        await lock.is_waited_for(by=2)
        assert len(await ground.provider.codes()) == account.codes + 1

    await steps.owner_comes_again(account)


async def test_marking_the_code_as_sent_takes_longer_than_the_step(ground: Ground, account: Account) -> None:
    """Both attempts find the code unsent and want to mark it; the first one does, and nobody waits for it any more."""
    await account.begin()
    session = await account.open_session()
    assert session is not None
    async with AsyncExitStack() as held:
        async with frozen(ground):
            await account.consent()
            lock = await held.enter_async_context(row_locked(ground, session, "session"))
        await account.failed_once("reauth.exchange")
        await lock.is_waited_for(by=2)

    await evidence.repaired(account)


async def test_storing_the_candidate_takes_longer_than_the_step(ground: Ground, account: Account) -> None:
    """Both attempts know whose account it is and want to keep the candidate."""
    await account.begin()
    async with AsyncExitStack() as held:
        async with ground.provider.holding("/api/me"):
            await account.consent()
            await ground.provider.holds_a_request()
            lock = await held.enter_async_context(row_locked(ground, account.id))
        await lock.is_waited_for()
        await lock.is_waited_for(by=2)

    await evidence.repaired(account)
