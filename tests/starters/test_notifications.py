"""Notifications as an operator looks at them, on a stack that sends meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy import text

from integrations.db import outbox
from integrations.domain.notification_alert import EVENT
from integrations.providers import definitions
from tests.notification.sink import Sink, receiving
from tests.starters.conftest import UNKNOWN, Runbook, run
from tests.starters.running import Running

OPENED = dict(definitions.load().samples["provider.outage_opened"][0])
TABLES = ("contact_addresses", "notification_dispatches", "replay_items", "replay_plans")


async def committed(running: Running, sql: str, **told: Any) -> Any:
    async with running.platform.sessions.begin() as session:
        found = await session.execute(text(sql), told)
        return found.all() if found.returns_rows else []


TOLD_ALREADY = f"""
INSERT INTO service_lifecycle_outbox (event_id, name, provider_id, scope_type, scope_id, order_key, part, seq, payload,
  status)
VALUES (gen_random_uuid(), '{EVENT}', 'runbook', 'org', 'operators', '{EVENT}', 0, 1000000, '{{}}', 'delivered')
"""


@pytest_asyncio.fixture(autouse=True)
async def _gone_afterwards(running: Running) -> AsyncIterator[None]:
    """The stack is not in trouble for the next test, and nobody is told anything."""
    yield
    ours = "(SELECT event_id FROM service_lifecycle_outbox WHERE provider_id = 'runbook' OR name LIKE 'provider.%' "
    ours += "OR name = 'nobody.cares')"
    for table in ("notification_requests", "activity_entries", "projector_ledger"):
        await committed(running, f"DELETE FROM service_{table} WHERE event_id IN {ours}")
    await committed(running, f"DELETE FROM service_lifecycle_outbox WHERE event_id IN {ours}")
    for table in TABLES:
        await committed(running, f"DELETE FROM service_{table}")


@pytest_asyncio.fixture
async def sink(runbook: Runbook, running: Running) -> AsyncIterator[Sink]:
    """Where the primary's webhook leads: it refuses everything."""
    async with receiving(lambda _key, _nth: 410) as made:
        added = await asyncio.to_thread(runbook, "contacts", "add", "operators.primary", "webhook", made.url)
        assert added.code == 0
        # Within the hour operators are not told again that messages die: that would be one more.
        await committed(running, TOLD_ALREADY)
        yield made


async def happen(running: Running, name: str = "provider.outage_opened", order_key: str = "simulator") -> UUID:
    event_id = uuid4()
    async with running.platform.sessions.begin() as session:
        await outbox.enqueue_apart(
            session,
            event_id,
            name,
            OPENED,
            provider_id="simulator",
            scope_type="org",
            scope_id="acme",
            order_key=order_key,
        )
    return event_id


async def until(running: Running, status: str, event_id: UUID) -> UUID:
    """A dispatch of the event is so."""
    sql = "SELECT id FROM service_notification_dispatches WHERE event_id = :id AND status = :status"
    async with asyncio.timeout(60):
        while not (found := await committed(running, sql, id=event_id, status=status)):
            await asyncio.sleep(0.1)
    dispatch_id: UUID = found[0].id
    return dispatch_id


async def asked(runbook: Runbook, *words: str, **environment: str) -> Any:
    """In a thread: whoever is told meanwhile is served here."""
    return await asyncio.to_thread(runbook, *words, **environment)


class TestTheStatus:
    async def test_is_fine_while_nobody_is_to_be_told_and_says_so(self, runbook: Runbook, running: Running) -> None:
        seen = "SELECT 1 FROM service_dispatchers WHERE ledger = 'notifications' AND seen_at > now() - interval '9 s'"
        async with asyncio.timeout(60):
            while len(await committed(running, seen)) < 3:
                await asyncio.sleep(0.1)

        told, shown, one = (
            runbook("notifications", "status", "--json"),
            runbook("notifications", "status"),
            runbook("status"),
        )

        assert (told.code, told.err, told.json["trouble"], told.json["note"]) == (0, "", [], "")
        channels = told.json["channels"]
        assert [each["channel"] for each in channels] == ["webhook", "email", "apprise"]
        assert {each["dispatcher"]["workflow"]["state"] for each in channels} == {"running"}
        assert [each["dispatcher"]["owner"]["parts"] for each in channels] == [[0], [1], [2]]
        assert {each["unready"] for each in channels} == {""}
        assert "Fine. Nobody is told anything yet: runbook contacts add operators.primary email ADDRESS" in shown.out
        assert "notification  fine" in one.out
        assert "Nobody is told anything yet" in one.out

    async def test_works_without_temporal_and_says_so(self, runbook: Runbook) -> None:
        ran = runbook("notifications", "status", TEMPORAL_ADDRESS="127.0.0.1:9")

        assert (ran.code, ran.err) == (0, "")
        assert "without Temporal's word: Temporal does not answer at 127.0.0.1:9" in ran.out

    async def test_tells_of_a_channel_that_cannot_send_with_the_fix(
        self, runbook: Runbook, running: Running, tmp_path: Path
    ) -> None:
        """Seen from where the mail server is not set: the stack has one."""
        runbook("contacts", "add", "operators.primary", "email", "ada@acme.example")
        given = {name: running.stack.environment[name] for name in ("RUNBOOK_DATABASE_URL", "RUNBOOK_KEYS_FILE")}

        ran = run("notifications", "status", "--json", RUNBOOK_DATA=str(tmp_path), **given)

        [trouble] = ran.json["trouble"]
        assert ran.code == 1
        assert trouble["what"].startswith("email cannot send, and 1 are reached by it: RUNBOOK_SMTP_URL is not set: ")

    async def test_leads_from_the_first_look_to_the_replay_of_what_is_dead(
        self, runbook: Runbook, running: Running, sink: Sink
    ) -> None:
        """Nothing is typed that was not printed before."""
        dispatch_id = await until(running, "dead", await happen(running))

        look = await asked(runbook, "status")
        [first] = look.printed_commands
        groups = await asked(runbook, *first)
        [plan] = groups.printed_commands
        told = await asked(runbook, "notifications", "status")
        items = await asked(runbook, "notifications", "dead", "--cause", plan[-1])
        planned = await asked(runbook, *plan, "--items")
        [[*replay]] = planned.printed_commands
        sink.answers = lambda _key, _nth: 202
        ran = await asked(runbook, *replay, "--yes")
        again = await asked(runbook, *replay, "--json")
        fine = await asked(runbook, "notifications", "status", "--json")

        assert (look.code, groups.code, told.code, items.code, planned.code) == (1, 0, 1, 0, 0)
        assert first == ["notifications", "dead"]
        assert (plan[:3], str(dispatch_id) in groups.out) == (["notifications", "plan", "--cause"], True)
        assert plan in told.printed_commands
        assert "HTTP 410" in items.out
        for words in ("1  send", "1  same", "the idempotency key of a webhook", str(dispatch_id), "operators.primary"):
            assert words in planned.out
        assert (ran.code, ran.out) == (0, "done: 1 delivered, 0 skipped, 0 dead again of 1\n")
        assert (again.code, again.json["delivered"], "It was run before" in again.err) == (0, 1, True)
        assert (fine.code, fine.json["channels"][0]["sent"]) == (0, 1)
        assert len({key for key, _ in sink.arrivals}) == 1
        assert [status for _, status in sink.arrivals] == [410, 202]


class TestTheDead:
    async def test_are_none_and_that_is_said(self, runbook: Runbook) -> None:
        ran, retried = runbook("notifications", "dead"), runbook("notifications", "dead", "--retrying")

        assert (ran.code, ran.out) == (0, "Nothing is dead, and nothing reached nobody.\n")
        assert (retried.code, retried.out) == (0, "Nothing is retrying.\n")

    async def test_are_shown_one_by_one_with_what_was_to_be_said(
        self, runbook: Runbook, running: Running, sink: Sink
    ) -> None:
        event_id = await happen(running)
        dispatch_id = await until(running, "dead", event_id)

        shown, told = (
            await asked(runbook, "notifications", "dead", str(dispatch_id)),
            await asked(runbook, "notifications", "dead", str(dispatch_id), "--json"),
        )

        assert (shown.code, told.code) == (0, 0)
        assert f"runbook notifications explain {event_id}" in shown.out
        assert told.json["rendered"]["text"] in shown.out
        assert sink.url not in shown.out + told.out

    @pytest.mark.parametrize(
        ("words", "code", "answer"),
        [
            ((UNKNOWN,), 1, f"there is no dispatch {UNKNOWN}"),
            (("seven",), 2, "dispatch_id"),
            ((UNKNOWN, "--retrying"), 2, "say either a dispatch's id or --cause"),
        ],
    )
    def test_that_are_asked_for_wrongly_are_answered_in_words(
        self, runbook: Runbook, words: tuple[str, ...], code: int, answer: str
    ) -> None:
        ran = runbook("notifications", "dead", *words)

        assert (ran.code, ran.out) == (code, "")
        assert answer in ran.err


class TestAPlan:
    async def test_shows_what_has_changed_since(self, runbook: Runbook, running: Running, sink: Sink) -> None:
        await until(running, "dead", await happen(running))
        sql = """UPDATE service_notification_dispatches SET version = 'another', rendered = rendered
          || jsonb_build_object('subject', 'the old words', 'to', 'https://old.example/…') RETURNING 1"""
        await committed(running, sql)

        planned = await asked(runbook, "notifications", "plan", "--channel", "webhook", "--items", "--json")
        shown = await asked(runbook, "replays", "show", planned.json["plan"], "--items")

        assert planned.json["histogram"]["template"] == {"changed since": 1}
        [item] = planned.json["items"]
        assert item["verdict"] == "send"
        assert item["changes"][0].startswith("address  https://old.example/… → http://127.0.0.1:")
        assert item["changes"][1:3] == ["subject:", "  - the old words"]
        assert item["changes"][3].startswith("  + ")
        assert all(line in shown.out for line in item["changes"])

    async def test_has_pages_of_items(self, runbook: Runbook, running: Running, sink: Sink) -> None:
        """Of orders of their own: nothing makes the others old."""
        for event_id in [await happen(running, order_key=f"simulator {number}") for number in range(3)]:
            await until(running, "dead", event_id)

        first = await asked(runbook, "notifications", "plan", "--items", "--limit-items", "2")
        plan = first.out.split("--rate")[0].split()[-1]
        rest = await asked(runbook, "replays", "show", plan, "--items", "--after", "2", "--json")

        assert f"runbook replays show {plan} --items --after 2" in first.out
        assert [item["n"] for item in rest.json["items"]] == [3]

    async def test_of_what_cannot_be_meant_is_answered_in_words(self, runbook: Runbook, tmp_path: Path) -> None:
        broken = tmp_path / "broken.toml"
        broken.write_text(
            '[notifications.a]\nevents = ["provider.outage_opened"]\naudience = "nobody"\nchannels = ["email"]\n'
            'relevant_for = "1d"\nsubject = "x"\ntext = "{{ nosuch }}"\n'
            '[notifications.b]\nevents = ["provider.outage_opened"]\naudience = "owner"\nchannels = []\n'
            'relevant_for = "1d"\nsubject = "x"\ntext = "x"\n'
        )
        for words, environment, code, answers in (
            ((), {}, 1, ["nothing matches --status dead: no plan was made. `runbook notifications dead`"]),
            (("--channel", "emial"), {}, 2, ["'emial' is no channel; did you mean 'email'?"]),
            (("--projector", "activity"), {}, 2, ["No such option"]),
            (
                (),
                {"RUNBOOK_NOTIFICATIONS": str(broken)},
                2,
                ["notifications.a.audience: 'nobody' is no audience", "notifications.b.channels: there is no channel"],
            ),
        ):
            ran = runbook("notifications", "plan", *words, **environment)

            assert (ran.code, ran.out) == (code, ""), words
            for answer in answers:
                assert answer in ran.err, words


class TestAReplay:
    async def test_that_cannot_be_run_is_refused_in_words(self, runbook: Runbook, running: Running, sink: Sink) -> None:
        await until(running, "dead", await happen(running))
        plan = (await asked(runbook, "notifications", "plan", "--json")).json["plan"]

        both = await asked(runbook, "notifications", "replay", plan, "--channel", "email", "--yes")
        other = await asked(runbook, "outbox", "replay", plan, "--yes")
        asking = await asked(runbook, "notifications", "replay", "--channel", "webhook")
        expired_sql = "UPDATE service_replay_plans SET expires_at = now() RETURNING 1"
        await committed(running, expired_sql)
        expired = await asked(runbook, "notifications", "replay", plan, "--yes")
        await committed(running, "UPDATE service_replay_plans SET expires_at = now() + interval '1 hour' RETURNING 1")
        await committed(running, "UPDATE service_replay_items SET item_id = gen_random_uuid() RETURNING 1")
        edited = await asked(runbook, "notifications", "replay", plan, "--yes")

        assert [ran.code for ran in (both, other, asking, expired, edited)] == [2, 1, 2, 1, 1]
        assert "say either a plan's id or filters" in both.err
        assert f"is of another ledger: runbook notifications replay {plan}" in other.err
        assert "run it on a terminal, or with --yes: runbook notifications replay" in asking.err
        assert "expired at" in expired.err
        assert "was edited" in edited.err


class TestAnExplanation:
    async def test_names_definition_recipient_channel_words_and_what_became_of_it(
        self, runbook: Runbook, running: Running, sink: Sink, tmp_path: Path
    ) -> None:
        event_id = await happen(running)
        dispatch_id = await until(running, "dead", event_id)
        before = len(sink.arrivals)

        page = tmp_path / "page.html"
        shown = await asked(runbook, "notifications", "explain", str(event_id), "--html", str(page))
        told = await asked(runbook, "notifications", "explain", str(event_id), "--json")

        assert (shown.code, told.code, len(sink.arrivals)) == (0, 0, before)
        assert told.json["says"].startswith("expanded")
        assert told.json["next"].startswith("runbook notifications plan --cause ")
        [mapped] = told.json["mapped"]
        assert (mapped["definition"], mapped["pattern"]) == ("outage_opened", "provider.outage_opened")
        assert mapped["file"].endswith("definitions.toml")
        assert mapped["audience"] == "operators.primary"
        [reader] = mapped["readers"]
        assert [(way["channel"], way["state"]) for way in reader["ways"]] == [
            ("apprise", "no address"),
            ("email", "no address"),
            ("webhook", "dead"),
        ]
        assert reader["subject"]
        assert all(line.strip() in shown.out for line in reader["text"].splitlines())
        [became] = told.json["became"]
        assert (became["id"], became["status"], became["attempts"]) == (str(dispatch_id), "dead", 1)
        assert became["error"].startswith("HTTP 410")
        assert "<html" in page.read_text()
        assert sink.url not in shown.out + told.out

    async def test_of_an_invitation_shows_no_link_and_when_it_goes_out(
        self, runbook: Runbook, running: Running, invited: Any
    ) -> None:
        sql = "SELECT event_id FROM service_lifecycle_outbox WHERE name = 'reauth.invited' AND connection_id = :id"
        [(event_id,)] = await committed(running, sql, id=invited.id)
        link = await invited.link()
        runbook("contacts", "add", "org:acme", "email", "ada@acme.example", "--name", "Ada")

        told = runbook("notifications", "explain", str(event_id), "--json")
        shown = runbook("notifications", "explain", str(event_id))

        [mapped] = told.json["mapped"]
        [reader] = mapped["readers"]
        assert (mapped["audience"], mapped["old"], reader["recipient"]) == ("owner, org:acme", "", "org:acme/Ada")
        assert reader["ways"][0]["state"] == "would go by this one, the first that can"
        assert reader["ways"][0]["address"] == "a••@acme.example"
        assert "(the link: it is made anew whenever this is sent)" in reader["text"]
        assert "Hello Ada" in shown.out
        assert "ada@acme.example" not in shown.out + told.out
        assert link.rsplit("/", 1)[-1] not in shown.out + told.out
        await running.platform.disconnect(invited.id, by="the test", reason="over")
        await invited.until("disconnected")
        after = runbook("notifications", "explain", str(event_id), "--json")
        [mapped] = after.json["mapped"]
        assert mapped["readers"][0]["mistake"].startswith("its invitation was answered, replaced, or has expired")

    async def test_of_what_nobody_is_told_says_so_with_the_way_out(self, runbook: Runbook, running: Running) -> None:
        unmapped = await happen(running, "nobody.cares")
        nobody = await happen(running)
        await until(running, "nobody", nobody)
        async with asyncio.timeout(60):
            sql = "SELECT 1 FROM service_notification_requests WHERE event_id = :id"
            while not await committed(running, sql, id=unmapped):
                await asyncio.sleep(0.1)

        first, second = (runbook("notifications", "explain", str(each)) for each in (unmapped, nobody))

        assert "no definition is about 'nobody.cares': nobody is told" in first.out
        assert "RUNBOOK_NOTIFICATIONS" in first.out
        assert "nobody      operators.primary has no address: runbook contacts add operators.primary" in second.out

    @pytest.mark.parametrize(
        ("word", "code", "answer"),
        [(UNKNOWN, 1, f"there is no event {UNKNOWN}: `runbook notifications dead`"), ("seven", 2, "event_id")],
    )
    def test_of_no_event_is_refused_in_words(self, runbook: Runbook, word: str, code: int, answer: str) -> None:
        ran = runbook("notifications", "explain", word)

        assert (ran.code, ran.out) == (code, "")
        assert answer.lower() in ran.err.lower()
