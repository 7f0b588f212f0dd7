from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.browser.phone import CHROMIUM, QUIET
from tests.starters import running


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.has_plugin(running.__name__):
        config.pluginmanager.register(running, running.__name__)


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine: `apt-get install chromium`")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET, headless=True)
        yield browser
        await browser.close()
