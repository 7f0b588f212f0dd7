"""A real browser of a phone's width, and what its pages asked for and complained about."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = [
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-gpu",
    "--no-first-run",
]
PHONE = 360
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", e => console.error(`CSP: ${e.violatedDirective} ${e.blockedURI}`))
"""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser of its own; without one on this machine the test is skipped, and says so."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine: `apt-get install chromium`")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET, headless=True)
        yield browser
        await browser.close()


class Watched:
    """What a page asked for, and what its console complained about."""

    def __init__(self, page: Page) -> None:
        self.hosts: set[str | None] = set()
        self.complaints: list[str] = []
        page.on("request", self._asked)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _asked(self, request: Request) -> None:
        self.hosts.add(urlsplit(request.url).hostname)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.text} at {message.location['url']}")


@asynccontextmanager
async def phone(browser: Browser) -> AsyncIterator[tuple[Page, Watched]]:
    page = await browser.new_page(viewport={"width": PHONE, "height": 640})
    await page.add_init_script(REPORT_VIOLATIONS)
    yield page, Watched(page)
    await page.close()


async def fits(page: Page) -> bool:
    return int(await page.evaluate("document.documentElement.scrollWidth")) <= PHONE
