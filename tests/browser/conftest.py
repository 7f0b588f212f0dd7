from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.browser.phone import chromium
from tests.starters import running


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.has_plugin(running.__name__):
        config.pluginmanager.register(running, running.__name__)


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser
