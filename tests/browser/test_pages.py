"""Every page that an owner may come to, on a phone: it says what happened and what to do, and nothing sticks out."""

from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import Browser

from integrations.db import consents
from integrations.db.tables import Connection, ConsentSession
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from tests.browser.phone import fits, phone
from tests.factories import add_connection, add_invitation
from tests.starters.running import Running

LONG = f"the consent was given by {'x' * 90}••@{'y' * 60}.example"
Given = Callable[[Running, Connection, ConsentSession], Awaitable[None]]


def status(value: str, outcome: str | None = None, connection: Status = Status.PENDING_REAUTH) -> Given:
    async def put(running: Running, row: Connection, invitation: ConsentSession) -> None:
        async with running.platform.sessions.begin() as session:
            (await session.get_one(Connection, row.id)).status = connection
            found = await session.get_one(ConsentSession, invitation.id)
            found.status, found.outcome = value, outcome

    return put


async def declined(running: Running, _: Connection, invitation: ConsentSession) -> None:
    async with running.platform.sessions.begin() as session:
        row = await session.get_one(ConsentSession, invitation.id)
        row.denied_at, row.outcome = row.created_at, "you declined"


async def failed(running: Running, _: Connection, invitation: ConsentSession) -> None:
    async with running.platform.sessions.begin() as session:
        (await session.get_one(ConsentSession, invitation.id)).outcome = "the provider has trouble at the moment"


async def refused_with_a_successor(running: Running, row: Connection, invitation: ConsentSession) -> None:
    async with running.platform.sessions.begin() as session:
        await consents.end(session, invitation.id, "refused", LONG)
    vault = Vault(running.stack.settings.keys)
    await add_invitation(running.platform.sessions, vault, row, invitation.lifecycle_id, why=LONG)


PAGES: dict[str, tuple[Given, str, str]] = {
    "waiting": (status("invited"), "/status", "Your consent is still needed"),
    "on its way": (status("exchanging"), "/status", "Thank you. We are checking it with Simulator"),
    "completed": (status("completed", "connected", Status.ACTIVE), "/status", "Simulator is connected"),
    "declined": (declined, "/status", "You declined"),
    "provider in trouble": (failed, "/status", "That did not work"),
    "another account": (refused_with_a_successor, "/status", "That did not work"),
    "expired": (status("expired", "nobody consented within 14 days"), "/status", "This invitation has ended"),
    "works without it": (
        status("replaced", "a refresh works again", Status.ACTIVE),
        "/status",
        "There is nothing left for you to do",
    ),
    "invitation": (status("invited"), "", "Simulator needs your consent"),
}


class TestAPage:
    @pytest.mark.parametrize("name", PAGES)
    async def test_is_readable_on_a_phone(self, running: Running, browser: Browser, name: str) -> None:
        given, path, heading = PAGES[name]
        sessions, vault = running.platform.sessions, Vault(running.stack.settings.keys)
        row = await add_connection(sessions, status=Status.DISCONNECTED, grants=[])
        invitation = await add_invitation(sessions, vault, row, row.id, why=LONG)
        await given(running, row, invitation)

        async with phone(browser) as (page, watched):
            await page.goto(f"{running.stack.settings.web_url}/reconsent/{vault.link_token(invitation.id)}{path}")

            assert await page.locator("h1").inner_text() == heading
            assert await fits(page)
            size = await page.evaluate("parseFloat(getComputedStyle(document.querySelector('p')).fontSize)")
            assert size >= 16
            for button in await page.locator("button, a.button").all():
                box = await button.bounding_box()
                assert box is not None
                assert box["height"] >= 40
            assert watched.complaints == []
        # The stack is not in trouble for the next test.
        await running.platform.disconnect(row.id, by="the test", reason="over")

    @pytest.mark.parametrize(
        "address",
        ["/oauth/callback/simulator", "/oauth/callback/simulator?state=x&code=y", "/reconsent/half-a-link", "/nowhere"],
    )
    async def test_that_leads_nowhere_says_what_to_do(self, running: Running, browser: Browser, address: str) -> None:
        async with phone(browser) as (page, _):
            await page.goto(f"{running.stack.settings.web_url}{address}")

            assert len((await page.locator("p").inner_text()).split()) > 5
            assert await fits(page)
