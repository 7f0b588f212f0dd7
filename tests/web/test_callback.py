"""The answer of a provider, and of those who pretend to be one."""

import asyncio
import time
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from integrations.db.ledger_tables import OutboxEvent
from integrations.db.vault import session_place
from integrations.domain.connection import reauth_id
from integrations.domain.reauth import ConsentDenied, ConsentReceived, ReauthRequest
from integrations.providers.entry import Variable
from tests.activities.connected import altered
from tests.factories import every
from tests.web.conftest import Invitation, Serve, Site, press
from web.app import Platform


@pytest.fixture
def altered_parts(parts: Platform) -> Platform:
    variables = {
        "company": Variable(source="callback", field="realmId", pattern="[0-9]+"),
        "shop": Variable(source="callback"),
    }
    return replace(parts, providers=altered(parts.providers, variables=variables))


CALLBACK = "/oauth/callback/simulator"
CODE = "an-authorization-code-of-the-simulator"


async def waiting_lifecycle(env: WorkflowEnvironment, invitation: Invitation) -> WorkflowHandle[Any, Any]:
    """A lifecycle that no worker of any test takes up: signals stay in its history to be read."""
    connection = await invitation.connection()
    request = ReauthRequest(
        connection_id=connection.id, provider_id=connection.provider_id, tenant=connection.tenant, cause="revoked"
    )
    return await env.client.start_workflow("ReauthWorkflow", request, id=request.key, task_queue=f"nobody-{uuid4()}")


async def signals(handle: WorkflowHandle[Any, Any], message: type[Any]) -> list[tuple[str, Any]]:
    found = []
    async for event in handle.fetch_history_events():
        if event.HasField("workflow_execution_signaled_event_attributes"):
            signal = event.workflow_execution_signaled_event_attributes
            decoded = await handle._client.data_converter.decode(list(signal.input.payloads), [message])
            found.append((signal.signal_name, decoded[0]))
    await handle.terminate()
    return found


class TestWhatElseTheProviderTells:
    async def test_is_kept_when_its_entry_wants_it_and_it_looks_right(
        self, serve: Serve, parts: Platform, altered_parts: Platform
    ) -> None:
        site = Site(await serve(altered_parts), parts.sessions, parts.vault)
        invitation = await site.invite()

        async with site.browser() as browser:
            state = await press(browser, invitation)
            told = {"realmId": "4711", "shop": "../evil", "unasked": "x"}
            await browser.get(CALLBACK, params={"state": state, "code": CODE} | told)

        assert (await invitation.row())["variables"] == {"company": "4711"}

    async def test_is_not_looked_at_otherwise(self, site: Site) -> None:
        invitation = await site.invite()

        async with site.browser() as browser:
            state = await press(browser, invitation)
            await browser.get(CALLBACK, params={"state": state, "code": CODE, "realmId": "4711"})

        assert (await invitation.row())["variables"] == {}

    async def test_costs_nobody_their_code_when_the_entry_is_gone(
        self, site: Site, parts: Platform, serve: Serve
    ) -> None:
        invitation = await site.invite()
        async with site.browser() as browser:
            state = await press(browser, invitation)
            parts.providers.catalog._providers = {}

            await browser.get(CALLBACK, params={"state": state, "code": CODE})

        assert (await invitation.row())["status"] == "received"


class TestACode:
    async def test_is_kept_sealed_and_its_lifecycle_told_by_id_alone(
        self, site: Site, time_skipping: WorkflowEnvironment
    ) -> None:
        invitation = await site.invite()
        handle = await waiting_lifecycle(time_skipping, invitation)

        async with site.browser() as browser:
            state = await press(browser, invitation)
            answer = await browser.get(CALLBACK, params={"state": state, "code": CODE})

        assert answer.status_code == 303
        assert answer.headers["location"] == f"{invitation.path}/status"
        row = await invitation.row()
        assert row["status"] == "received"
        assert CODE.encode() not in row["sealed_code"]
        assert site.vault.open(row["sealed_code"], row["key_id"], session_place(row["id"], "code")) == CODE.encode()
        told = ConsentReceived(session_id=invitation.session_id, lifecycle_id=invitation.lifecycle_id)
        assert await signals(handle, ConsentReceived) == [("consent_received", told)]

    async def test_is_taken_once_however_often_it_comes(self, site: Site) -> None:
        """A reload, a double click, a replay with another code."""
        invitation = await site.invite()

        async with site.browser() as browser:
            state = await press(browser, invitation)
            both = (browser.get(CALLBACK, params={"state": state, "code": CODE}) for _ in range(2))
            answers = await asyncio.gather(*both)
            kept = await invitation.row()
            answers.append(await browser.get(CALLBACK, params={"state": state, "code": "another code"}))
            answers.append(await browser.get(CALLBACK, params={"state": state, "error": "access_denied"}))

        assert {answer.headers["location"] for answer in answers} == {f"{invitation.path}/status"}
        assert await invitation.row() == kept

    async def test_is_kept_and_answered_while_temporal_is_down(self, dark_site: Site) -> None:
        """Reconcile tells the lifecycle later, from the row."""
        invitation = await dark_site.invite()

        async with dark_site.browser() as browser:
            state = await press(browser, invitation)
            began = time.monotonic()
            answer = await browser.get(CALLBACK, params={"state": state, "code": CODE})
            took = time.monotonic() - began
            page = await browser.get(answer.headers["location"])

        assert answer.status_code == 303
        assert took < 10
        assert (await invitation.row())["status"] == "received"
        assert 'data-status="received"' in page.text

    async def test_for_a_lifecycle_that_has_ended_is_answered_all_the_same(self, site: Site) -> None:
        invitation = await site.invite()

        async with site.browser() as browser:
            state = await press(browser, invitation)
            answer = await browser.get(CALLBACK, params={"state": state, "code": CODE})

        assert answer.status_code == 303
        assert (await invitation.row())["status"] == "received"

    @pytest.mark.parametrize("status", ["refused", "replaced", "expired"])
    async def test_for_an_invitation_that_ended_meanwhile_changes_nothing_and_leads_to_the_status(
        self, site: Site, status: str
    ) -> None:
        invitation = await site.invite()

        async with site.browser() as browser:
            state = await press(browser, invitation)
            await invitation.end(status, "it is over")
            before = await invitation.row()
            answer = await browser.get(CALLBACK, params={"state": state, "code": CODE})

        assert answer.headers["location"] == f"{invitation.path}/status"
        assert await invitation.row() == before
        assert before["sealed_code"] is None


class TestTheSameAnswerTwiceAtOnce:
    async def test_is_taken_once_and_both_get_the_page(self, site: Site) -> None:
        """A person who reloads, or a browser that fetches ahead."""
        invitation = await site.invite()

        async with site.browser() as browser:
            state = await press(browser, invitation)
            answers = await asyncio.gather(
                *(browser.get(CALLBACK, params={"state": state, "code": f"code-{n}"}) for n in range(8))
            )

        assert {answer.headers["location"] for answer in answers} == {f"{invitation.path}/status"}
        row = await invitation.row()
        assert row["status"] == "received"
        assert row["signalled_at"] is None  # its lifecycle is not there: reconcile's to tell

    async def test_as_a_decline_and_a_consent_counts_as_the_first_and_waits_for_no_one(self, site: Site) -> None:
        invitation = await site.invite()

        async with site.browser() as browser:
            state = await press(browser, invitation)
            words = [{"code": CODE}, {"error": "access_denied"}] * 4
            answers = await asyncio.gather(*(browser.get(CALLBACK, params={"state": state} | w) for w in words))

        assert {answer.status_code for answer in answers} == {303}
        row = await invitation.row()
        declined = await every(site.sessions, OutboxEvent, name="reauth.declined")
        assert (row["status"], len(declined)) in {("received", 0), ("invited", 1)}


class TestTwoConnectionsInOneBrowser:
    async def test_each_get_their_own_answer(self, site: Site) -> None:
        first, second = await site.invite(), await site.invite()

        async with site.browser() as browser:
            states = [await press(browser, invitation) for invitation in (first, second)]
            await browser.get(CALLBACK, params={"state": states[1], "code": "for the second"})
            untouched = await first.row()
            await browser.get(CALLBACK, params={"state": states[0], "code": "for the first"})

        assert untouched["status"] == "invited"
        for invitation, code in ((first, b"for the first"), (second, b"for the second")):
            row = await invitation.row()
            opened = site.vault.open(row["sealed_code"], row["key_id"], session_place(row["id"], "code"))
            assert (row["status"], opened) == ("received", code)


class TestTheDatabaseBeingDown:
    async def test_is_a_page_that_says_what_to_do_and_a_reload_finds_the_answer(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        invitation = await site.invite()

        async with site.browser() as browser:
            state = await press(browser, invitation)
            query = {"state": state, "code": CODE}
            with monkeypatch.context() as down:
                down.setattr("integrations.db.presses.by_state", _refused)
                while_down = await browser.get(CALLBACK, params=query)
            reloaded = await browser.get(CALLBACK, params=query)

        assert while_down.status_code == 500
        assert "reload this page in a while" in while_down.text
        assert CODE not in while_down.text
        assert reloaded.status_code == 303
        assert (await invitation.row())["status"] == "received"


async def _refused(*_: object) -> None:
    raise OSError("connection refused")


class TestADecline:
    async def test_is_recorded_and_told_and_leaves_the_link_good(
        self, site: Site, time_skipping: WorkflowEnvironment
    ) -> None:
        invitation = await site.invite()
        handle = await waiting_lifecycle(time_skipping, invitation)

        async with site.browser() as browser:
            state = await press(browser, invitation)
            answer = await browser.get(CALLBACK, params={"state": state, "error": "access_denied"})
            page = await browser.get(answer.headers["location"])
            declined = await invitation.row()
            again = await press(browser, invitation)
            accepted = await browser.get(CALLBACK, params={"state": again, "code": CODE})

        assert 'data-status="declined"' in page.text
        assert f'href="{invitation.path}"' in page.text
        assert declined["status"] == "invited"
        assert declined["denied_at"] is not None
        assert accepted.status_code == 303
        assert (await invitation.row())["status"] == "received"
        (name, told), *_ = await signals(handle, ConsentDenied)
        assert name == "consent_denied"
        assert told == ConsentDenied(session_id=invitation.session_id, lifecycle_id=invitation.lifecycle_id)

    async def test_uses_its_state_up(self, site: Site) -> None:
        """Else whoever reads the address in the browser's history could answer once more."""
        invitation = await site.invite()

        async with site.browser() as browser:
            state = await press(browser, invitation)
            await browser.get(CALLBACK, params={"state": state, "error": "access_denied"})
            before = await invitation.row()
            await browser.get(CALLBACK, params={"state": state, "code": CODE})

        assert await invitation.row() == before
        assert before["sealed_code"] is None

    @pytest.mark.parametrize("error", ["server_error", "temporarily_unavailable"])
    async def test_is_not_what_a_provider_in_trouble_says(self, site: Site, error: str) -> None:
        """RFC 6749 section 4.1.2.1: an outage says nothing about the owner's wish."""
        invitation = await site.invite()

        async with site.browser() as browser:
            state = await press(browser, invitation)
            answer = await browser.get(CALLBACK, params={"state": state, "error": error})
            page = await browser.get(answer.headers["location"]) if answer.is_redirect else answer

        assert "You declined" not in page.text
        assert (await invitation.row())["denied_at"] is None


class TestAnAnswerThatIsNotExpected:
    @pytest.mark.parametrize(
        "query",
        [
            {},
            {"state": "<b>made-up</b>", "code": "<i>made-up</i>"},
            {"code": "a-code-alone"},
            {"error": "access_denied", "error_description": "words of a stranger"},
            {"state": "", "code": ""},
            {"state": "\x00", "code": "\x00"},
        ],
    )
    async def test_is_a_page_that_says_what_to_do_and_repeats_nothing(self, site: Site, query: dict[str, str]) -> None:
        async with site.browser() as browser:
            answer = await browser.get(CALLBACK, params=query)

        self.is_a_page_without(answer, *query.values())

    @pytest.mark.parametrize("name", ["state", "code", "error"])
    async def test_of_any_size_is_no_more_than_that(self, site: Site, name: str) -> None:
        query = {"state": "s" * 43, "code": "c" * 43} | {name: "x" * 5000}

        async with site.browser() as browser:
            answer = await browser.get(CALLBACK, params=query)

        self.is_a_page_without(answer, *query.values())

    async def test_at_another_providers_address_changes_nothing(self, site: Site) -> None:
        invitation = await site.invite()

        async with site.browser() as browser:
            state = await press(browser, invitation)
            before = await invitation.row()
            answer = await browser.get("/oauth/callback/another", params={"state": state, "code": CODE})

        self.is_a_page_without(answer, state, CODE)
        assert await invitation.row() == before

    async def test_from_another_browser_changes_nothing(self, site: Site) -> None:
        invitation, other_invitation = await site.invite(), await site.invite()

        async with site.browser() as browser, site.browser() as stranger, site.browser() as colleague:
            state = await press(browser, invitation)
            await press(colleague, other_invitation)
            before = await invitation.row()
            answers = [
                await other.get(CALLBACK, params={"state": state, "code": CODE}) for other in (stranger, colleague)
            ]

        for answer in answers:
            self.is_a_page_without(answer, state, CODE)
        assert await invitation.row() == before

    async def test_is_told_to_no_lifecycle(self, site: Site, time_skipping: WorkflowEnvironment) -> None:
        invitation = await site.invite()
        handle = await waiting_lifecycle(time_skipping, invitation)

        async with site.browser() as browser, site.browser() as stranger:
            state = await press(browser, invitation)
            await stranger.get(CALLBACK, params={"state": state, "code": CODE})
            await browser.get("/oauth/callback/another", params={"state": state, "code": CODE})

        assert handle.id == reauth_id("simulator", invitation.connection_id)
        assert await signals(handle, ConsentReceived) == []

    @staticmethod
    def is_a_page_without(answer: Any, *secrets: str) -> None:
        assert answer.status_code == 400
        assert answer.headers["content-type"].startswith("text/html")
        assert "open your invitation" in answer.text.lower() or "another provider" in answer.text
        assert "location" not in answer.headers
        assert not [secret for secret in secrets if secret.strip("\x00") and secret in answer.text]
