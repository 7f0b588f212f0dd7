import asyncio
import re
from datetime import UTC, datetime

import httpx
import pytest

from integrations.db import webhook_channels, webhook_secrets
from integrations.db.vault import Vault
from tests.starters.conftest import UNKNOWN, Account, Runbook
from tests.starters.running import Running
from tests.web.vendor import standard


class TestAdding:
    async def test_prints_the_target_first_and_a_command_that_gives_the_link(self, runbook: Runbook) -> None:
        added = runbook("connections", "add", "simulator", "--owner", "org:pasted", "--reason", "the customer wrote")

        assert added.code == 0
        assert added.err.startswith("Target: postgresql://")
        assert "with Temporal at 127.0.0.1:" in added.err
        (pasted,) = added.printed_commands
        assert pasted[:2] == ["reauth", "link"]
        link = runbook(*pasted)
        assert link.code == 0
        assert "/reconsent/" in link.out
        assert link.err == ""

    def test_answers_a_program_with_one_document(self, runbook: Runbook) -> None:
        added = runbook("connections", "add", "simulator", "--owner", "user:ada", "--json")

        assert added.code == 0
        made = added.json["connection_id"]
        assert added.json["workflow_id"] == f"reauth:simulator:{made}"
        shown = runbook("connections", "show", made, "--json").json
        assert (shown["provider"], shown["owner"], shown["status"]) == ("simulator", "user:ada", "disconnected")
        assert made in {row["id"] for row in runbook("connections", "list", "--json").json}
        assert made in runbook("connections", "list", "--status", "disconnected").out
        assert made not in runbook("connections", "list", "--status", "active").out

    def test_keeps_what_completes_the_providers_addresses(self, runbook: Runbook) -> None:
        added = runbook(
            "connections", "add", "shopify", "--owner", "org:acme", "--set", "shop=acme.myshopify.com", "--json"
        )

        assert added.code == 0
        shown = runbook("connections", "show", added.json["connection_id"], "--json").json
        assert shown["variables"] == {"shop": "acme"}
        runbook("connections", "disconnect", added.json["connection_id"])

    def test_asks_only_for_what_has_no_default(self, runbook: Runbook) -> None:
        added = runbook("connections", "add", "microsoft", "--owner", "org:acme", "--json")

        assert added.code == 0
        assert runbook("connections", "show", added.json["connection_id"], "--json").json["variables"] == {}
        runbook("connections", "disconnect", added.json["connection_id"])

    @pytest.mark.parametrize(
        ("provider", "given", "said"),
        [
            ("shopify", [], "Shopify needs 'shop' (the shop's own name, as in NAME.myshopify.com): give it with --set"),
            ("shopify", ["shop=a.b/../c"], "shop='a.b/../c' does not look like"),
            ("shopify", ["shopp=acme"], "Shopify has no variable 'shopp' to be set; did you mean 'shop'?"),
            ("shopify", ["shop"], "--set 'shop' is no NAME=VALUE, as in --set shop=acme"),
            ("simulator", ["shop=acme"], "Simulator has no variable 'shop' to be set; known are none"),
        ],
    )
    def test_refuses_a_wrong_variable_and_says_what_is_right(
        self, runbook: Runbook, provider: str, given: list[str], said: str
    ) -> None:
        sets = [word for pair in given for word in ("--set", pair)]

        refused = runbook("connections", "add", provider, "--owner", "org:acme", *sets)

        assert (refused.code, refused.out) == (2, "")
        assert said in refused.err

    def test_refuses_what_is_no_owner_and_no_provider_and_says_what_is(self, runbook: Runbook) -> None:
        nobody = runbook("connections", "add", "simulator", "--owner", "acme")
        nowhere = runbook("connections", "add", "simulatr", "--owner", "org:acme")

        assert nobody.code == 2
        assert "'acme' is not an owner: write user:ID or org:ID" in nobody.err
        assert nowhere.code == 1
        assert "did you mean 'simulator'?" in nowhere.err
        assert nobody.out == nowhere.out == ""


class TestAConnectedAccount:
    async def test_is_shown_refreshed_called_and_given_up(self, runbook: Runbook, connected: Account) -> None:
        shown = runbook("connections", "show", connected.word)
        assert "active" in shown.out
        assert "a••@acme.example" in shown.out
        assert "ada@" not in shown.out

        refreshed = runbook("connections", "refresh", connected.word, "--json")
        assert (refreshed.code, refreshed.json["refresh"], refreshed.json["version"]) == (0, "refreshed", 2)
        assert refreshed.err.startswith("Target: ")

        called = runbook("connections", "call", connected.word, "notes.write", "--payload", '{"text": "hello"}')
        assert called.code == 0
        assert "allowed, then ok" in called.out
        same = [runbook("connections", "call", connected.word, "notes.read", "--key", "k", "--json") for _ in range(2)]
        assert [ran.code for ran in same] == [0, 0]
        assert same[0].json["meaning"] == "ok"
        other = runbook(
            "connections", "call", connected.word, "notes.write", "--key", "k", "--payload", '{"text": "hush"}'
        )
        assert (other.code, other.out) == (1, "")
        assert f"the idempotency key 'k' of connection {connected.word} is taken: it was for notes.read" in other.err
        assert "hush" not in other.err

        given_up = runbook("connections", "disconnect", connected.word, "--reason", "customer left")
        assert (given_up.code, given_up.out) == (0, "Disconnected.\n")
        assert given_up.err.startswith("Target: ")
        again = runbook("connections", "disconnect", connected.word)
        assert (again.code, again.out) == (0, "It was disconnected already.\n")

        blocked = runbook("connections", "call", connected.word, "notes.read")
        assert blocked.code == 1
        assert "blocked: the connection is disconnected" in blocked.out
        assert runbook("connections", "refresh", connected.word).code == 1
        history = runbook("connections", "show", connected.word, "--json").json
        assert [move["to"] for move in history["transitions"]] == ["active", "disconnected"]
        assert history["transitions"][-1]["reason"] == "customer left"
        assert {version["state"] for version in history["credentials"]} == {"retired"}

    async def test_whose_provider_is_down_has_its_call_parked_and_is_told_so(
        self, runbook: Runbook, connected: Account
    ) -> None:
        words = ["connections", "call", connected.word, "notes.read", "--key", "parked", "--timeout", "4"]
        async with httpx.AsyncClient(base_url=connected.running.stack.simulator_url, trust_env=False) as simulator:
            order = {"path": "/api/notes", "kind": "status", "status": 503}
            (await simulator.post("/admin/faults", json=order)).raise_for_status()
            first = runbook(*words, "--patience", "1s")
            (await simulator.delete("/admin/faults")).raise_for_status()
        again = runbook(*words)

        job = f"job:simulator:{connected.id}:parked"
        assert (first.code, again.code) == (1, 1)
        assert f"{job} is parked since" in first.err
        assert "It is done when its provider is back: runbook outage status simulator" in first.err
        assert again.err.count(f"{job} is parked since") == 2, "at once, and when the wait for it is over"
        await connected.running.platform.temporal.get_workflow_handle(job).terminate()

    async def test_has_its_calls_counted_by_the_status(self, runbook: Runbook, connected: Account) -> None:
        before = runbook("status", "--json").json["provider_calls"]["simulator"]["ok"]
        for _ in range(3):
            assert runbook("connections", "call", connected.word, "notes.read").code == 0

        async with asyncio.timeout(5):
            while runbook("status", "--json").json["provider_calls"]["simulator"]["ok"] < before + 3:
                await asyncio.sleep(0.1)

        assert re.search(r"simulator +\d+ +\d+ ok", runbook("status").out)

    async def test_answers_a_program_with_a_document_when_it_does_not_wait(
        self, runbook: Runbook, connected: Account
    ) -> None:
        started = runbook("connections", "refresh", connected.word, "--no-wait", "--json")

        assert started.code == 0
        assert f"refresh:simulator:{connected.id}" in started.json.values()

    def test_is_not_called_with_what_cannot_be_meant(self, runbook: Runbook, connected: Account) -> None:
        no_json = runbook("connections", "call", connected.word, "notes.write", "--payload", "hello")
        no_object = runbook("connections", "call", connected.word, "notes.write", "--payload", "[1]")
        no_such = runbook("connections", "call", connected.word, "notes.wirte")

        no_time = [
            runbook("connections", "call", connected.word, "notes.write", "--patience", given)
            for given in ("soon", "0s")
        ]
        assert [ran.code for ran in no_time] == [2, 2]
        assert "--patience" in no_time[0].err
        assert "longer than nothing, as 30m, 1h or 2d" in no_time[1].err
        assert (no_json.code, no_object.code) == (2, 2)
        assert "--payload is not JSON" in no_json.err
        assert '{"text": "hello"}' in no_object.err
        assert no_such.code == 1
        assert "did you mean 'notes.write'?" in no_such.err


class TestAnIdThatNobodyKnows:
    def test_ends_with_1_the_id_and_the_command_that_lists_those_there_are(self, runbook: Runbook) -> None:
        for words in (
            ("connections", "show"),
            ("connections", "refresh"),
            ("connections", "disconnect"),
            ("reauth", "start"),
            ("reauth", "status"),
            ("reauth", "link"),
        ):
            ran = runbook(*words, UNKNOWN)

            assert (ran.code, ran.out) == (1, ""), words
            assert f"there is no connection {UNKNOWN}" in ran.err
            assert ran.printed_commands == [["connections", "list"]]
        call = runbook("connections", "call", UNKNOWN, "notes.read")
        assert (call.code, UNKNOWN in call.err) == (1, True)

    def test_of_a_task_likewise(self, runbook: Runbook) -> None:
        for word in ("show", "ack", "close"):
            ran = runbook("tasks", word, UNKNOWN)

            assert (ran.code, ran.out) == (1, "")
            assert f"there is no task {UNKNOWN}" in ran.err
            assert ran.printed_commands == [["tasks", "list", "--all"]]

    def test_and_is_none_ends_with_2_before_anything_is_touched(self, runbook: Runbook, running: Running) -> None:
        for words in (("connections", "show"), ("reauth", "link"), ("tasks", "close")):
            ran = runbook(*words, "not-an-id")

            assert (ran.code, ran.out) == (2, "")
            assert "valid UUID" in ran.err
            assert "Target:" not in ran.err
        assert running.stack.processes["worker"].alive()


class TestAWebhookSecret:
    def address(self, running: Running, channel: str) -> str:
        return f"{running.stack.settings.web_url}/webhooks/simulator/{channel}"

    async def test_makes_a_channel_and_shows_the_address_and_a_made_secret_once(
        self, runbook: Runbook, running: Running, invited: Account
    ) -> None:
        made = runbook("connections", "webhook-secret", invited.word, "--generate", "--reason", "they wrote")
        secret = re.search(r"whsec_\S+", made.out)
        assert secret is not None
        given = runbook("connections", "webhook-secret", invited.word, "--json", stdin=f"{secret[0]}\n")

        assert (made.code, given.code) == (0, 0)
        assert self.address(running, invited.word) in made.out
        assert secret[0] not in given.out + given.err
        assert given.json == {
            "provider": "simulator",
            "channel": invited.word,
            "address": self.address(running, invited.word),
            "version": 1,
            "retired": 0,
            "secret": None,
            "verify_token": None,
        }
        async with running.platform.sessions.begin() as session:
            channel = await webhook_channels.find(session, "simulator", invited.word)
            live = await webhook_secrets.live(session, Vault(running.stack.settings.keys), "simulator", invited.word)
        assert channel is not None
        assert (channel.connection_id, channel.reason) == (invited.id, "they wrote")
        assert live == (secret[0].encode(),)

    async def test_is_left_open_by_whoever_gives_the_connection_up_and_says_how_to_close_it(
        self, runbook: Runbook, invited: Account
    ) -> None:
        runbook("connections", "webhook-secret", invited.word, "--generate")
        close = f"runbook webhooks close simulator {invited.word}"

        told = runbook("connections", "disconnect", invited.word)
        closed = runbook(*close.split()[1:], "--yes")
        again = runbook("connections", "disconnect", invited.word)

        assert close in told.err
        assert (told.code, closed.code, again.code) == (0, 0, 0)
        assert "webhooks" not in again.err

    async def test_takes_signed_deliveries_and_rotates(
        self, runbook: Runbook, running: Running, invited: Account
    ) -> None:
        """Through the web process of the stack."""
        first, second = (
            runbook("connections", "webhook-secret", invited.word, "--channel", "rotates", "--generate", "--json").json
            for _ in range(2)
        )

        async def sent(delivery_id: str, secret: str) -> int:
            headers = standard(delivery_id, b"{}", secret.encode(), datetime.now(UTC))
            async with httpx.AsyncClient(trust_env=False) as simulator:
                return (await simulator.post(first["address"], content=b"{}", headers=headers)).status_code

        both = [await sent("1", first["secret"]), await sent("2", second["secret"])]
        retired = runbook("connections", "webhook-secret", invited.word, "--channel", "rotates", "--retire")
        await asyncio.sleep(1.1)

        assert first["address"] == second["address"] == self.address(running, "rotates")
        assert (first["version"], second["version"]) == (1, 2)
        assert both == [200, 200]
        assert "Forgot 1 older secrets" in retired.out
        assert [await sent("3", first["secret"]), await sent("4", second["secret"])] == [401, 200]

    async def test_is_refused_with_a_way_out(self, runbook: Runbook, running: Running, invited: Account) -> None:
        command = ("connections", "webhook-secret", invited.word)
        wrong = [
            (runbook(*command), "what was read is empty"),
            (runbook(*command, stdin="not base64!"), "a secret of Standard Webhooks is whsec_ and base64"),
            (runbook(*command, "--channel", "a/b", stdin="s"), "'a/b' is no channel's name"),
            (runbook(*command, stdin="whsec_abcde"), "a secret of Standard Webhooks is whsec_ and base64"),
            (runbook(*command, "--overlap", "soon", "--generate"), "--overlap 'soon' is not written like 14d"),
            (runbook(*command, "--overlap", "31d", "--generate"), "is accepted for at most 30 days more"),
            (runbook(*command, "--retire", "--generate"), "first rotate with --generate"),
            (runbook(*command, "--channel", "nobody", "--retire"), "simulator has no channel 'nobody'"),
        ]
        for ran, said in wrong:
            assert ran.code == 2
            assert said in ran.err
        assert runbook("connections", "webhook-secret", UNKNOWN, stdin="s").code == 1

    def test_needs_a_provider_that_sends_webhooks(self, runbook: Runbook) -> None:
        added = runbook("connections", "add", "pinterest", "--owner", "org:acme", "--json")
        made = added.json["connection_id"]

        refused = runbook("connections", "webhook-secret", made, stdin="s")
        runbook("connections", "disconnect", made)

        assert refused.code == 2
        assert "sends no webhooks that we know of" in refused.err

    def test_is_of_one_connection_where_no_delivery_says_whose_it_is(self, runbook: Runbook) -> None:
        added = runbook("connections", "add", "microsoft", "--owner", "org:acme", "--json")
        made = added.json["connection_id"]

        refused = runbook("connections", "webhook-secret", made, "--channel", "app", "--generate")
        runbook("connections", "disconnect", made)

        assert refused.code == 2
        assert "do not say which account they are about" in refused.err
