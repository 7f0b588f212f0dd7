"""Channels and their secrets: two are live while a provider is told of the new one, and none is ever shown."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from integrations.db import webhook_channels, webhook_secrets, webhook_selftest
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.db.webhook_tables import WebhookChannel, WebhookSecret
from integrations.domain.errors import NotReadyError, StopError, WrongUsageError
from tests.factories import add_channel, every

NONE = timedelta(0)


async def live(sessions: Sessions, vault: Vault, channel: str = "app") -> tuple[bytes, ...]:
    async with sessions.begin() as session:
        return await webhook_secrets.live(session, vault, "simulator", channel)


async def close(sessions: Sessions) -> bool:
    async with sessions.begin() as session:
        return await webhook_channels.close(session, "simulator", "app", by="ada", reason="gone")


class TestAChannel:
    async def test_is_made_once(self, sessions: Sessions) -> None:
        async def make() -> bool:
            async with sessions.begin() as session:
                return await webhook_channels.make(
                    session, "simulator", "app", connection_id=None, by="ada", reason="asked"
                )

        made = await asyncio.gather(*(make() for _ in range(5)))

        [row] = await every(sessions, WebhookChannel)
        assert sorted(made) == [False] * 4 + [True]
        assert (row.provider_id, row.channel, row.connection_id, row.made_by) == ("simulator", "app", None, "ada")

    async def test_is_not_taken_over_by_another_connection(self, sessions: Sessions, vault: Vault) -> None:
        mine = uuid4()
        await add_channel(sessions, vault, channel="mine", connection_id=mine)

        for other in (uuid4(), None):
            with pytest.raises(WrongUsageError, match=f"mine of simulator is of connection {mine}: choose another"):
                await add_channel(sessions, vault, channel="mine", connection_id=other)

    @pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", ".hidden", "a\n", "a\0b", "x" * 101])
    def test_has_a_name_that_an_address_can_hold(self, name: str) -> None:
        with pytest.raises(WrongUsageError, match="is no channel's name"):
            webhook_channels.read_channel(name)


class TestAClosedChannel:
    async def test_takes_nothing_and_has_forgotten_what_was_accepted(self, sessions: Sessions, vault: Vault) -> None:
        for secret in (b"first", b"second"):
            await add_channel(sessions, vault, secret=secret)

        assert [await close(sessions) for _ in range(2)] == [True, False]

        assert [(row.state, row.sealed) for row in await every(sessions, WebhookSecret)] == [("retired", None)] * 2
        async with sessions.begin() as session:
            assert await webhook_secrets.find(session, vault, "simulator", "app") is None
            assert await webhook_secrets.of_these(session, [("simulator", "app")]) == {}
            assert await webhook_selftest.channels(session) == []
            with pytest.raises(WrongUsageError, match="has no channel 'app'"):
                await webhook_secrets.retire(session, "simulator", "app")

    async def test_is_opened_again_by_a_secret(self, sessions: Sessions, vault: Vault) -> None:
        await add_channel(sessions, vault, secret=b"first")
        await close(sessions)

        await add_channel(sessions, vault, secret=b"first")

        assert await live(sessions, vault) == (b"first",)
        [row] = await every(sessions, WebhookChannel)
        assert (row.closed_at, row.closed_by, row.closed_reason) == (None, None, None)

    async def test_is_still_nobody_elses(self, sessions: Sessions, vault: Vault) -> None:
        mine = uuid4()
        await add_channel(sessions, vault, connection_id=mine)
        await close(sessions)

        with pytest.raises(WrongUsageError, match=f"app of simulator is of connection {mine}"):
            await add_channel(sessions, vault)

        assert await live(sessions, vault) == ()

    async def test_that_never_was_is_said_to_be_none(self, sessions: Sessions) -> None:
        with pytest.raises(StopError, match="there is no channel simulator/app"):
            await close(sessions)

    async def test_has_no_secret_of_whoever_comes_at_the_same_time(self, sessions: Sessions, vault: Vault) -> None:
        """Closed before, and opened by that secret; or closed after, and it is forgotten with the others."""
        for _ in range(5):
            await add_channel(sessions, vault, secret=b"first")
            await asyncio.gather(close(sessions), add_channel(sessions, vault, secret=b"second"))

            [row] = await every(sessions, WebhookChannel)
            held = [each.version for each in await every(sessions, WebhookSecret) if each.state == "live"]
            assert len(held) == (1 if row.closed_at is None else 0)


class TestASecret:
    async def test_is_live_with_the_one_before_until_its_overlap_ends(self, sessions: Sessions, vault: Vault) -> None:
        await add_channel(sessions, vault, secret=b"first")
        await add_channel(sessions, vault, secret=b"second", overlap=timedelta(hours=1))
        both = await live(sessions, vault)
        async with sessions.begin() as session:
            await session.execute(text("UPDATE service_webhook_secrets SET ends_at = now() WHERE version = 1"))

        assert both == (b"second", b"first")
        assert await live(sessions, vault) == (b"second",)

    async def test_of_before_is_over_at_once_without_an_overlap(self, sessions: Sessions, vault: Vault) -> None:
        await add_channel(sessions, vault, secret=b"first")
        await add_channel(sessions, vault, secret=b"second", overlap=NONE)

        assert await live(sessions, vault) == (b"second",)

    async def test_never_gets_more_time_than_it_had(self, sessions: Sessions, vault: Vault) -> None:
        await add_channel(sessions, vault, secret=b"first")
        await add_channel(sessions, vault, secret=b"second", overlap=NONE)
        await add_channel(sessions, vault, secret=b"third")

        assert await live(sessions, vault) == (b"third", b"second")

    async def test_given_again_changes_nothing(self, sessions: Sessions, vault: Vault) -> None:
        for _ in range(2):
            await add_channel(sessions, vault, secret=b"first", overlap=NONE)

        assert len(await every(sessions, WebhookSecret)) == 1
        assert await live(sessions, vault) == (b"first",)

    async def test_gets_a_version_of_its_own_when_several_come_at_once(self, sessions: Sessions, vault: Vault) -> None:
        await add_channel(sessions, vault, secret=b"first")

        await asyncio.gather(*(add_channel(sessions, vault, secret=f"{n}".encode()) for n in range(5)))

        assert sorted(row.version for row in await every(sessions, WebhookSecret)) == [1, 2, 3, 4, 5, 6]
        assert len(await live(sessions, vault)) == 6

    async def test_is_forgotten_when_it_is_retired(self, sessions: Sessions, vault: Vault) -> None:
        for secret in (b"first", b"second", b"third"):
            await add_channel(sessions, vault, secret=secret)

        for expected in (2, 0):
            async with sessions.begin() as session:
                assert await webhook_secrets.retire(session, "simulator", "app") == expected

        rows = sorted(await every(sessions, WebhookSecret), key=lambda row: row.version)
        assert await live(sessions, vault) == (b"third",)
        assert [(row.state, row.sealed is None) for row in rows] == [("retired", True)] * 2 + [("live", False)]

    async def test_is_forgotten_once_its_overlap_is_over(self, sessions: Sessions, vault: Vault) -> None:
        await add_channel(sessions, vault, secret=b"first")
        await add_channel(sessions, vault, secret=b"second", overlap=NONE)
        await add_channel(sessions, vault, secret=b"third")

        for expected in (1, 0):
            async with sessions.begin() as session:
                assert await webhook_secrets.retire_ended(session) == expected

        assert await live(sessions, vault) == (b"third", b"second")

    async def test_stands_nowhere_in_its_table_and_opens_in_its_own_place_only(
        self, sessions: Sessions, vault: Vault
    ) -> None:
        await add_channel(sessions, vault, secret=b"verysecret")
        await add_channel(sessions, vault, channel="other", secret=b"another")
        [row] = await every(sessions, WebhookSecret, channel="app")
        assert row.sealed is not None
        assert b"verysecret" not in row.sealed
        async with sessions.begin() as session:
            [other] = await every(sessions, WebhookSecret, channel="other")
            (await session.get_one(WebhookSecret, other.id)).sealed = row.sealed

        with pytest.raises(NotReadyError, match="webhook secret simulator other 1 does not open"):
            await live(sessions, vault, "other")

    async def test_needs_a_channel(self, sessions: Sessions, vault: Vault) -> None:
        async with sessions.begin() as session:
            with pytest.raises(WrongUsageError, match="simulator has no channel 'app'"):
                await webhook_secrets.add(
                    session, vault, "simulator", "app", b"first", overlap=NONE, by="ada", reason=""
                )
            assert await webhook_secrets.find(session, vault, "simulator", "app") is None
