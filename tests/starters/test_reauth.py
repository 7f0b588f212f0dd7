import base64
import os

import pytest

from tests.starters.conftest import UNKNOWN, Account, Runbook
from tests.starters.running import Running


class TestAnOrder:
    @pytest.mark.parametrize(
        "words", [["remind"], ["extend", "--until", "10d"], ["cancel", "--snooze", "3d"]], ids=lambda words: words[0]
    )
    async def test_to_a_lifecycle_that_is_not_there_says_so_and_how_to_begin_one(
        self, runbook: Runbook, connected: Account, words: list[str]
    ) -> None:
        refused = runbook("reauth", words[0], connected.word, *words[1:])

        assert (refused.code, refused.out) == (1, "")
        assert "no re-consent of connection" in refused.err
        assert refused.printed_commands == [["reauth", "start", connected.word]]

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["extend", "--until", "soon"], "'soon' is no time: write 2026-12-24T08:00:00Z, or 14d, 12h, 30m or 90s"),
            (["cancel"], "say either --disconnect or --snooze"),
            (["cancel", "--disconnect", "--snooze", "3d"], "say either --disconnect or --snooze"),
        ],
    )
    def test_that_makes_no_sense_is_wrong_usage(self, runbook: Runbook, words: list[str], said: str) -> None:
        refused = runbook("reauth", words[0], UNKNOWN, *words[1:])

        assert (refused.code, refused.out) == (2, "")
        assert said in refused.err

    def test_at_a_time_without_an_offset_is_local_and_echoed_in_both(self, runbook: Runbook) -> None:
        told = runbook("reauth", "extend", UNKNOWN, "--until", "2027-01-01T12:00", TZ="Europe/Berlin")

        assert "2027-01-01 12:00 CET is 2027-01-01 11:00 UTC" in told.err


class TestALifecycleThatWaits:
    async def test_is_reminded_extended_and_snoozed(self, runbook: Runbook, connected: Account) -> None:
        runbook("reauth", "start", connected.word, "--revoked", "--reason", "customer told us")
        await connected.until("pending_reauth")
        await connected.link()

        reminded = runbook("reauth", "remind", connected.word, "--by", "grace", "--reason", "asked for the link")
        assert (reminded.code, reminded.out) == (0, "the owner is reminded\n")
        extended = runbook("reauth", "extend", connected.word, "--until", "20d")
        assert extended.code == 0
        snoozed = runbook("reauth", "cancel", connected.word, "--snooze", "3d", "--reason", "on holiday")
        assert snoozed.code == 0
        later = runbook("reauth", "status", connected.word, "--json").json
        assert later["deadline"][:10] in extended.out
        assert later["snoozed_until"][:10] in snoozed.out
        beyond = runbook("reauth", "cancel", connected.word, "--snooze", "30d")
        assert (beyond.code, beyond.out) == (1, "")
        assert "extend first" in beyond.err


class TestARevokedConnection:
    async def test_is_found_followed_and_repaired_with_what_the_commands_print(
        self, runbook: Runbook, connected: Account
    ) -> None:
        """From the first look to the last: nothing is typed that was not printed before."""
        assert runbook("status").code == 0

        started = runbook("reauth", "start", connected.word, "--revoked", "--by", "ada", "--reason", "customer told us")
        assert started.code == 0
        assert started.err.startswith("Target: ")
        await connected.until("pending_reauth")
        await connected.link()

        look = runbook("status")
        assert look.code == 1
        assert "1 blocked until the owner consents" in look.out
        assert runbook("status", "--json").json["reauth"]["blocked"] == 1
        (listing,) = look.printed_commands
        assert listing == ["tasks", "list"]
        tasks = runbook(*listing)
        assert "customer told us" in tasks.out
        (task,) = (row for row in runbook(*listing, "--json").json if row["connection"] == connected.word)
        assert "customer told us" in runbook("reauth", "list").out
        where = runbook("reauth", "status", connected.word, "--json").json
        assert (where["status"], where["workflow_status"], where["task"]) == ("pending_reauth", "running", task["id"])
        assert "customer told us" in where["cause"]

        blocked = runbook("connections", "call", connected.word, "notes.write", "--payload", '{"text": "no"}')
        assert blocked.code == 1
        assert "blocked" in blocked.out

        acknowledged = runbook("tasks", "ack", task["id"], "--by", "grace")
        assert acknowledged.code == 0
        assert acknowledged.err.startswith("Target: ")
        refused = runbook("tasks", "close", task["id"])
        assert (refused.code, refused.out) == (1, "")
        assert "still waits for its owner" in refused.err
        assert refused.printed_commands == [
            ["reauth", "link", connected.word],
            ["connections", "disconnect", connected.word],
        ]
        shown = runbook("tasks", "show", task["id"], "--json").json
        assert (shown["status"], shown["acknowledged_by"]) == ("acknowledged", "grace")
        link = runbook(*refused.printed_commands[0])
        assert link.out.strip() == await connected.link()

        await connected.consent()

        over = runbook("reauth", "link", connected.word)
        assert (over.code, over.out) == (1, "")
        assert f"connection {connected.id} is active and nobody is invited" in over.err
        assert over.printed_commands == [["reauth", "start", connected.word]]
        assert runbook("tasks", "ack", task["id"]).code == 1
        assert runbook("tasks", "show", task["id"], "--json").json["status"] == "closed"
        assert connected.word not in runbook("reauth", "list").out
        assert runbook("status").code == 0
        assert runbook(*over.printed_commands[0]).code == 0

    async def test_gives_a_link_that_leads_somewhere_or_none(self, runbook: Runbook, invited: Account) -> None:
        """With another key the same invitation has another link: one that no web app knows."""
        another = base64.b64encode(os.urandom(32)).decode()

        wrong = runbook("reauth", "link", invited.word, RUNBOOK_KEY=another)

        assert (wrong.code, wrong.out) == (1, "")
        assert "RUNBOOK_KEY" in wrong.err

    def test_names_the_link_and_its_end_to_a_program(self, runbook: Runbook, invited: Account) -> None:
        told = runbook("reauth", "link", invited.word, "--json").json

        assert told["link"].startswith("http://127.0.0.1:")
        assert told["expires_at"].endswith("Z")


class TestTheTwelfthInvitation:
    async def test_is_opened_like_the_first(self, running: Running) -> None:
        """From its sixth use on, PostgreSQL plans a prepared statement without its parameters."""
        asked = [await running.platform.add("simulator", "org:many", by="the test") for _ in range(12)]

        for row in asked:
            assert await Account(running, row.id).link()


class TestAFirstInvitation:
    async def test_has_a_task_that_may_be_closed_by_hand(self, runbook: Runbook, invited: Account) -> None:
        (task,) = (row for row in runbook("tasks", "list", "--json").json if row["connection"] == invited.word)
        link = task["way_out"].split("runbook ")[1].split()
        assert runbook(*link).out.strip() == await invited.link()

        closed = [runbook("tasks", "close", task["id"], "--reason", "asked by phone") for _ in range(2)]

        assert [ran.code for ran in closed] == [0, 0]
        assert closed[0].err.startswith("Target: ")
        kept = next(row for row in runbook("tasks", "list", "--all", "--json").json if row["id"] == task["id"])
        assert kept["closed_reason"] == "asked by phone"
