"""`runbook connections why`, after something happened to a connection."""

import re

from starters.demo.simulator import Simulator
from tests.starters.conftest import UNKNOWN, Account, Runbook
from tests.starters.running import Running


class TestWhy:
    async def test_tells_the_whole_story_of_a_revoked_connection(
        self, runbook: Runbook, running: Running, connected: Account
    ) -> None:
        simulator = Simulator(running.stack.simulator_url)
        await simulator.revoke("acct_ada")
        await simulator.close()
        runbook("connections", "refresh", connected.word, "--by", "grace", "--reason", "the token is due")
        await connected.until("pending_reauth")

        blocked = runbook("connections", "why", connected.word)

        assert blocked.code == 0
        assert blocked.printed_commands == [["reauth", "link", connected.word]]
        told = blocked.out.split("\n\n")[-1]
        assert re.search(r"what +active → pending_reauth", told)
        assert re.search(r"answer +400 invalid_grant", told)
        assert re.search(r"rule +\S+ \(row \d+ of \d+\)", told)
        assert re.search(rf"noticed by +http\S+/refresh%3Asimulator%3A{connected.id}/[0-9a-f-]+/history", told)
        assert re.search(rf"workflow +http\S+/reauth%3Asimulator%3A{connected.id}/[0-9a-f-]+/history", told)

        await connected.consent()
        turns = runbook("connections", "why", connected.word, "--json").json["turns"]
        assert [turn["what"] for turn in turns] == [
            "requested, no change of status",
            "disconnected → active",
            "active → pending_reauth",
            "pending_reauth → active",
        ]
        assert (turns[-1]["person"], turns[-1]["rule"]) == ("a••@acme.example", "success")

    async def test_names_the_person_whose_command_it_was(self, runbook: Runbook, invited: Account) -> None:
        await invited.consent()
        runbook("connections", "disconnect", invited.word, "--by", "grace", "--reason", "left us")

        shown = runbook("connections", "why", invited.word)

        last = shown.out.split("\n\n")[-1]
        assert re.search(r"person +grace", last)
        assert "workflow" not in last
        assert shown.printed_commands == [["reauth", "start", invited.word]]

    def test_of_an_unknown_connection_says_so(self, runbook: Runbook) -> None:
        refused = runbook("connections", "why", UNKNOWN)

        assert refused.code == 1
        assert f"there is no connection {UNKNOWN}" in refused.err
