"""The break-it page in a real browser: it can be read and used where there is little room."""

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.browser.phone import chromium
from tests.simulator.conftest import Simulator

WIDER_THAN_THE_WINDOW = """
() => [...document.querySelectorAll("body *")]
    .filter(element => element.getBoundingClientRect().right > innerWidth + 1 || element.scrollWidth > innerWidth)
    .map(element => element.outerHTML.slice(0, 80))
"""


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


async def opened(browser: Browser, address: str, width: int) -> Page:
    page = await browser.new_page(viewport={"width": width, "height": 640})
    await page.goto(address)
    return page


async def test_nothing_is_wider_than_the_window(simulator: Simulator, browser: Browser, address: str) -> None:
    await simulator.connect()
    await simulator.http.get(f"/api/{'long' * 40}")
    await simulator.http.post("/break/script")

    for width in (360, 1200):
        page = await opened(browser, address, width)
        await page.locator("details").evaluate("details => { details.open = true }")
        assert await page.evaluate(WIDER_THAN_THE_WINDOW) == []
        await page.close()


async def test_a_fault_is_ordered_lifted_and_a_setting_saved_by_hand(
    simulator: Simulator, browser: Browser, address: str
) -> None:
    page = await opened(browser, address, 360)

    await page.get_by_label("What happens").select_option("html")
    await page.get_by_label("/api/me").check()
    await page.get_by_label("Accounts").fill("acct_bob")
    await page.get_by_role("button", name="Order this fault").click()
    (fault,) = await simulator.faults()
    await page.get_by_role("button", name="Lift").click()
    lifted = await simulator.faults()
    await page.get_by_label("echo_scope").uncheck()
    await page.get_by_role("button", name="Save all of these").click()
    saved = (await simulator.http.get("/admin/settings")).json()

    assert (fault["kind"], fault["path"], fault["account_id"], fault["seconds"]) == (
        *("html", ["/api/me"], ["acct_bob"], 60),
    )
    assert lifted == []
    assert (saved["echo_scope"], saved["rotation_grace_s"]) == (False, 60)
