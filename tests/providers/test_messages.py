"""Every built-in message as people get it: on a phone, as plain text, with values that nobody expected."""

import re
import shlex
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from integrations.domain.notification import Definition, News, Rendered
from integrations.providers import definitions
from integrations.providers.rendering import Renderer
from tests.browser.phone import PHONE, chromium, fits, phone
from tests.starters.test_help import COMMANDS

LOADED = definitions.load()
RENDERER = Renderer(LOADED)
IDS = [each.id for each in LOADED]
URL = f"https://runbook.acme.example/reconsent/{'x7Gh_2' * 8}"
LONG = f"the consent was given by {'x' * 90}••@{'y' * 60}.example <b>now</b> & then"


def about(definition: Definition) -> list[News]:
    """Each form of what it tells of."""
    return [
        definitions.sample(event, form)
        for event, forms in LOADED.samples.items()
        if definition.is_about(event)
        for form in forms
    ]


def message(definition_id: str, news: News | None = None, name: str = "Ada") -> Rendered:
    definition = LOADED.get(definition_id)
    found = RENDERER.render(definition, news or about(definition)[0], name, "Europe/Berlin", "Simulator")
    return found.with_link(URL)


def words(text: str) -> list[str]:
    return [word.strip(":,.") for word in text.split()]


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


class TestOnAPhone:
    @pytest.mark.parametrize("definition_id", IDS)
    async def test_is_readable_whatever_it_tells(self, browser: Browser, definition_id: str) -> None:
        [sample, *_] = about(LOADED.get(definition_id))
        texts = {name: LONG for name, value in sample.payload.items() if isinstance(value, str)}
        kept = {name: sample.payload[name] for name in ("session_id", "until", "since") if name in sample.payload}
        hostile = definitions.sample(sample.name, sample.payload | texts | kept)

        for html in (message(definition_id).html, message(definition_id, hostile, LONG).html):
            async with phone(browser) as (page, watched):
                await page.set_content(html)

                assert await fits(page)
                sizes = "[...document.querySelectorAll('h1, p, a')].map(e => parseFloat(getComputedStyle(e).fontSize))"
                assert min(await page.evaluate(sizes)) >= 13
                assert await page.locator("b, script, img, link, iframe, form").count() == 0
                assert (watched.hosts, watched.complaints) == (set(), [])

    @pytest.mark.parametrize("definition_id", ["invitation", "reminder"])
    async def test_has_one_button_for_a_thumb(self, browser: Browser, definition_id: str) -> None:
        async with phone(browser) as (page, _):
            await page.set_content(message(definition_id).html)

            [button] = await page.locator("a").all()
            box = await button.bounding_box()
            assert box is not None
            assert (box["height"] >= 44, box["width"] >= PHONE * 0.8) == (True, True)
            assert await button.get_attribute("href") == URL
            assert URL in await page.locator("body").inner_text()

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    async def test_can_be_read_by_day_and_by_night(self, browser: Browser, scheme: str) -> None:
        async with phone(browser) as (page, _):
            await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            await page.set_content(message("invitation").html)

            ink = await page.evaluate("getComputedStyle(document.querySelector('h1')).color")
            # Neither ink nor paper is ours: both are the reader's, and fit each other.
            assert ink == ("rgb(255, 255, 255)" if scheme == "dark" else "rgb(0, 0, 0)")
            assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgba(0, 0, 0, 0)"


class TestThePlainText:
    @pytest.mark.parametrize("definition_id", IDS)
    async def test_says_everything_that_the_html_says(self, browser: Browser, definition_id: str) -> None:
        found = message(definition_id)
        async with phone(browser) as (page, _):
            await page.set_content(found.html)
            shown = await page.locator("body").inner_text()

        assert set(words(shown)) <= {*words(found.text), *words(found.subject)}
        assert {*words(found.text)} - {"--"} <= set(words(shown))

    @pytest.mark.parametrize("definition_id", IDS)
    def test_is_plain(self, definition_id: str) -> None:
        for news in about(LOADED.get(definition_id)):
            found = message(definition_id, news)

            assert not re.search(r"[{}<>]|None|\n\n\n", found.text)
            assert len(found.subject) < 90

    @pytest.mark.parametrize("definition_id", IDS)
    def test_greets_nobody_by_no_name(self, definition_id: str) -> None:
        assert "Hello ," not in message(definition_id, name="").text


class TestAnInvitation:
    def test_says_who_is_asked_why_and_until_when(self) -> None:
        text = message("invitation").text

        assert "on behalf of org:acme" in text
        assert "Why: Simulator refused the refresh twice: 400 invalid_grant" in text
        assert "Please answer until: 9 December 2026, 21:05 (Europe/Berlin)" in text
        assert f"\n{URL}\n" in text

    def test_of_a_first_connection_names_no_account(self) -> None:
        [sample] = about(LOADED.get("invitation"))

        text = message("invitation", definitions.sample(sample.name, {**sample.payload, "account": "unknown"})).text

        assert "unknown" not in text
        assert "Your account" not in text


class TestACommand:
    @pytest.mark.parametrize("definition_id", IDS)
    def test_that_is_printed_can_be_typed(self, definition_id: str) -> None:
        built = {path[0] for path in COMMANDS}
        for line in re.findall(r"^    runbook (.*)$", message(definition_id).text, re.MULTILINE):
            group, name, *arguments = shlex.split(line.replace("PLAN_ID", str(uuid4())))
            # Outages and incidents have no commands yet.
            if group in built:
                COMMANDS[group, name].make_context(name, arguments)  # a wrong option or argument raises

    def test_of_an_escalation_is_about_its_task_and_its_connection(self) -> None:
        text = message("escalation").text

        assert f"    runbook tasks ack {UUID(int=4)}\n" in text
        assert f"    runbook reauth link {UUID(int=2)}\n" in text
