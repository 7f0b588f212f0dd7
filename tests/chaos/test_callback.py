"""Somebody is killed around the moment in which the owner comes back. The code is kept, or the owner tries again."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from starters.demo.owner import Owner
from starters.forms import first_form
from tests.chaos import evidence
from tests.chaos.account import Account
from tests.chaos.ground import Ground, Victim
from tests.chaos.holds import commits_unanswered, row_locked
from tests.chaos.waiting import until

pytestmark = pytest.mark.chaos


class Browser(Owner):
    """Ada's, in front of the provider's question, and able to load a page again."""

    async def come_to_the_question(self, link: str) -> None:
        page = await self._follow(await self._browser.post(str((await self._open(link)).url)))
        login = first_form(page)
        self._question = await self._send(page, login, [*login.fields, ("email", self.email), ("password", "ada")])

    async def allow(self) -> httpx.Response:
        """Say yes; the provider sends the browser to the callback, and that to the status page."""
        form = first_form(self._question)
        return await self._send(self._question, form, [*form.fields, ("decision", "allow")])

    async def load_again(self, lost: httpx.TransportError) -> httpx.Response:
        """The page that did not come, by the same address."""
        return await self._open(str(lost.request.url))


@pytest_asyncio.fixture
async def ada(account: Account) -> AsyncIterator[Browser]:
    await account.begin()
    async with Browser("ada@acme.example", "ada") as browser:
        await browser.come_to_the_question(await account.link())
        yield browser


async def code_kept(account: Account) -> None:
    async def probe() -> bool:
        sql = "SELECT count(*) FROM service_consent_sessions WHERE connection_id = :id AND status = 'received'"
        return bool(await account.ground.one(sql, id=account.id))

    await until("the code is committed", probe)


async def test_the_worker_is_dead_and_the_signal_waits(ground: Ground, account: Account, ada: Browser) -> None:
    await ground.kill(Victim.WORKER)

    page = await ada.allow()
    told = await account.told()
    await ground.bring_back(Victim.WORKER)

    assert (page.status_code, page.url.path.endswith("/status")) == (200, True)
    assert told.count("consent_received") == 1
    await evidence.repaired(account)


async def test_temporal_is_dead_and_reconcile_tells_it_later(ground: Ground, account: Account, ada: Browser) -> None:
    await ground.kill(Victim.TEMPORAL)

    page = await ada.allow()
    await code_kept(account)
    await ground.bring_back(Victim.TEMPORAL)
    told = await account.told()
    await account.reconciled()

    assert (page.status_code, page.url.path.endswith("/status")) == (200, True)
    assert "consent_received" not in told
    await evidence.repaired(account)
    assert ground.died() == {}


async def test_the_web_app_is_dead_and_the_owner_loads_the_page_again(
    ground: Ground, account: Account, ada: Browser
) -> None:
    await ground.kill(Victim.WEB)

    with pytest.raises(httpx.ConnectError) as lost:
        await ada.allow()
    await ground.bring_back(Victim.WEB)
    page = await ada.load_again(lost.value)

    assert (page.status_code, page.url.path.endswith("/status")) == (200, True)
    await evidence.repaired(account)


async def test_the_web_app_dies_before_its_commit_and_nothing_was_kept(
    ground: Ground, account: Account, ada: Browser
) -> None:
    session = await account.open_session()
    assert session is not None

    async with row_locked(ground, session, "session") as lock:
        allowing = asyncio.create_task(ada.allow())
        await lock.is_waited_for()
        await ground.kill(Victim.WEB)
        with pytest.raises(httpx.TransportError) as lost:
            await allowing
    await ground.bring_back(Victim.WEB)
    kept = await account.open_session()
    page = await ada.load_again(lost.value)

    assert kept == session
    assert (page.status_code, page.url.path.endswith("/status")) == (200, True)
    await evidence.repaired(account)


async def test_the_web_app_dies_between_its_commit_and_its_signal(
    ground: Ground, account: Account, ada: Browser
) -> None:
    async with commits_unanswered(ground) as commits:
        allowing = asyncio.create_task(ada.allow())
        await commits.is_waited_for("service_consent_sessions")
        await ground.kill(Victim.WEB)
        with pytest.raises(httpx.TransportError) as lost:
            await allowing
    await code_kept(account)
    await ground.bring_back(Victim.WEB)
    page = await ada.load_again(lost.value)
    told = await account.told()
    await account.reconciled()

    assert (page.status_code, page.url.path.endswith("/status")) == (200, True)
    assert "consent_received" not in told
    await evidence.repaired(account)
