"""Channels are read together, however many names are made up."""

import asyncio
import time
from collections.abc import Collection

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from integrations.db import webhook_secrets
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.domain.errors import NotReadyError
from tests.factories import add_channel
from web import open_channels
from web.open_channels import FRESH, Key, OpenChannels

SECRET = b"a secret"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Which channels were read, each time."""
    asked: list[set[str]] = []
    real = webhook_secrets.of_these

    async def seen(session: AsyncSession, keys: Collection[Key]) -> object:
        asked.append({channel for _, channel in keys})
        return await real(session, keys)

    monkeypatch.setattr(webhook_secrets, "of_these", seen)
    return asked


async def test_made_up_names_share_a_few_reads_and_keep_nobody_waiting(
    sessions: Sessions, vault: Vault, reads: list[set[str]]
) -> None:
    await add_channel(sessions, vault, secret=SECRET)
    channels = OpenChannels(sessions, vault)

    async def made_up(number: int) -> object:
        return await channels.get("simulator", f"x{number}") or await channels.get("simulator", f"x{number}", at_most=0)

    for _ in range(4):
        flood = [asyncio.create_task(made_up(number)) for number in range(1000)]
        known = await channels.get("simulator", "app")
        assert known is not None
        assert known.secrets == (SECRET,)
        assert await asyncio.gather(*flood) == [None] * 1000
        await asyncio.sleep(FRESH)

    # About 13. As fast as one follows the other it would be some 20 a second, and one for each name 8,000.
    assert len(reads) < 100


async def test_steady_traffic_waits_for_no_read(
    engine: AsyncEngine, sessions: Sessions, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is locked: what was read before is good for a second, and then whoever asks is told of the trouble."""
    monkeypatch.setattr(open_channels, "_PATIENCE", 1.5)
    await add_channel(sessions, vault, secret=SECRET)
    channels = OpenChannels(sessions, vault)
    await channels.get("simulator", "app")
    async with engine.begin() as connection:
        await connection.execute(text("LOCK TABLE service_webhook_channels"))
        longest, ends = 0.0, time.monotonic() + 0.8
        while (asked := time.monotonic()) < ends:
            assert await channels.get("simulator", "app") is not None
            longest = max(longest, time.monotonic() - asked)
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        with pytest.raises(TimeoutError):
            await channels.get("simulator", "app")

    assert longest < 1
    assert await channels.get("simulator", "app") is not None


async def test_steady_traffic_is_answered_from_a_read_ahead(
    sessions: Sessions, vault: Vault, reads: list[set[str]]
) -> None:
    await add_channel(sessions, vault, secret=SECRET)
    channels = OpenChannels(sessions, vault)
    await channels.get("simulator", "app")
    await asyncio.sleep(0.6)

    await channels.get("simulator", "app")
    await asyncio.sleep(0.3)

    assert len(reads) == 2


async def test_those_in_use_are_read_ahead_and_no_others(
    sessions: Sessions, vault: Vault, reads: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of as many channels as there are connections, a read has those that somebody asks for."""
    monkeypatch.setattr(open_channels, "_KEPT", 2)
    monkeypatch.setattr(open_channels, "USUAL", 60)
    for channel in "abcde":
        await add_channel(sessions, vault, channel=channel, secret=SECRET)
    channels = OpenChannels(sessions, vault)
    for channel in "abcbd":
        assert await channels.get("simulator", channel, at_most=60) is not None
    assert reads == [{"a"}, {"b"}, {"c"}, {"d"}]

    monkeypatch.setattr(open_channels, "USUAL", 0.001)
    await asyncio.sleep(0.01)
    await channels.get("simulator", "d", at_most=60)
    async with asyncio.timeout(30):
        while len(reads) < 5:
            await asyncio.sleep(0.01)

    assert reads[4] == {"b", "d"}


async def test_more_than_are_kept_are_each_found_when_asked_for_at_once(
    sessions: Sessions, vault: Vault, reads: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_channels, "_KEPT", 2)
    for channel in "abcde":
        await add_channel(sessions, vault, channel=channel, secret=SECRET)
    channels = OpenChannels(sessions, vault)

    found = await asyncio.gather(*(channels.get("simulator", channel) for channel in "abcdex"))

    assert [each is not None for each in found] == [True] * 5 + [False]
    assert reads == [set("abcdex")]


async def test_one_that_is_let_go_while_others_are_read_is_not_taken_for_missing(
    sessions: Sessions, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_channels, "_KEPT", 1)
    real, free, began = webhook_secrets.of_these, asyncio.Event(), asyncio.Event()
    free.set()

    async def held(session: AsyncSession, keys: Collection[Key]) -> object:
        if not free.is_set():
            began.set()
        await free.wait()
        return await real(session, keys)

    monkeypatch.setattr(webhook_secrets, "of_these", held)
    for channel in "abc":
        await add_channel(sessions, vault, channel=channel, secret=SECRET)
    channels = OpenChannels(sessions, vault)

    async def asked(channel: str) -> bool:
        return await channels.get("simulator", channel, at_most=60) is not None

    assert [await asked(channel) for channel in "aba"] == [True] * 3
    free.clear()
    reading = asyncio.create_task(asked("c"))
    await began.wait()
    # It was the last that was read, and is the first that is let go.
    again = asyncio.create_task(asked("b"))
    await asyncio.sleep(0.01)
    free.set()

    assert await asyncio.gather(reading, again) == [True, True]


async def test_those_in_use_come_to_be_read_at_the_same_time(
    sessions: Sessions, vault: Vault, reads: list[set[str]]
) -> None:
    """Whenever each was asked for first: one read has them all soon, and not each its own."""
    for channel in "ab":
        await add_channel(sessions, vault, channel=channel, secret=SECRET)
    channels = OpenChannels(sessions, vault)
    await channels.get("simulator", "a")
    await asyncio.sleep(0.3)

    await channels.get("simulator", "b")

    assert reads == [{"a"}, {"a", "b"}]


async def test_one_that_is_closed_is_gone_at_the_next_look(
    engine: AsyncEngine, sessions: Sessions, vault: Vault
) -> None:
    await add_channel(sessions, vault, secret=SECRET)
    channels = OpenChannels(sessions, vault)
    assert await channels.get("simulator", "app") is not None
    async with engine.begin() as connection:
        closed = "closed_at = now(), closed_by = 'test', closed_reason = 'test'"
        await connection.execute(text(f"UPDATE service_webhook_channels SET {closed}"))

    assert await channels.get("simulator", "app", at_most=60) is not None
    assert await channels.get("simulator", "app", at_most=0) is None
    assert await channels.get("simulator", "app") is None


async def test_a_secret_that_does_not_open_is_one_channels_trouble(
    engine: AsyncEngine, sessions: Sessions, vault: Vault
) -> None:
    await add_channel(sessions, vault, channel="good", secret=SECRET)
    await add_channel(sessions, vault, channel="bad", secret=SECRET)
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE service_webhook_secrets SET sealed = sealed || 'x'::bytea WHERE channel = 'bad'")
        )
    channels = OpenChannels(sessions, vault)

    with pytest.raises(NotReadyError):
        await channels.get("simulator", "bad")
    good = await channels.get("simulator", "good")

    assert good is not None
    assert good.secrets == (SECRET,)
