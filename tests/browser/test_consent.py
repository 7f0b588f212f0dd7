"""A person with a real browser, from the invitation to "connected"."""

import asyncio
from uuid import UUID

from playwright.async_api import Browser, expect

from integrations.db import connections
from integrations.domain.errors import StopError
from starters.client import invitation_link
from tests.browser.phone import fits, phone
from tests.starters.running import Running


async def link_of(running: Running, connection_id: UUID) -> str:
    async with asyncio.timeout(20):
        while True:
            try:
                return (await invitation_link(running.stack.settings, running.platform.sessions, connection_id))[0]
            except StopError:  # the lifecycle has not opened yet
                await asyncio.sleep(0.1)


async def status_of(running: Running, connection_id: UUID) -> str:
    async with running.platform.sessions.begin() as session:
        return (await connections.find(session, connection_id)).status


class TestAnOwnerWithAPhone:
    async def test_presses_the_button_consents_and_sees_the_page_follow_to_connected(
        self, running: Running, browser: Browser
    ) -> None:
        """A cause with a long word in it: that is what makes pages scroll sideways."""
        cause = f"the trail {'x' * 120} ended"
        row = await running.platform.add("simulator", "org:browser", by="ada", reason=cause)
        link = await link_of(running, row.id)
        async with phone(browser) as (page, watched):
            invitation = await page.goto(link)

            assert invitation is not None
            assert invitation.status == 200
            assert await fits(page)

            await page.get_by_role("button", name="Continue to Simulator").click()
            await page.get_by_label("E-mail").fill("ada@acme.example")
            await page.get_by_label("Password").fill("ada")
            await page.get_by_role("button", name="Log in").click()
            await page.get_by_role("button", name="Allow").click()
            await expect(page.get_by_role("heading")).to_contain_text("Simulator is connected", timeout=30_000)

            assert page.url == f"{link}/status"
            assert await fits(page)
            assert watched.complaints == []
            assert watched.hosts == {"127.0.0.1"}
            log = (running.stack.logs() / "web.log").read_text()
            assert "request.answered" in log
            assert "uvicorn.access" not in log  # its lines are addresses
            assert not [secret for secret in (link.rsplit("/", 1)[1], "state=", "code=") if secret in log]
        assert await status_of(running, row.id) == "active"

    async def test_declines_and_goes_on_from_the_page_that_says_so(self, running: Running, browser: Browser) -> None:
        row = await running.platform.add("simulator", "org:declining", by="ada")
        link = await link_of(running, row.id)
        async with phone(browser) as (page, watched):
            await page.goto(link)
            await page.get_by_role("button", name="Continue to Simulator").click()
            await page.get_by_label("E-mail").fill("ada@acme.example")
            await page.get_by_label("Password").fill("ada")
            await page.get_by_role("button", name="Log in").click()
            await page.get_by_role("button", name="Deny").click()
            await expect(page.get_by_role("heading")).to_have_text("You declined")
            assert await fits(page)

            await page.get_by_role("link", name="Try again").click()
            await expect(page.get_by_role("button", name="Continue to Simulator")).to_be_visible()

            assert page.url == link
            assert watched.complaints == []
        assert await status_of(running, row.id) == "disconnected"
