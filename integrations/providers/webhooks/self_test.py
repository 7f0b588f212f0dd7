"""Does the ingress take what this provider sends, and nothing else? Tried by sending it, as the provider would."""

import asyncio
import hashlib
import json
import secrets as random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx

from integrations.domain.message import Message
from integrations.domain.webhook import SELF_TEST_HEADER
from integrations.providers.entry import Webhook
from integrations.providers.webhooks.arrived import Arrived
from integrations.providers.webhooks.reading import read
from integrations.providers.webhooks.secret import trouble_of
from integrations.providers.webhooks.signing import has_time, request, tampered

_LATE: Final = timedelta(minutes=1)
_PATIENCE: Final = 5.0
"""Seconds for an answer. Providers have little more."""
"""Beyond what is tolerated."""
ACCEPTED, DUPLICATE, REFUSED = "accepted", "duplicate", "refused (401)"
_REFUSED: Final = 401


class Case(Message):
    name: str
    expected: str
    got: str
    answered: bool = True
    """False: nobody is there, or not in time."""

    @property
    def passed(self) -> bool:
        return self.got == self.expected


@dataclass(frozen=True, slots=True)
class Address:
    """A channel's address, twice."""

    told: str
    """As the provider has it: what some of them sign."""
    reached: str
    """As it is reached from here."""


def fingerprint(webhook: Webhook, versions: Sequence[int], base: str) -> str:
    """Of all that a self-test depends on: the provider's section of the catalog, and which secrets are live.

    `base`: where providers reach us, which some of them sign.
    """
    told = [webhook.model_dump(mode="json"), sorted(versions), base]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


async def tried(
    http: httpx.AsyncClient,
    webhook: Webhook,
    secrets: Sequence[bytes],
    mark: Callable[[str], str],
    address: Address,
    beat: Callable[[], object],
) -> list[Case]:
    """Send what has to be refused and what has to be taken. `secrets`: the live ones, the newest first.

    `mark`: what SELF_TEST_HEADER holds for a delivery id, so that nobody takes ours for the provider's. `beat` is
    called after each case. Whatever goes wrong is a case that failed, and the last: raises nothing.
    """
    wrong = [why for secret in secrets if (why := trouble_of(webhook, secret))]
    if wrong:
        return [Case(name="secret", expected=f"one for {webhook.scheme}", got=why) for why in wrong]
    found: list[Case] = []
    try:
        for name, sent, expected in _cases(webhook, secrets, address.told):
            marked = (SELF_TEST_HEADER.encode(), mark(read(webhook, sent, None).delivery_id).encode())
            marked_request = replace(sent, headers=(*sent.headers, marked))
            got, answered = await _answer(http, marked_request, address.reached, webhook)
            found.append(Case(name=name, expected=expected, got=got, answered=answered))
            beat()
            if not answered:
                break
    except Exception as error:  # noqa: BLE001 - one channel's mistake must not keep the others from being tested
        found.append(Case(name="a request", expected="sent", got=f"cannot be made ({type(error).__name__})"))
    return found


def _cases(webhook: Webhook, secrets: Sequence[bytes], url: str) -> Iterator[tuple[str, Arrived, str]]:
    run, now = f"self-test-{random.token_hex(8)}", datetime.now(UTC)
    yield "tampered", tampered(webhook, secrets[0], url=url, name=f"{run}-tampered", at=now), REFUSED
    if has_time(webhook):
        late = now - webhook.tolerance - _LATE
        yield "stale", request(webhook, secrets[0], url=url, name=f"{run}-stale", at=late), REFUSED
    valid = request(webhook, secrets[0], url=url, name=run, at=now)
    yield "valid", valid, ACCEPTED
    yield "duplicate", valid, ACCEPTED if webhook.silent else DUPLICATE
    for number, secret in enumerate(secrets[1:], 1):
        older = request(webhook, secret, url=url, name=f"{run}-older-{number}", at=now)
        yield f"valid, with the secret before ({number})", older, ACCEPTED


async def _answer(http: httpx.AsyncClient, sent: Arrived, url: str, webhook: Webhook) -> tuple[str, bool]:
    """What it says, and whether it says anything at all."""
    try:
        # httpx bounds each read; an answer that drips would never end.
        async with asyncio.timeout(_PATIENCE):
            response = await http.post(url, content=sent.body, headers=list(sent.headers))
    except (httpx.HTTPError, TimeoutError) as error:
        return f"{url} does not answer ({type(error).__name__})", False
    return _said(response, webhook), True


def _said(response: httpx.Response, webhook: Webhook) -> str:
    if response.status_code == _REFUSED:
        return REFUSED
    if not response.is_success:
        return f"HTTP {response.status_code}"
    if webhook.silent:
        return ACCEPTED
    try:
        status = response.json()["status"]
    except (ValueError, TypeError, KeyError):
        return f"HTTP {response.status_code}, and not our ingress's words"
    return status if status in {ACCEPTED, DUPLICATE} else f"HTTP {response.status_code}"
