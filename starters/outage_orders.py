"""What people order about outages: contain by hand, close, pin a rate, contain more."""

from datetime import timedelta
from typing import Annotated, Final

import typer
from temporalio.client import Client

from integrations.db import outage_status
from integrations.db.outage_explain import explained
from integrations.domain.automation import LONGEST
from integrations.domain.connection import owner_of
from integrations.domain.durations import duration
from integrations.domain.errors import StopError, WrongUsageError
from integrations.domain.nearest import nearest
from integrations.domain.outage import OURS, Isolate, OutageRequest, Pin, Word
from integrations.domain.outage_page import Standing
from integrations.domain.outage_words import read_rate
from integrations.providers.catalog import Catalog
from integrations.temporal import start_outage
from starters.known import known_providers
from starters.outage_asked import ask, is_open
from starters.reach import Reach, changing, warn_without_worker
from starters.shell import By, Reason, because, command, out
from workflows.queues import WORKFLOWS, provider_queue

EndpointOption = Annotated[
    str, typer.Option("--endpoint", help="Only this one: token, identity, or a capability's name.")
]
Tenant = Annotated[str, typer.Option(help="Only this owner's calls: user:ID or org:ID.")]
_NO_CAPABILITY: Final = ("token", "introspect", "revoke", "identity", "api")
"""Endpoints that calls are recorded by, beside the capabilities'."""
_PAUSE: Final = "runbook automation pause outage --for 1h"


@command
async def open_(
    provider: str,
    by: By,
    endpoint: EndpointOption = "",
    tenant: Tenant = "",
    lasts: Annotated[
        str, typer.Option("--for", help="Contained for so long whatever probes say, as 30m or 2h; then it heals.")
    ] = "1h",
    reason: Reason = "",
) -> None:
    """Contain a provider, or an endpoint or an owner of it, by your word: for an hour at least, whatever probes say.

    After that it is probed and heals by itself, as an outage that was found. Where one is open already, what you name
    is contained by that one as well, and all of it for so long at least.

    Example: runbook outage open simulator --endpoint notes.write --for 30m --reason "they announced maintenance"
    """
    known = known_providers()
    known.provider(provider)
    endpoint, tenant = _narrowed(known, provider, endpoint, tenant)
    hold = _hold(lasts)
    async with changing() as reach:
        client = await reach.client()
        why = because(reason, "runbook outage open")
        what = endpoint or tenant or "the whole provider"
        if await is_open(client, provider):
            out.print(f"An outage of {provider} is open already: {what} is contained by it.", markup=False)
            said = Isolate(by=by, reason=why, endpoint=endpoint, tenant=tenant, hold=hold)
            _answer(await ask(client, provider, "isolate", said))
            return
        request = OutageRequest(provider_id=provider, by=by, reason=why, endpoint=endpoint, tenant=tenant, hold=hold)
        started = await start_outage(client, request)
        await warn_without_worker(client, WORKFLOWS, provider_queue(provider))
    out.print(f"{started.id} contains {what} for {lasts}. See: runbook outage status {provider}", markup=False)


@command
async def close(provider: str, by: By, reason: Reason = "") -> None:
    """End an outage by your word: every brake and the shield are lifted at once, and what is parked goes out.

    Example: runbook outage close simulator --reason "their status page says resolved, and my calls work"
    """
    async with changing() as reach:
        client = await reach.client()
        at = await _open_one(reach, client, provider)
        known = await explained(reach.sessions, at) if at else None
        answer = await ask(client, provider, "close", Word(by=by, reason=because(reason, "runbook outage close")))
    _answer(answer)
    on = [each.words for each in (known.journal if known else ()) if each.released_at is None]
    out.print(f"Coming off: {'; '.join(on) or 'nothing, nothing was slowed down'}.", markup=False)
    out.print(
        f"If calls still fail, the detector opens it again. To keep it from that for a while: {_PAUSE}", markup=False
    )


@command
async def pin(
    provider: str,
    by: By,
    rate: Annotated[str, typer.Option(help="Calls a second, as 2/s or 0.5/s; 0/s lets nothing through.")],
    lasts: Annotated[str, typer.Option("--for", help="For so long, as 30m or 2h; then it heals by itself.")] = "1h",
    reason: Reason = "",
) -> None:
    """Hold an open outage's rate where you say, for an hour or until it is unpinned: no probe and no ramp moves it.

    Example: runbook outage pin simulator --rate 2/s --for 2h --reason "their support asked for it"
    """
    said = Pin(rate=read_rate(rate), hold=_hold(lasts), by=by, reason=because(reason, "runbook outage pin"))
    async with changing() as reach:
        client = await reach.client()
        await _open_one(reach, client, provider)
        _answer(await ask(client, provider, "pin", said))
    out.print(f"To take it off: runbook outage unpin {provider}", markup=False)


@command
async def unpin(provider: str, by: By, reason: Reason = "") -> None:
    """Let the outage's own ramp move the rate again.

    Example: runbook outage unpin simulator
    """
    said = Word(by=by, reason=because(reason, "runbook outage unpin"))
    async with changing() as reach:
        client = await reach.client()
        await _open_one(reach, client, provider)
        _answer(await ask(client, provider, "unpin", said))
    out.print(f"See: runbook outage status {provider}", markup=False)


@command
async def isolate(
    provider: str, by: By, endpoint: EndpointOption = "", tenant: Tenant = "", reason: Reason = ""
) -> None:
    """Contain an endpoint or an owner by an open outage as well, or the whole provider when you name neither.

    Example: runbook outage isolate simulator --tenant org:acme --reason "only their account is refused"
    """
    endpoint, tenant = _narrowed(known_providers(), provider, endpoint, tenant)
    said = Isolate(by=by, reason=because(reason, "runbook outage isolate"), endpoint=endpoint, tenant=tenant)
    async with changing() as reach:
        client = await reach.client()
        await _open_one(reach, client, provider)
        _answer(await ask(client, provider, "isolate", said))
    out.print(f"See: runbook outage status {provider}", markup=False)


def _answer(told: str) -> None:
    if told:
        out.print(told, markup=False)


async def _open_one(reach: Reach, client: Client, provider: str) -> Standing | None:
    """The provider's own open outage; None when its workflow has not begun. Raises StopError when there is none."""
    async with reach.sessions.begin() as session:
        at = await outage_status.last_of(session, provider)
    if at is None and provider != OURS:
        known_providers().provider(provider)
    if at is None or not at.is_open:
        if await is_open(client, provider):
            return None
        raise StopError(f"no outage of {provider} is open. To contain it by hand: runbook outage open {provider}")
    if at.provider != provider:
        raise StopError(f"{provider} is contained by the outage of our own way out: say {OURS} in its place")
    if at.observed:
        raise StopError(f"the outage of {provider} is only observed, and nothing is contained: {at.why_not}")
    return at


def _narrowed(known: Catalog, provider_id: str, endpoint: str, tenant: str) -> tuple[str, str]:
    """The names by which calls are recorded. Raises WrongUsageError or CatalogError for what nobody knows."""
    if endpoint and tenant:
        raise WrongUsageError("say either --endpoint or --tenant: what reaches an endpoint reaches all who use it")
    if tenant:
        owner_of(tenant)
    if not endpoint:
        return "", tenant
    if provider_id == OURS:
        raise WrongUsageError("our own way out has no endpoints: isolate at the provider itself")
    entry = known.provider(provider_id)
    if endpoint in entry.capabilities:
        return entry.name_of(entry.capabilities[endpoint].call), ""
    if endpoint in _NO_CAPABILITY:
        return endpoint, ""
    names = [*entry.capabilities, *_NO_CAPABILITY]
    raise WrongUsageError(f"{entry.name} has no endpoint {endpoint!r}{nearest(endpoint, names)}")


def _hold(lasts: str) -> timedelta:
    try:
        hold = duration(lasts)
    except ValueError as error:
        raise WrongUsageError(f"--for {error}") from None
    if not hold or hold > LONGEST:
        raise WrongUsageError(f"--for {lasts}: from 1s to {LONGEST.days}d. Open it again when that is over")
    return hold
