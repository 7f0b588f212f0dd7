"""`reauth.callback_one`, `reauth.callback_fifty`: from the owner's return to a connection that is `active`."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode
from uuid import UUID, uuid4

import httpx
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from activities.detection import announce
from bench.bare_reauth import QUEUE, BareConsent
from bench.connections import GRANTS, add_revoked
from bench.measure import Plan, Side, Timed, in_turns
from bench.result import Result
from bench.stage import Stage
from bench.visitor import Visitor, several
from starters.client import invitation_link
from web.invitation import COOKIE

REQUIRED: Final = 0.77
ONE: Final = Plan(blocks=4, product=15, bound=15, at_once=1, tick=0.002)
FIFTY: Final = Plan(blocks=3, product=100, bound=100, at_once=50, tick=0.02, warm_up=50)
_BOUND: Final = "a bare workflow: signal, three activities with the same five HTTP calls and one insert each"


async def one(stage: Stage) -> Sequence[Result]:
    plan = ONE.scaled(stage.scale)
    product, bound = await _measured(stage, plan)
    rates = product.one_at_a_time, bound.one_at_a_time
    return [_result("reauth.callback_one", product, bound, rates, "1 / median s")]


async def fifty(stage: Stage) -> Sequence[Result]:
    plan = FIFTY.scaled(stage.scale)
    product, bound = await _measured(stage, plan)
    rates = product.per_second, bound.per_second
    return [_result("reauth.callback_fifty", product, bound, rates, "callbacks/s, 50 at once")]


def _result(name: str, product: Timed, bound: Timed, rates: tuple[float, float], unit: str) -> Result:
    rate, bound_rate = rates
    return Result(name, product.n, rate, unit, bound.n, bound_rate, REQUIRED, _BOUND)


async def _measured(stage: Stage, plan: Plan) -> tuple[Timed, Timed]:
    await stage.start_bare("bare_reauth")
    visitor = Visitor(stage.http)
    return await in_turns(await _product(stage, visitor, plan), await _bare(stage, visitor, plan), plan, stage.advance)


@dataclass(frozen=True)
class Return:
    """The way back from the provider: an address with a code in it, and the cookie of the browser that went there."""

    connection_id: UUID
    address: str
    cookie: str


async def _product(stage: Stage, visitor: Visitor, plan: Plan) -> Side:
    status = "SELECT id FROM service_connections WHERE id = any($1) AND status"
    waiting = await stage.watch(f"{status} = 'pending_reauth'", plan.tick)
    active = await stage.watch(f"{status} = 'active'", plan.tick)
    # Cookies are given by hand: each item is another browser.
    browser = httpx.AsyncClient(trust_env=False, timeout=60.0)

    async def ready(ids: tuple[UUID, UUID]) -> Return:
        """Open the lifecycle, press the invitation's button, consent at the provider; the callback is yet to come."""
        connection_id, detection_id = ids
        await announce(stage.temporal, stage.sessions, stage.stack.settings.terms, detection_id)
        await waiting.seen(connection_id)
        link, _ = await invitation_link(stage.stack.settings, stage.sessions, connection_id)
        pressed = await stage.http.post(link)
        cookie = pressed.cookies[COOKIE]
        stage.http.cookies.delete(COOKIE)
        return Return(connection_id, await visitor.consent(pressed.headers["location"]), cookie)

    async def prepare(size: int) -> list[Return]:
        return await several(ready, await add_revoked(stage, size))

    async def act(back: Return) -> None:
        answer = await browser.get(back.address, headers={"Cookie": f"{COOKIE}={back.cookie}"})
        if answer.status_code != httpx.codes.SEE_OTHER:
            raise RuntimeError(f"the callback answered {answer.status_code}")
        await active.seen(back.connection_id)

    return Side(prepare, act)


async def _bare(stage: Stage, visitor: Visitor, plan: Plan) -> Side:
    told = stage.stack.environment
    done = await stage.watch("SELECT key FROM bench.step WHERE key = any($1) AND name = 'activate'", plan.tick)

    async def ready(_: int) -> tuple[UUID, str, str]:
        key, verifier = uuid4(), secrets.token_urlsafe(32)
        handle = await stage.temporal.start_workflow(BareConsent.run, str(key), id=str(key), task_queue=QUEUE)
        asked = {
            "response_type": "code",
            "client_id": told["SIMULATOR_CLIENT_ID"],
            "redirect_uri": told["SIMULATOR_REDIRECT_URIS"],
            "state": secrets.token_urlsafe(32),
            "scope": " ".join(GRANTS),
            "code_challenge": create_s256_code_challenge(verifier),
            "code_challenge_method": "S256",
        }
        address = await visitor.consent(f"{stage.stack.simulator_url}/oauth/authorize?{urlencode(asked)}")
        while (await handle.describe()).history_length < _WAITS:
            pass
        return key, httpx.URL(address).params["code"], verifier

    async def prepare(size: int) -> list[tuple[UUID, str, str]]:
        return await several(ready, range(size))

    async def act(item: tuple[UUID, str, str]) -> None:
        key, code, verifier = item
        await stage.temporal.get_workflow_handle(str(key)).signal(BareConsent.consent, args=[code, verifier])
        await done.seen(key)

    return Side(prepare, act)


_WAITS: Final = 4
"""Events of a history whose first task is done: the workflow waits, and its worker has it in the cache."""
