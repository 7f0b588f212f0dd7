"""How people are reached: found for many audiences at once, and sealed where it lies."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db import contact_addresses, contacts
from integrations.db.notification_tables import ContactAddress
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.domain.errors import NotReadyError
from integrations.domain.quiet_hours import QuietHours
from tests.factories import add_address, every

BERLIN = QuietHours(zone="Europe/Berlin", starts=22, ends=7)
UNKNOWN = QuietHours(zone="Asia/Tokyo", starts=21, ends=6)
URL = "https://hooks.acme.example/T0123/verysecret"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@contextmanager
def statements(engine: AsyncEngine) -> Iterator[list[str]]:
    """What is sent to the database meanwhile."""
    sent: list[str] = []

    def note(*given: Any) -> None:
        sent.append(given[2])

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine.sync_engine, "before_cursor_execute", note)


class TestAnAddress:
    async def test_is_put_down_once_and_the_last_one_counts(self, sessions: Sessions, vault: Vault) -> None:
        await add_address(sessions, vault, "org:acme", "ada", by="bob")
        [before] = await every(sessions, ContactAddress)

        await add_address(
            sessions, vault, "org:acme", "ada", address="ada@new.example", origin="o", shown="s", by="grace"
        )

        [row] = await every(sessions, ContactAddress)
        assert contact_addresses.open_address(vault, row).address == "ada@new.example"
        assert (row.id, row.origin, row.shown, row.changed_by) == (before.id, "o", "s", "grace")
        assert row.changed_at > before.changed_at

    async def test_is_put_down_once_by_two_at_the_same_time(self, sessions: Sessions, vault: Vault) -> None:
        await asyncio.gather(*(add_address(sessions, vault, "org:acme", by=by) for by in ("ada", "bob")))

        assert len(await every(sessions, ContactAddress)) == 1

    async def test_stands_nowhere_in_its_table(self, sessions: Sessions, vault: Vault) -> None:
        await add_address(
            sessions, vault, "org:acme", channel="webhook", address=URL, secret=SECRET, shown="https://hooks/…"
        )

        async with sessions.begin() as session:
            whole = await session.scalar(text("SELECT string_agg(a::text, '') FROM service_contact_addresses AS a"))
        assert "https://hooks/…" in whole
        for part in ("verysecret", SECRET[6:], "T0123"):
            assert part not in whole
            assert part.encode().hex() not in whole

    async def test_opens_for_a_sending_and_is_in_no_repr(self, sessions: Sessions, vault: Vault) -> None:
        await add_address(sessions, vault, "org:acme", "ada", "webhook", address=URL, secret=SECRET)
        [row] = await every(sessions, ContactAddress)

        opened = contact_addresses.open_address(vault, row)

        assert (opened.address, opened.secret) == (URL, SECRET)
        assert (opened.channel, opened.recipient, opened.name) == ("webhook", "org:acme/ada", "ada")
        assert "verysecret" not in repr(opened)
        assert SECRET not in repr(opened)

    @pytest.mark.parametrize(
        "other",
        [("org:acme", "bob", "email"), ("org:emca", "ada", "email"), ("org:acme", "ada", "apprise")],
    )
    async def test_does_not_open_as_another_ones(
        self, sessions: Sessions, vault: Vault, other: tuple[str, str, str]
    ) -> None:
        """Whoever may write rows cannot have somebody's messages sent to somebody else."""
        await add_address(sessions, vault, "org:acme", "ada")
        await add_address(sessions, vault, *other)
        audience, name, channel = other

        rows = await every(sessions, ContactAddress)
        ours = next(row for row in rows if (row.audience, row.name, row.channel) == ("org:acme", "ada", "email"))
        theirs = next(row for row in rows if row is not ours)
        theirs.sealed = ours.sealed

        with pytest.raises(NotReadyError, match="altered data") as raised:
            contact_addresses.open_address(vault, theirs)
        assert f"{channel} address of {audience} ({name})" in str(raised.value)
        assert "ada@acme.example" not in str(raised.value)

    async def test_is_removed_once_and_nobody_elses_is(self, sessions: Sessions, vault: Vault) -> None:
        kept = [("org:acme", "", "email"), ("org:acme", "ada", "webhook"), ("org:emca", "ada", "email")]
        for each in (*kept, ("org:acme", "ada", "email")):
            await add_address(sessions, vault, *each)

        gone = []
        for _ in range(2):
            async with sessions.begin() as session:
                gone.append(await contact_addresses.remove(session, "org:acme", "ada", "email"))

        assert gone == [True, False]
        async with sessions.begin() as session:
            left = [(row.audience, row.name, row.channel) for row in await contact_addresses.listed(session)]
        assert left == kept

    async def test_is_found_by_its_id_or_missing(self, sessions: Sessions, vault: Vault) -> None:
        for name in ("ada", "bob", "eve"):
            await add_address(sessions, vault, "org:acme", name)
        ids = {row.name: row.id for row in await every(sessions, ContactAddress)}

        async with sessions.begin() as session:
            found = await contact_addresses.rows_of(session, [ids["ada"], ids["eve"], uuid4()])

        assert {key: row.name for key, row in found.items()} == {ids["ada"]: "ada", ids["eve"]: "eve"}


class TestAudiences:
    async def test_are_all_resolved_by_one_statement(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault
    ) -> None:
        for each in (
            ("org:acme", "ada", "email"),
            ("org:acme", "ada", "webhook"),
            ("org:acme", "bob", "email"),
            ("operators.primary", "", "apprise"),
            ("org:silent", "eve", "email"),
        ):
            await add_address(sessions, vault, *each)
        ids = {(row.audience, row.name, row.channel): row.id for row in await every(sessions, ContactAddress)}

        async with sessions.begin() as session:
            with statements(engine) as sent:
                found = await contact_addresses.of(session, ["org:acme", "operators.primary", "user:7"], quiet=UNKNOWN)

        assert len(sent) == 1
        assert {audience: [(each.key, each.addresses) for each in them] for audience, them in found.items()} == {
            "org:acme": [
                (
                    "org:acme/ada",
                    {
                        "email": ids["org:acme", "ada", "email"],
                        "webhook": ids["org:acme", "ada", "webhook"],
                    },
                ),
                ("org:acme/bob", {"email": ids["org:acme", "bob", "email"]}),
            ],
            "operators.primary": [("operators.primary", {"apprise": ids["operators.primary", "", "apprise"]})],
            "user:7": [],
        }

    async def test_have_the_quiet_hours_of_their_owner_and_operators_none(
        self, sessions: Sessions, vault: Vault
    ) -> None:
        audiences = ("org:a:c/me", "user:7", "org:7", "operators.primary", "list.finance")
        for each in audiences:
            await add_address(sessions, vault, each)
        async with sessions.begin() as session:
            await contacts.put(session, "org", "a:c/me", BERLIN, by="ada")
            await contacts.put(session, "user", "7", QuietHours(starts=1, ends=2), by="ada")

        async with sessions.begin() as session:
            found = await contact_addresses.of(session, audiences, quiet=UNKNOWN)

        assert {audience: them[0].quiet for audience, them in found.items()} == {
            "org:a:c/me": BERLIN,
            "user:7": QuietHours(starts=1, ends=2),
            "org:7": UNKNOWN,
            "operators.primary": QuietHours(starts=0, ends=0),
            "list.finance": QuietHours(starts=0, ends=0),
        }
