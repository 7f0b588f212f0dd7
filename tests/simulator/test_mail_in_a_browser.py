"""The pages of caught mail in a real browser: readable on a phone, and a mail's own code does nothing."""

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser, Frame, Page

from tests.browser.phone import chromium
from tests.simulator.conftest import Simulator
from tests.simulator.test_break_it_on_a_phone import WIDER_THAN_THE_WINDOW, opened
from tests.simulator.test_mail import mails, message, send

HOSTILE = """\
<h1>Hello</h1><a href="{address}/healthz">Reconnect</a>
<script>document.querySelector("h1").textContent = "ran"</script>
<img src="{address}/api/spied" onerror="document.querySelector('h1').textContent = 'ran'">
<form action="{address}/break/outage" method="post"><button>Win</button></form>
"""


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


async def does_nothing(simulator: Simulator, mail: Page | Frame) -> bool:
    await mail.get_by_role("button", name="Win").click()
    said = await mail.locator("h1").text_content()
    return said == "Hello" and await simulator.log(path="/api/spied") == [] and await simulator.faults() == []


async def test_are_read_on_a_phone_and_run_nothing(simulator: Simulator, browser: Browser, address: str) -> None:
    await send(simulator, message("A subject" + "longer" * 30, html=HOSTILE.format(address=address)))
    number = (await mails(simulator))[0]["number"]
    page = await opened(browser, f"{address}/admin/mail", 360)
    listed = await page.evaluate(WIDER_THAN_THE_WINDOW)
    await page.get_by_role("link", name="A subject").click()
    await page.get_by_text("Headers").click()
    shown = await page.evaluate(WIDER_THAN_THE_WINDOW)
    frame = page.frame(url="**/html")
    assert frame

    assert (listed, shown) == ([], [])
    assert await does_nothing(simulator, frame)

    alone = await opened(browser, f"{address}/admin/mail/{number}/html", 360)
    assert await does_nothing(simulator, alone)
    await alone.get_by_role("link", name="Reconnect").click()
    await alone.wait_for_url("**/healthz")
