"""What the people in browsers do: owners who consent in every way, strangers, and callbacks that nobody asked for."""

import asyncio
import secrets
from enum import StrEnum
from typing import Any

from integrations.domain.errors import StopError
from starters.client import invitation_link
from tests.property.operators import Orders, order
from tests.property.person import Subject
from tests.property.world import PROVIDER, World

CODE = {"path": "/oauth/token", "grant_type": "authorization_code"}
REFUSES_A_CALL = {"kind": "status", "status": 403, "path": "/api/notes", "count": 1}


class Consents(StrEnum):
    WHOLLY = "wholly"
    PARTLY = "partly"
    DECLINES = "declines"
    BY_A_STRANGER = "by a stranger"
    IN_TWO_TABS = "in two tabs"
    TWICE_AT_ONCE = "with a callback that comes twice"
    FIRST_ELSEWHERE = "with a callback in another browser"
    IN_VAIN = "to what the provider then refuses"
    DURING_AN_OUTAGE_OF_THE_CODE = "while the token endpoint answers 503"
    DURING_AN_OUTAGE_OF_THE_IDENTITY = "while the identity endpoint answers 503"
    DURING_AN_OUTAGE_OF_THE_PROOF = "while the probes answer 503"
    WITH_A_LOST_ANSWER = "with the answer to the code lost"


FAULTS: dict[Consents, dict[str, Any]] = {
    Consents.IN_VAIN: REFUSES_A_CALL,
    Consents.DURING_AN_OUTAGE_OF_THE_CODE: {"kind": "status", "body": {"error": "invalid_grant"}, "count": 1} | CODE,
    Consents.DURING_AN_OUTAGE_OF_THE_IDENTITY: {"kind": "status", "path": "/api/me", "count": 2},
    Consents.DURING_AN_OUTAGE_OF_THE_PROOF: {"kind": "status", "path": "/api/notes", "count": 2},
    Consents.WITH_A_LOST_ANSWER: {"kind": "drop", "count": 1} | CODE,
}


class Callbacks(StrEnum):
    REPLAYED = "replayed"
    FORGED = "with a forged state"
    OF_ANOTHER_CONNECTION = "with another connection's state"
    DECLINED_AFTERWARDS = "declined after the code"
    WITHOUT_ANYTHING = "without anything"
    AN_OLD_LINK = "or rather an old link is opened, and its button pressed"


async def link_of(world: World, subject: Subject) -> str | None:
    """The open invitation's link."""
    try:
        link, _ = await invitation_link(world.settings, world.sessions, subject.id)
    except StopError:
        return None
    if link not in subject.links:
        subject.links.append(link)
    return link


async def invited(world: World, subject: Subject) -> str:
    """The open invitation's link; when there is none, an operator asks first."""
    link = await link_of(world, subject)
    if link is None:
        await order(world, subject, Orders.ASK)
    async with asyncio.timeout(10):
        while link is None:
            await asyncio.sleep(0.01)
            link = await link_of(world, subject)
    return link


async def consents(world: World, subject: Subject, how: Consents) -> list[str]:
    """The owner opens the link and goes all the way. The faults that are ordered for it, to be lifted afterwards."""
    link = await invited(world, subject)
    browser = subject.stranger if how is Consents.BY_A_STRANGER else subject.owner
    asked = await browser.press(link)
    if asked is None:  # an earlier consent is on its way
        return []
    ordered = [await world.breaks(account_id=subject.account_id, **FAULTS[how])] if how in FAULTS else []
    if how is Consents.IN_TWO_TABS:
        again = await browser.press(link)
        backs = [await browser.decides(each) for each in (asked, again) if each]
    elif how is Consents.DECLINES:
        backs = [await browser.decides(asked, decision="deny")]
    else:
        backs = [await browser.decides(asked, without=["notes.write"] if how is Consents.PARTLY else [])]
    subject.ways_back += backs
    if how is Consents.FIRST_ELSEWHERE:
        await subject.stranger.see(backs[0])
    elif how is Consents.TWICE_AT_ONCE:
        await asyncio.gather(browser.see(backs[0]), browser.see(backs[0]))
    else:
        for back in reversed(backs):
            await browser.see(back)
    return ordered


async def comes_back(world: World, subject: Subject, how: Callbacks, others: list[Subject]) -> None:
    """A callback that did not come about by pressing buttons in their order."""
    ours = f"{world.settings.web_url}/oauth/callback/{PROVIDER}"
    last = subject.ways_back[-1] if subject.ways_back else f"{ours}?code=none&state=none"
    code, state = (last.partition(f"{name}=")[2].partition("&")[0] for name in ("code", "state"))
    match how:
        case Callbacks.REPLAYED:
            await subject.owner.see(last)
        case Callbacks.FORGED:
            await subject.owner.see(f"{ours}?code={code}&state={secrets.token_urlsafe(32)}")
        case Callbacks.DECLINED_AFTERWARDS:
            await subject.owner.see(f"{ours}?error=access_denied&state={state}")
        case Callbacks.WITHOUT_ANYTHING:
            await subject.owner.see(ours)
        case Callbacks.AN_OLD_LINK:
            for link in subject.links[:1]:
                await subject.owner.press(link)
        case Callbacks.OF_ANOTHER_CONNECTION:
            for other in others:
                await _crossed(world, subject, other, ours)


async def _crossed(world: World, subject: Subject, other: Subject, ours: str) -> None:
    """The state of this connection's button, with a code that the other one's owner gave and has not used."""
    asked = [await each.owner.press(await invited(world, each)) for each in (subject, other)]
    if asked[0] is None or asked[1] is None:
        return
    state = asked[0].partition("state=")[2].partition("&")[0]
    stolen = (await other.owner.decides(asked[1])).partition("code=")[2].partition("&")[0]
    await subject.owner.see(f"{ours}?code={stolen}&state={state}")
