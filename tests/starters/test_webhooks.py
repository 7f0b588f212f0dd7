"""Webhooks as an operator looks at them: with a database, and neither Temporal nor a worker."""

import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.domain.ledger import Failure
from starters.embedded.ports import free_port
from tests.factories import add_channel
from tests.outbox.plans import made
from tests.starters.conftest import Ran, Runbook, run
from tests.webhook.given import CAUSE, add

NOBODY = "3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11"


@pytest.fixture
def runbook(engine: AsyncEngine, database_url: str, base64_key: str) -> Runbook:
    del engine
    told = {
        "RUNBOOK_DATABASE_URL": database_url.replace("+asyncpg", ""),
        "RUNBOOK_KEY": base64_key,
        "TEMPORAL_ADDRESS": f"127.0.0.1:{free_port()}",
    }

    def without_temporal(*words: str, stdin: str = "", **environment: str) -> Ran:
        return run(*words, stdin=stdin, **(told | environment))

    return without_temporal


async def execute(engine: AsyncEngine, sql: str, **told: Any) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(sql), told)


class TestStatus:
    async def test_tells_what_came_and_what_waits(self, engine: AsyncEngine, runbook: Runbook) -> None:
        await add(engine, 3, "delivered")
        await add(engine, 2, "coalesced", channel="'drive'", provider_id="'google-drive'")
        # On a channel of its own: it may be of the hour before.
        await add(engine, 1, "pending", age=timedelta(minutes=5), channel="'slow'")
        await add(engine, 1, "pending", due_at="now() + interval '1 hour'")
        await add(engine, 2, "dead")
        await execute(
            engine,
            "INSERT INTO service_webhook_repeats (provider_id, channel, delivery_id)"
            " SELECT 'github', 'app', 'again' FROM generate_series(1, 4)",
        )
        await execute(
            engine,
            "INSERT INTO service_webhook_refusals"
            " VALUES (date_trunc('hour', now()), 'github', 'app', 'no signature', 5)",
        )

        found = runbook("webhooks", "status", "--json")

        assert found.code == 1
        told = found.json
        assert [each["what"] for each in told["trouble"]] == ["nobody handles webhooks; deliveries wait", "2 dead"]
        assert "without Temporal's word" in told["note"]
        counts = {(each["provider"], each["channel"]): each["counted"] for each in told["hours"]}
        assert counts["github", "app"] == {
            "accepted": 6,
            "duplicates": 4,
            "coalesced": 0,
            "rejected": {"no signature": 5},
        }
        assert counts["google-drive", "drive"]["coalesced"] == 2
        assert [(each["delivery_id"], each["times"]) for each in told["repeated"]] == [("again", 4)]
        waiting = told["waiting"]
        assert (waiting["pending"], waiting["later"], waiting["dead"]) == (1, 1, 2)
        assert told["lag"] == pytest.approx(300, abs=60)

        words = runbook("webhooks", "status").out
        assert "github/app" in words
        assert "no signature (5)" in words
        assert "again" in words
        assert "runbook webhooks dead" in words

    async def test_has_a_line_of_its_own_among_all_the_others(self, engine: AsyncEngine, runbook: Runbook) -> None:
        await add(engine, 2, "dead")
        await add(engine, 3, "delivered")

        told = runbook("status", "--json").json["webhook"]
        [line] = [line for line in runbook("status").out.splitlines() if line.startswith("webhook")]

        assert [each["what"] for each in told["trouble"]] == ["nobody handles webhooks; nothing waits yet", "2 dead"]
        assert "trouble" in line
        assert "2 dead" in line
        assert "5 accepted, 0 repeated, 0 refused in the last hours" in line
        assert line.rstrip().endswith("runbook webhooks status")

    async def test_tells_nothing_of_what_is_older_than_a_day(self, engine: AsyncEngine, runbook: Runbook) -> None:
        await add(engine, 3, "delivered", age=timedelta(hours=26))

        assert runbook("webhooks", "status", "--json").json["hours"] == []


class TestDead:
    async def test_are_grouped_by_cause_with_the_command_for_each(self, engine: AsyncEngine, runbook: Runbook) -> None:
        await add(engine, 3, "dead", event="'issues.opened'")
        await add(engine, 1, "dead", failure=Failure.of("Other", "thing"))

        found = runbook("webhooks", "dead", "--json").json

        assert [(group["count"], group["cause"]) for group in found] == [(3, CAUSE.cause), (1, "Other: thing")]
        assert found[0]["next"] == f"runbook webhooks plan --cause {CAUSE.fingerprint}"
        assert (found[0]["channels"], found[0]["events"]) == (["github/app"], ["issues.opened"])

    async def test_in_a_plan_are_told_one_by_one(
        self, engine: AsyncEngine, sessions: Sessions, runbook: Runbook
    ) -> None:
        await add(engine, 3, "dead", event="'issues.opened'", account="'ada'")
        plan = await made(sessions, "webhooks")

        [first, *_] = runbook("replays", "show", str(plan.plan_id), "--items", "--json").json["items"]

        assert first["what"].startswith("issues.opened delivery-1-")
        assert first["what"].endswith(" of ada")
        assert first["at"] == "github/app"

    async def test_of_a_cause_are_listed_and_retried_ones_asked_for(
        self, engine: AsyncEngine, runbook: Runbook
    ) -> None:
        await add(engine, 2, "retrying")

        assert runbook("webhooks", "dead").out == "Nothing is dead.\n"
        assert "2 retrying:" in runbook("webhooks", "dead", "--retrying", "--cause", CAUSE.fingerprint).out


class TestShow:
    async def test_tells_of_one_delivery_and_its_body_only_when_asked(
        self, engine: AsyncEngine, runbook: Runbook
    ) -> None:
        [delivery] = await add(
            engine,
            1,
            "dead",
            headers="""'{"x-github-event": "push"}'::jsonb""",
            body=r"'\x7b00ff7d'::bytea",
            reaction="'revoked'",
            notices="""(SELECT jsonb_agg(jsonb_build_array('revoked', 'gone', n)) FROM generate_series(1, 25) AS n)""",
            history="""'[{"at": "2026-11-30T08:00:00", "attempt": 1, "error": "the first"}]'::jsonb""",
        )

        words = runbook("webhooks", "show", str(delivery)).out

        told = ("happened", "reaction", "revoked gone 20", "5 more: --json")
        for part in ("github/app", "x-github-event:", "#1", "the first", "4 bytes", CAUSE.cause, *told):
            assert part in words
        assert "7b00" not in words
        found = runbook("webhooks", "show", str(delivery), "--json").json
        assert (found["headers"], found["bytes"]) == ({"x-github-event": "push"}, 4)
        assert "body" not in found

    async def test_tells_why_it_may_not_be_handled_and_so_does_the_page(
        self, engine: AsyncEngine, runbook: Runbook
    ) -> None:
        [delivery] = await add(
            engine, 1, age=timedelta(hours=12), event="'gone'", waits="'one of a surge'", due_at="now()"
        )

        assert "one of a surge" in runbook("webhooks", "show", str(delivery)).out
        assert "1 uninstalled of github for 12 h: one of a surge" in runbook("webhooks", "status").out
        [held] = runbook("webhooks", "status", "--json").json["held_back"]
        assert (held["count"], held["why"]) == (1, "one of a surge")

    async def test_writes_the_body_as_it_came(self, engine: AsyncEngine, runbook: Runbook) -> None:
        [delivery] = await add(engine, 1, body="convert_to('<ä>', 'UTF8')")

        assert runbook("webhooks", "show", str(delivery), "--body").out == "<ä>"

    def test_of_none_says_so(self, runbook: Runbook) -> None:
        found = runbook("webhooks", "show", NOBODY)

        assert found.code == 1
        assert f"there is no delivery {NOBODY}" in found.err


class TestAudit:
    async def test_finds_what_does_not_hold_and_says_what_a_window_costs(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, runbook: Runbook
    ) -> None:
        await add_channel(sessions, vault, "github", secret=b"It's a secret to nobody here")
        await add(engine, 5, "delivered")
        await execute(engine, "UPDATE service_webhook_secrets SET made_at = now() - interval '366 days'")

        found = runbook("webhooks", "audit", "--json")

        assert found.code == 1
        told = found.json
        assert [each["what"] for each in told["findings"]] == [
            "github/app: secret 1 is 366 days old, and 365 are allowed",
            "github/app was never tested",
        ]
        [horizon] = told["horizons"]
        assert (horizon["provider"], horizon["identity"], horizon["window"]) == ("github", "id", "P30D")
        assert horizon["cost"] == 30 * horizon["per_day"] > 0
        assert (told["ledger"], told["illegal"]) == ("", {})
        words = runbook("webhooks", "audit", RUNBOOK_WEBHOOK_SECRET_AGE="400d").out
        assert "A delivery was inserted and rolled back: fine" in words
        assert "days old" not in words
        assert "It's a secret" not in found.out + words

    async def test_of_what_holds_ends_well(self, runbook: Runbook) -> None:
        found = runbook("webhooks", "audit")

        assert found.code == 0
        assert "Nothing was found." in found.out

    async def test_a_window_that_is_shorter_than_a_provider_repeats_is_a_finding(
        self, sessions: Sessions, vault: Vault, engine: AsyncEngine, runbook: Runbook
    ) -> None:
        await add_channel(sessions, vault, "stripe")
        await execute(engine, "UPDATE service_webhook_channels SET tested_at = now()")

        found = runbook("webhooks", "audit", "--json", RUNBOOK_WEBHOOKS_KEPT="1d")

        assert [each["what"] for each in found.json["findings"]] == [
            "stripe repeats for 3 d, and a repeat is known for 1 d: later ones are handled twice"
        ]


class TestChannels:
    async def test_are_listed_with_their_address_and_no_secret(
        self, sessions: Sessions, vault: Vault, runbook: Runbook
    ) -> None:
        assert "runbook connections webhook-secret" in runbook("webhooks", "channels").out
        await add_channel(sessions, vault, "github", secret=b"It's a secret to nobody here")

        found = runbook("webhooks", "channels", "--json", RUNBOOK_WEB_URL="https://hooks.acme.example/")

        [channel] = found.json
        assert channel["address"] == "https://hooks.acme.example/webhooks/github/app"
        assert [each["version"] for each in channel["secrets"]] == [1]
        assert "It's a secret" not in found.out
        assert "1 (made 0 s ago)" in re.sub(r"made \d+ s", "made 0 s", runbook("webhooks", "channels").out)

    async def test_are_closed_once_asked_for_and_again_without_harm(
        self, engine: AsyncEngine, sessions: Sessions, vault: Vault, runbook: Runbook
    ) -> None:
        """One of a provider that the catalog has no more, as well."""
        await add_channel(sessions, vault, "gone")
        [found] = runbook("webhooks", "audit", "--json").json["findings"]
        assert found["next"] == "runbook webhooks close gone app"

        assert runbook("db", "bind", "--yes").code == 0

        asked = runbook("webhooks", "close", "gone", "app")
        assert (asked.code, "--yes" in asked.err) == (2, True)
        assert [each["channel"] for each in runbook("webhooks", "channels", "--json").json] == ["app"]

        closed = [runbook("webhooks", "close", "gone", "app", "--yes", "--reason", "left") for _ in range(2)]

        assert [each.code for each in closed] == [0, 0]
        assert [each.out.partition(".")[0] for each in closed] == ["Closed", "It was closed already"]
        assert runbook("webhooks", "channels", "--json").json == []
        assert runbook("webhooks", "audit").code == 0
        async with engine.connect() as connection:
            why = await connection.execute(text("SELECT closed_reason FROM service_webhook_channels"))
            assert why.scalars().all() == ["left"]

    def test_that_are_none_cannot_be_closed(self, runbook: Runbook) -> None:
        assert runbook("db", "bind", "--yes").code == 0

        found = runbook("webhooks", "close", "github", "app", "--yes")

        assert found.code != 0
        assert "there is no channel github/app (runbook webhooks channels lists them)" in found.err
