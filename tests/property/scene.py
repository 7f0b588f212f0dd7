"""One example: its own connections and accounts in a world that goes on, acted on and then looked at."""

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack

from tests.property import operators, owners
from tests.property.browser import Browser
from tests.property.invariants import Codes, Look, grant_in_use, look
from tests.property.operators import Events, Orders, Refreshes
from tests.property.owners import Consents
from tests.property.person import Subject
from tests.property.world import PROVIDER, World

_REST_WITHIN = 10.0
"""Seconds for everything that was set going to end. On an idle machine it is some hundredths."""
OUTAGES = (("/api/",), ("/oauth/token", "/api/"), ("/api/notes",))


class Scene:
    def __init__(self, world: World) -> None:
        self.world = world
        self.subjects: list[Subject] = []
        self.outage: str | None = None
        self._people = AsyncExitStack()
        self._faults: list[str] = []

    async def begin(self) -> None:
        log = (await self.world.simulator.get("/admin/requests", params={"limit": 1})).json()
        self._codes = Codes(log[-1]["seq"] if log else 0)

    async def add(self) -> Subject:
        """A connection that nobody has answered the invitation of."""
        row = await self.world.platform.add(PROVIDER, "org:acme", by="the test")
        name = ("first", "second")[len(self.subjects)]
        account_id, owner = await self._somebody(name)
        _, stranger = await self._somebody("stranger")
        self.subjects.append(Subject(name, row.id, account_id, owner, stranger, asked=True))
        await self.rests()
        return self.subjects[-1]

    async def consents(self, subject: Subject, how: Consents) -> None:
        self._faults += await owners.consents(self.world, subject, how)

    async def refresh(self, subject: Subject, how: Refreshes) -> None:
        self._faults += await operators.refresh(self.world, subject, how, outage=self.outage is not None)

    async def comes_back(self, subject: Subject, how: owners.Callbacks) -> None:
        others = [each for each in self.subjects if each is not subject]
        await owners.comes_back(self.world, subject, how, others)

    async def at_the_provider(self, subject: Subject, event: Events) -> None:
        # What an outage holds in the middle may be completed later, and carries this harm with it.
        subject.tainted = subject.tainted or self.outage is not None
        await operators.at_the_provider(self.world, subject, event)

    async def is_noticed(self, subject: Subject, event: Events) -> None:
        await self.at_the_provider(subject, event)
        await self.refresh(subject, Refreshes.HEALTHY)

    async def order(self, subject: Subject, what: Orders) -> None:
        await operators.order(self.world, subject, what)

    async def kill(self, subject: Subject) -> None:
        await operators.kill_lifecycle(self.world, subject)

    async def goes_down(self, _subject: Subject, paths: Sequence[str]) -> None:
        """Everything there answers 503 to everybody, with a body that reads like an OAuth error."""
        if self.outage is None:
            self.outage = await self.world.breaks(
                kind="status",
                path=list(paths),
                account_id=[each.account_id for each in self.subjects],
                body={"error": "invalid_grant"},
            )

    async def comes_up(self, _subject: Subject | None = None) -> None:
        if self.outage is not None:
            await self.world.heals(self.outage)
        self.outage = None

    async def sweep_once(self, _subject: Subject) -> None:
        await self.world.sweep()

    async def sweep(self, _subject: Subject | None = None) -> None:
        """As often as the Schedule would have to: what is killed stays in Temporal's list for a moment."""
        for subject in self.subjects:
            subject.orphaned = False
        for _ in range(20):
            await self.world.sweep()
            if not any(each.restless for each in await self._looks(within=1)):
                return

    async def rests(self) -> None:
        """Wait until nothing is under way any more; then everything that must hold does."""
        seen = await self._looks(within=_REST_WITHIN)
        restless = [wrong for each in seen for wrong in each.restless]
        assert not restless, f"after {_REST_WITHIN:.0f} s: {'; '.join(restless)}"
        while self._faults:
            await self.world.heals(self._faults.pop())
        wrong = await self._codes.sent_again(self.world, {each.account_id for each in self.subjects})
        for each in seen:
            remember_proof(each)
            if self.outage is None:
                wrong += await grant_in_use(self.world, each)
            remember(each)
        assert not wrong, "; ".join(wrong)

    async def _looks(self, *, within: float) -> list[Look]:
        """Until nobody is restless, or the time is over. Nobody may be broken, not even in between."""
        end = asyncio.get_running_loop().time() + within
        while True:
            seen = [await look(self.world, each, outage=self.outage is not None) for each in self.subjects]
            broken = [wrong for each in seen for wrong in each.broken]
            assert not broken, "; ".join(broken)
            if not any(each.restless for each in seen) or asyncio.get_running_loop().time() > end:
                return seen
            await asyncio.sleep(0.01)

    async def end(self) -> None:
        """Leave nothing that another example's sweep, or another test's worker, would take up."""
        await self.comes_up()
        while self._faults:
            await self.world.heals(self._faults.pop())
        for subject in self.subjects:
            await operators.order(self.world, subject, Orders.DISCONNECT)
            await operators.kill_lifecycle(self.world, subject)
        await self._people.aclose()

    async def _somebody(self, name: str) -> tuple[str, Browser]:
        who = {"email": f"{name}-{secrets.token_hex(6)}@acme.example", "name": name, "password": Browser.password}
        account = (await self.world.simulator.post("/admin/accounts", json=who)).raise_for_status().json()
        browser = Browser(self.world.app, self.world.settings.web_url, who["email"])
        return account["id"], await self._people.enter_async_context(browser)


def remember_proof(seen: Look) -> None:
    """A consent that was completed, and so proven, made the grant anew."""
    subject = seen.subject
    if seen.completed > subject.completed and not subject.harmed_now:
        subject.harmed, subject.tainted = subject.tainted, False


def remember(seen: Look) -> None:
    seen.subject.completed, seen.subject.demoted = seen.completed, seen.demoted
    seen.subject.harmed_now = False
