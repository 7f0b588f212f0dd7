import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import text

from integrations.db import contact_addresses
from integrations.db.notification_tables import ContactAddress
from integrations.db.vault import Vault
from integrations.domain.keyring import Ring
from integrations.domain.notification import Address
from integrations.keyring import KeysFile
from tests.factories import add_address, every
from tests.starters.conftest import Ran, Runbook
from tests.starters.running import Running

HOOK = "https://hooks.acme.example/T0123/verysecret"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OPERATORS = ("operators.primary", "operators.secondary")


@pytest_asyncio.fixture(autouse=True)
async def _nobody(running: Running) -> AsyncIterator[None]:
    """Nobody is reached by anything."""
    yield
    async with running.platform.sessions.begin() as session:
        await session.execute(text("DELETE FROM service_contact_addresses"))


async def opened(running: Running, **wanted: str) -> Address:
    [row] = await every(running.platform.sessions, ContactAddress, **wanted)
    return contact_addresses.open_address(Vault(running.stack.settings.keys), row)


async def add(running: Running, audience: str, name: str = "", channel: str = "email", **changes: str) -> None:
    """As the command does, without a process."""
    vault = Vault(running.stack.settings.keys)
    await add_address(running.platform.sessions, vault, audience, name, channel, **changes)


def shown_secret(ran: Ran) -> str:
    """The line that is to be passed on; empty when there is none."""
    return next((line.strip() for line in ran.out.splitlines() if line.startswith("  whsec_")), "")


class TestAContact:
    def test_is_set_and_set_again_and_listed(self, runbook: Runbook) -> None:
        for quiet in ("20-8", "22-7"):
            done = runbook("contacts", "set", "org:tokyo", "--zone", "Asia/Tokyo", "--quiet", quiet, "--by", "grace")
            assert done.code == 0
            assert done.err.startswith("Target: ")

        owners = runbook("contacts", "list", "--json").json["owners"]
        (listed,) = (row for row in owners if row["owner"] == "org:tokyo")
        assert (listed["zone"], listed["quiet"], listed["changed_by"]) == ("Asia/Tokyo", "22-7", "grace")
        assert "org:tokyo" in runbook("contacts", "list").out

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["tokyo", "--zone", "Asia/Tokyo"], "'tokyo' is not an owner: write user:ID or org:ID"),
            (["org:tokyo", "--zone", "Asia/Edo"], "'Asia/Edo' is no time zone: write one like Europe/Berlin"),
            (["org:tokyo", "--zone", "Asia/Tokyo", "--quiet", "late"], "'late' are no hours: write 20-8"),
        ],
    )
    def test_that_makes_no_sense_is_wrong_usage(self, runbook: Runbook, words: list[str], said: str) -> None:
        refused = runbook("contacts", "set", *words)

        assert (refused.code, refused.out) == (2, "")
        assert said in refused.err


class TestAnAddress:
    async def test_is_added_and_added_again_and_listed_masked(self, runbook: Runbook, running: Running) -> None:
        words = ("contacts", "add", "org:acme", "email", "ada@acme.example", "--name", "ada", "--by")
        first, again = runbook(*words, "bob"), runbook(*words, "grace")

        listed = runbook("contacts", "list")
        assert (first.code, again.code, listed.code) == (0, 0, 0)
        assert first.err.startswith("Target: ")
        assert first.out == again.out == "org:acme/ada is reached by email at a••@acme.example\n"
        (row,) = runbook("contacts", "list", "--json").json["addresses"]
        assert (row["audience"], row["name"], row["channel"]) == ("org:acme", "ada", "email")
        assert (row["address"], row["changed_by"]) == ("a••@acme.example", "grace")
        assert "a••@acme.example" in listed.out
        assert (await opened(running)).address == "ada@acme.example"
        assert not any("ada@acme" in ran.out + ran.err for ran in (first, again, listed))

    async def test_that_was_another_one_is_named_by_whoever_replaces_it(
        self, runbook: Runbook, running: Running
    ) -> None:
        """A forgotten --name would silence somebody."""
        await add(running, "org:acme")

        done = runbook("contacts", "add", "org:acme", "email", "bob@acme.example")

        assert done.out == "org:acme is reached by email at b••@acme.example, and no more at a••@acme.example\n"
        assert (await opened(running)).address == "bob@acme.example"

    async def test_is_read_from_stdin_and_repeated_nowhere(self, runbook: Runbook, running: Running) -> None:
        done = runbook("contacts", "add", "list.finance", "apprise", "-", stdin="json://hooks.acme.example/TokenA\n")

        assert done.code == 0
        assert (await opened(running)).address == "json://hooks.acme.example/TokenA"
        assert "Token" not in done.out + done.err + runbook("contacts", "list", "--json").out

    async def test_is_removed_and_so_again(self, runbook: Runbook, running: Running) -> None:
        for name in ("ada", "bob"):
            await add(running, "org:acme", name, shown=f"{name[0]}••@acme.example")

        words = ("contacts", "remove", "org:acme", "email", "--name")
        first, again, last = runbook(*words, "ada"), runbook(*words, "ada"), runbook(*words, "bob")

        left = "reached as org:acme: bob by email at b••@acme.example\n"
        assert first.out == f"org:acme/ada is reached by email no more; {left}"
        assert again.out == f"org:acme/ada was not reached by email before; {left}"
        assert "nobody is reached as org:acme: runbook contacts add org:acme email ADDRESS" in last.out
        assert [ran.code for ran in (first, again, last)] == [0, 0, 0]
        assert await every(running.platform.sessions, ContactAddress) == []

    async def test_has_a_name_that_is_shown_as_it_is(self, runbook: Runbook, running: Running) -> None:
        await add(running, "org:acme", "[/b] :cat: [red]Ada")

        shown = runbook("contacts", "list")

        assert shown.code == 0
        assert "[/b] :cat: [red]Ada" in shown.out

    async def test_is_not_sealed_with_a_key_that_the_workers_have_not(
        self, runbook: Runbook, running: Running, tmp_path: Path
    ) -> None:
        """A machine with a file of its own: what it sealed would open nowhere else."""
        key_id = Vault(running.stack.settings.keys).key_id
        KeysFile(tmp_path / "keys.json").create(Ring(key_id, {key_id: os.urandom(32)}, os.urandom(32)))

        words = ("contacts", "add", "org:acme", "email", "ada@acme.example")
        refused = runbook(*words, RUNBOOK_KEYS_FILE=str(tmp_path / "keys.json"))

        assert (refused.code, refused.out) == (1, "")
        assert f"has other bytes as {key_id!r}" in refused.err
        assert await every(running.platform.sessions, ContactAddress) == []

    def test_that_makes_no_sense_is_wrong_usage(self, runbook: Runbook) -> None:
        refused = runbook("contacts", "add", "org:acme", "email", "hunter2")

        assert (refused.code, refused.out) == (2, "")
        assert "runbook: the address is not one that email takes: a mailbox is written ada@" in refused.err
        assert "hunter2" not in refused.err


class TestAWebhook:
    async def test_has_a_secret_that_is_shown_once_and_stays_with_its_address(
        self, runbook: Runbook, running: Running
    ) -> None:
        words = ("contacts", "add", "org:acme", "webhook")
        first, again = runbook(*words, HOOK), runbook(*words, HOOK)
        kept = (await opened(running)).secret
        moved = runbook(*words, f"{HOOK}/elsewhere")

        assert shown_secret(first) == kept
        assert "org:acme is reached by webhook at https://hooks.acme.example/…" in first.out
        assert "whsec_" not in again.out + again.err + first.err
        assert shown_secret(moved) == (await opened(running)).secret
        assert shown_secret(moved) not in {"", kept}

    @pytest.mark.parametrize("where", ["file", "stdin"])
    async def test_takes_a_secret_that_the_other_side_has_given(
        self, runbook: Runbook, running: Running, tmp_path: Path, where: str
    ) -> None:
        file = tmp_path / "secret"
        file.write_text(f"{SECRET}\n")
        given = str(file) if where == "file" else "-"

        done = runbook("contacts", "add", "org:acme", "webhook", HOOK, "--secret-file", given, stdin=SECRET)

        assert done.code == 0
        assert (await opened(running)).secret == SECRET
        assert "whsec_" not in done.out + done.err

    async def test_whose_key_is_lost_is_added_anew(self, runbook: Runbook, running: Running) -> None:
        """The way out when an address does not open must not lead over opening it."""
        await add(running, "org:acme", channel="webhook", address=HOOK, secret=SECRET)
        async with running.platform.sessions.begin() as session:
            await session.execute(text("UPDATE service_contact_addresses SET key_id = 'lost'"))

        done = runbook("contacts", "add", "org:acme", "webhook", HOOK)

        assert done.code == 0
        assert shown_secret(done) == (await opened(running)).secret


class TestAnAudience:
    async def test_that_is_reached_is_told_with_its_channels(self, runbook: Runbook, running: Running) -> None:
        await add(running, "operators.primary", "ada")
        await add(running, "operators.primary", channel="webhook", shown="https://hooks.acme.example/…")
        await add(running, "operators.secondary", "eve")

        shown, told = (runbook("contacts", "check", "operators.primary", *more) for more in ((), ("--json",)))

        assert (shown.code, told.code) == (0, 0)
        assert shown.out == (
            "reached as operators.primary: by webhook at https://hooks.acme.example/…; "
            "ada by email at a••@acme.example\n"
        )
        assert (told.json["audience"], told.json["reached"]) == ("operators.primary", True)
        assert [row["channel"] for row in told.json["addresses"]] == ["webhook", "email"]

    def test_that_nobody_is_reached_as_fails_with_the_way_out(self, runbook: Runbook) -> None:
        shown, told = (runbook("contacts", "check", "user:7", *more) for more in ((), ("--json",)))

        assert (shown.code, shown.out, told.code) == (1, "", 1)
        assert "nobody is reached as user:7: runbook contacts add user:7 email ADDRESS" in shown.err
        assert told.json == {"audience": "user:7", "reached": False, "addresses": []}

    def test_is_none_at_first(self, runbook: Runbook) -> None:
        shown = runbook("contacts", "list")

        assert shown.code == 0
        assert "Nobody is reached by anything: runbook contacts add operators.primary email ADDRESS" in shown.out


class TestTheDoctor:
    async def test_warns_of_operators_whom_nothing_reaches_and_does_not_fail(
        self, runbook: Runbook, running: Running
    ) -> None:
        before, shown = runbook("doctor", "--json"), runbook("doctor")
        await add(running, "operators.primary")
        half = runbook("doctor", "--json")
        await add(running, "operators.secondary", channel="webhook")
        after = runbook("doctor", "--json")

        none, one, both = (next(f for f in ran.json if f["what"] == "operators") for ran in (before, half, after))
        ways = [f"runbook contacts add {audience} email ADDRESS" for audience in OPERATORS]
        # What other tests left on this stack may be a fault of its own: these findings change nothing of that.
        assert len({ran.code for ran in (before, shown, half, after)}) == 1
        assert (none["fine"], none["fix"]) == (True, "; ".join(ways))
        assert any("operators" in line and "warning" in line for line in shown.out.splitlines())
        assert (one["found"], one["fix"]) == (
            "operators.primary: reached by email; operators.secondary: reached by nothing",
            ways[1],
        )
        assert (both["found"], both["fix"]) == (
            "operators.primary: reached by email; operators.secondary: reached by webhook",
            "",
        )
