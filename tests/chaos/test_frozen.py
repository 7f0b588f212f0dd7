"""Two attempts at one step are under way at the same time: the first is late, and Temporal has given it up."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.chaos import evidence, steps
from tests.chaos.account import Account
from tests.chaos.ground import Ground
from tests.chaos.holds import answer_slow, failed_once, row_locked, was_handled

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


async def test_frozen_while_the_answer_arrives(ground: Ground, account: Account) -> None:
    """The code is used up, and its answer lies in the socket of a worker that sleeps for longer than the step."""
    await account.begin()
    async with answer_slow(ground):
        await account.consent()
        await was_handled(ground, account.codes)
        async with frozen(ground):
            await failed_once(account.handle, "reauth.exchange")

    await steps.owner_comes_again(account)


async def test_frozen_with_the_rows_lock_in_hand(ground: Ground, account: Account) -> None:
    """Nobody else can change the connection until the worker wakes and stores what it has."""
    await account.begin()
    async with answer_slow(ground):
        await account.consent()
        await was_handled(ground, account.codes)
        async with row_locked(ground, account.id) as lock:
            await lock.is_waited_for()
            sleeping = frozen(ground)
            await sleeping.__aenter__()
        await failed_once(account.handle, "reauth.exchange")
        await sleeping.__aexit__(None, None, None)

    await evidence.repaired(account)


async def test_marking_the_code_as_sent_takes_longer_than_the_step(ground: Ground, account: Account) -> None:
    """Both attempts find the code unsent and want to mark it; the first one does, and nobody waits for it any more."""
    await account.begin()
    session = await account.open_session()
    assert session is not None
    async with AsyncExitStack() as held:
        async with frozen(ground):
            await account.consent()
            lock = await held.enter_async_context(row_locked(ground, session, "session"))
        await failed_once(account.handle, "reauth.exchange")
        await lock.is_waited_for(by=2)

    await evidence.repaired(account)
