"""Handshakes: a provider asks whether an address is ours before it sends anything there. Nothing is kept of that."""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qs

from integrations.domain.webhook import Reason
from integrations.providers.entry import Webhook
from integrations.providers.webhooks.arrived import Arrived, Greeting, RefusedError
from integrations.providers.webhooks.place import parsed
from integrations.providers.webhooks.signature import live, same, verify

_OK: Final = 200
_LONGEST: Final = 4096
"""Characters that are sent back. A challenge is far shorter."""


def greet(webhook: Webhook, arrived: Arrived, secrets: Sequence[bytes], now: datetime) -> Greeting | None:
    """The answer to a handshake; None for any other request. Raises RefusedError when it proves too little."""
    return _GREETERS[webhook.greeting](webhook, arrived, secrets, now) if webhook.greeting else None


def verify_token(secret: bytes) -> str:
    """What Meta is given as its verify token for a channel with this secret.

    It comes back in an address, and addresses are logged: it is derived from the secret, which nobody learns from it.
    """
    return hmac.digest(secret, b"hub.verify_token", hashlib.sha256).hex()


def _url_verification(webhook: Webhook, arrived: Arrived, secrets: Sequence[bytes], now: datetime) -> Greeting | None:
    if b"url_verification" not in arrived.body:
        return None
    verify(webhook, arrived, secrets, now)
    body: Any = parsed(arrived.body)
    if not isinstance(body, dict) or body.get("type") != "url_verification":
        return None
    return _echo(body.get("challenge"))


def _validation_token(_webhook: Webhook, arrived: Arrived, secrets: Sequence[bytes], _now: datetime) -> Greeting | None:
    """Microsoft proves nothing here: whoever asks reads back what they sent, as plain text."""
    token = _parameter(arrived, "validationToken")
    if token is None or arrived.method != "POST":
        return None
    live(secrets)
    return _echo(token)


def _hub_challenge(_webhook: Webhook, arrived: Arrived, secrets: Sequence[bytes], _now: datetime) -> Greeting | None:
    if arrived.method != "GET" or _parameter(arrived, "hub.mode") != "subscribe":
        return None
    expected = [verify_token(secret) for secret in live(secrets)]
    told = _parameter(arrived, "hub.verify_token")
    if not told:
        raise RefusedError(Reason.MISSING)
    if not told.isascii():
        raise RefusedError(Reason.MALFORMED)
    same([told], expected)
    return _echo(_parameter(arrived, "hub.challenge"))


def _intent_to_receive(webhook: Webhook, arrived: Arrived, secrets: Sequence[bytes], now: datetime) -> Greeting | None:
    """Xero sends no events and a right or a wrong signature, and wants a 200 without a body, or a 401."""
    verify(webhook, arrived, secrets, now)
    body: Any = parsed(arrived.body)
    return Greeting(_OK, b"") if isinstance(body, dict) and body.get("events") == [] else None


_GREETERS: Final[dict[str, Callable[[Webhook, Arrived, Sequence[bytes], datetime], Greeting | None]]] = {
    "url-verification": _url_verification,
    "validation-token": _validation_token,
    "hub-challenge": _hub_challenge,
    "intent-to-receive": _intent_to_receive,
}


def _echo(challenge: object) -> Greeting | None:
    if not isinstance(challenge, str) or not 0 < len(challenge) <= _LONGEST:
        return None
    return Greeting(_OK, challenge.encode("utf-8", "replace"))


def _parameter(arrived: Arrived, name: str) -> str | None:
    """The one value of a query parameter; None when it is not there, or comes twice."""
    values = parse_qs(arrived.url.partition("?")[2], errors="replace").get(name, [])
    return values[0] if len(values) == 1 else None
