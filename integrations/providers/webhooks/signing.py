"""The counterpart of `signature`: requests as a provider sends them, for a self-test. Its entry says what is where.

What lies at the places of an entry is made up. The event is none that a provider has, so that nothing is done about it.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from standardwebhooks.webhooks import Webhook as Standard

from integrations.providers.entry import Webhook
from integrations.providers.webhooks.arrived import Arrived
from integrations.providers.webhooks.signature import canonical

EVENT: Final = "runbook-self-test"
_BODY: Final = "body:"
_ITEM: Final = "item:"
_TELLS: Final = frozenset({"google-channel-token", "microsoft-graph"})
"""Schemes that sign nothing: the secret itself comes along."""
_TIMED: Final = frozenset({"standard-webhooks", "stripe", "slack", "hubspot-v3"})
Sealing = Callable[[Webhook, Arrived, bytes, datetime], dict[str, str]]
"""The headers that prove a request."""


def has_time(webhook: Webhook) -> bool:
    """Does its scheme sign when a request was sent, so that a late one is refused?"""
    return webhook.scheme in _TIMED


def request(webhook: Webhook, secret: bytes, *, url: str, name: str, at: datetime) -> Arrived:
    """A delivery as the provider signs it at that time. `name`: of this one alone, its id where there are ids."""
    headers: dict[str, str] = {}
    body: Any = {}
    told = [(place, EVENT) for place in webhook.event[:1]] + [(place, name) for place in webhook.delivery_id[:1]]
    for place, value in told:
        for part in place.split("+"):
            if part.startswith(_ITEM):
                part = f"{webhook.each[0]}.{part.removeprefix(_ITEM)}"  # noqa: PLW2901 - the same place, in the body
            if part.startswith(_BODY):
                body = _put(body, part.removeprefix(_BODY).split("."), value)
            else:
                headers[part.lower()] = value
    # Where no id is sent, a body is the same delivery as one that is like it.
    first = body[0] if isinstance(body, list) else body
    first["runbook"] = name
    if webhook.scheme == "microsoft-graph":
        body = _put(body, ["value", "0", "clientState"], secret.decode("latin-1"))
    headers |= {"content-type": "application/json"}
    bare = Arrived("POST", url, _raw(headers), json.dumps(body).encode())
    proof = _SCHEMES[webhook.scheme](webhook, bare, secret, at)
    return replace(bare, headers=_raw(headers | {key.lower(): value for key, value in proof.items()}))


def tampered(webhook: Webhook, secret: bytes, *, url: str, name: str, at: datetime) -> Arrived:
    """The same, changed on its way; of a scheme that signs nothing, with a secret that is nearly the right one."""
    if webhook.scheme in _TELLS:
        # A letter: not everything may stand in a header.
        return request(webhook, secret[:-1] + (b"b" if secret.endswith(b"a") else b"a"), url=url, name=name, at=at)
    sent = request(webhook, secret, url=url, name=name, at=at)
    return replace(sent, body=sent.body + b" ")


def _hmac_sha256(webhook: Webhook, bare: Arrived, secret: bytes, _at: datetime) -> dict[str, str]:
    return {_own(webhook): webhook.prefix + _signed(webhook, secret, bare.body)}


def _standard_webhooks(_webhook: Webhook, bare: Arrived, secret: bytes, at: datetime) -> dict[str, str]:
    message_id = bare.header("webhook-id") or f"msg_{hashlib.sha256(bare.body).hexdigest()}"
    signature = Standard(secret.decode()).sign(message_id, at, bare.body.decode())
    return {"webhook-id": message_id, "webhook-timestamp": _seconds(at), "webhook-signature": signature}


def _stripe(webhook: Webhook, bare: Arrived, secret: bytes, at: datetime) -> dict[str, str]:
    signature = _signed(webhook, secret, _seconds(at).encode() + b"." + bare.body)
    return {_own(webhook): f"t={_seconds(at)},{webhook.prefix}{signature}"}


def _slack(webhook: Webhook, bare: Arrived, secret: bytes, at: datetime) -> dict[str, str]:
    signature = _signed(webhook, secret, b"v0:" + _seconds(at).encode() + b":" + bare.body)
    return {_own(webhook): webhook.prefix + signature, "x-slack-request-timestamp": _seconds(at)}


def _hubspot_v3(webhook: Webhook, bare: Arrived, secret: bytes, at: datetime) -> dict[str, str]:
    told = f"{_seconds(at)}000"
    content = (bare.method + canonical(bare.url)).encode() + bare.body + told.encode()
    return {_own(webhook): webhook.prefix + _signed(webhook, secret, content), "x-hubspot-request-timestamp": told}


def _channel_token(webhook: Webhook, _bare: Arrived, secret: bytes, _at: datetime) -> dict[str, str]:
    return {_own(webhook): secret.decode("latin-1")}


def _microsoft_graph(_webhook: Webhook, _bare: Arrived, _secret: bytes, _at: datetime) -> dict[str, str]:
    """It lies in the body."""
    return {}


_SCHEMES: Final[dict[str, Sealing]] = {
    "hmac-sha256": _hmac_sha256,
    "standard-webhooks": _standard_webhooks,
    "stripe": _stripe,
    "slack": _slack,
    "hubspot-v3": _hubspot_v3,
    "google-channel-token": _channel_token,
    "microsoft-graph": _microsoft_graph,
}


def _own(webhook: Webhook) -> str:
    return webhook.header or ""


def _signed(webhook: Webhook, secret: bytes, content: bytes) -> str:
    digest = hmac.digest(secret, content, "sha256")
    return digest.hex() if webhook.encoding == "hex" else base64.b64encode(digest).decode()


def _seconds(at: datetime) -> str:
    return str(int(at.timestamp()))


def _raw(headers: dict[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.encode(), value.encode("latin-1")) for name, value in headers.items())


def _put(tree: Any, steps: list[str], value: str) -> Any:
    """JSON with a value at a dotted place, where a number or `*` is a list's. Only first items are ever asked for."""
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if step.isdigit() or step == "*":
        items = tree if isinstance(tree, list) else []
        return [_put(items[0] if items else {}, rest, value)]
    fields = tree if isinstance(tree, dict) else {}
    return {**fields, step: _put(fields.get(step, {}), rest, value)}
