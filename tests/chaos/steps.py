"""The steps of the lifecycle's table, each held still at one exact place while the caller's block runs."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from tests.chaos import evidence
from tests.chaos.account import Account
from tests.chaos.holds import commits_unanswered, row_locked

SHORT = timedelta(seconds=4)
"""Until the deadline: what opens the lifecycle, and the test's own lock, come before it."""
PROBES = ("/api/notes", "/api/profile")


@asynccontextmanager
async def opening(account: Account) -> AsyncIterator[None]:
    """In the transaction, before anything is written."""
    detection = await account.detect()
    async with row_locked(account.ground, account.id) as lock:
        await account.announce(detection)
        await lock.is_waited_for()
        yield


@asynccontextmanager
async def opened(account: Account) -> AsyncIterator[None]:
    """The transaction is on disk, and whoever committed it does not know."""
    detection = await account.detect()
    async with commits_unanswered(account.ground) as commits:
        await account.announce(detection)
        await commits.is_waited_for("service_connections")
        yield


@asynccontextmanager
async def sending(account: Account) -> AsyncIterator[None]:
    """The code has arrived at the provider, which has not looked at it yet."""
    await account.begin()
    async with account.ground.provider.holding("/oauth/token"):
        await account.consent()
        await account.ground.provider.holds_a_request()
        yield


@asynccontextmanager
async def answered(account: Account) -> AsyncIterator[None]:
    """The provider has answered with tokens, and they are about to be stored."""
    await account.begin()
    async with account.ground.provider.answering_slowly():
        await account.consent()
        await account.ground.provider.has_used(account.codes)
        async with row_locked(account.ground, account.id) as lock:
            await lock.is_waited_for()
            yield


@asynccontextmanager
async def checking(account: Account) -> AsyncIterator[None]:
    """The tokens are stored, and the provider is asked whose account it is."""
    await account.begin()
    async with account.ground.provider.holding("/api/me"):
        await account.consent()
        await account.ground.provider.holds_a_request()
        # It is asked while they are being stored.
        await account.has_stored_tokens()
        yield


@asynccontextmanager
async def proving(account: Account) -> AsyncIterator[None]:
    """The candidate is tried."""
    await account.begin()
    async with account.ground.provider.holding(*PROBES):
        await account.consent()
        await account.ground.provider.holds_a_request()
        yield


@asynccontextmanager
async def activating(account: Account) -> AsyncIterator[None]:
    """Proven; in the transaction, before anything is written."""
    await account.begin()
    async with account.ground.provider.holding(*PROBES):
        await account.consent()
        await account.ground.provider.holds_a_request()
        # The exchange has let go of the row, and the activation has not asked for it yet.
        async with row_locked(account.ground, account.id) as lock:
            await account.ground.provider.lift()
            await lock.is_waited_for()
            yield


@asynccontextmanager
async def activated(account: Account) -> AsyncIterator[None]:
    """The connection is repaired on disk, and whoever did it does not know."""
    await account.begin()
    async with account.ground.provider.holding(*PROBES):
        await account.consent()
        await account.ground.provider.holds_a_request()
        async with commits_unanswered(account.ground) as commits:
            await account.ground.provider.lift()
            await commits.is_waited_for("service_connections")
            yield


@asynccontextmanager
async def expiring(account: Account) -> AsyncIterator[None]:
    """Nobody came; in the transaction, before anything is written."""
    await account.begin(SHORT)
    async with row_locked(account.ground, account.id) as lock:
        await lock.is_waited_for()
        yield


async def owner_comes(account: Account) -> None:
    await account.consent()
    await evidence.repaired(account)


async def owner_comes_again(account: Account) -> None:
    """The code may have been used: it is not sent again, and the owner is asked once more."""
    await account.consent()
    await evidence.repaired(account, invitations=2)


@dataclass(frozen=True)
class Step:
    name: str
    held: Callable[[Account], AbstractAsyncContextManager[None]]
    ends: Callable[[Account], Awaitable[None]]
    """When everybody is back."""


OPEN = Step("open", opening, owner_comes)
OPENED = Step("open committed", opened, owner_comes)
SEND = Step("exchange, code on the wire", sending, owner_comes_again)
STORE = Step("exchange, answer not stored", answered, evidence.repaired)
STORE_LOST = Step("exchange, answer not stored", answered, owner_comes_again)
CHECK = Step("exchange, whose account", checking, evidence.repaired)
PROVE = Step("prove", proving, evidence.repaired)
ACTIVATE = Step("activate", activating, evidence.repaired)
ACTIVATED = Step("activate committed", activated, evidence.repaired)
EXPIRE = Step("expire", expiring, evidence.expired)
