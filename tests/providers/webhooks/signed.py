"""One request of each scheme, signed here by hand from what the vendor's page says, and not by the code under test."""

import base64
import hmac
import json
from collections.abc import Callable
from datetime import datetime

from integrations.providers.webhooks.arrived import Arrived
from tests.providers.webhooks.requests import NOW, URL, arrived

SECRET = b"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BODY = b'{"id": "evt_1", "type": "thing.changed", "events": [{}]}'


def _digest(content: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, content, "sha256")


def _seconds(when: datetime) -> bytes:
    return str(int(when.timestamp())).encode()


def github(secret: bytes = SECRET, _when: datetime = NOW, body: bytes = BODY) -> Arrived:
    return arrived(body, {"X-Hub-Signature-256": "sha256=" + _digest(body, secret).hex(), "X-GitHub-Delivery": "d-1"})


def shopify(secret: bytes = SECRET, _when: datetime = NOW, body: bytes = BODY) -> Arrived:
    return arrived(body, {"X-Shopify-Hmac-SHA256": base64.b64encode(_digest(body, secret)).decode()})


def simulator(secret: bytes = SECRET, when: datetime = NOW, body: bytes = BODY) -> Arrived:
    key = base64.b64decode(secret.removeprefix(b"whsec_"))
    signature = base64.b64encode(_digest(b"msg_1." + _seconds(when) + b"." + body, key)).decode()
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": _seconds(when).decode(),
        "webhook-signature": f"v1,{signature}",
    }
    return arrived(body, headers)


def stripe(secret: bytes = SECRET, when: datetime = NOW, body: bytes = BODY) -> Arrived:
    signature = _digest(_seconds(when) + b"." + body, secret).hex()
    return arrived(body, {"Stripe-Signature": f"t={_seconds(when).decode()},v1={signature},v0={'0' * 64}"})


def tiktok(secret: bytes = SECRET, when: datetime = NOW, body: bytes = BODY) -> Arrived:
    signature = _digest(_seconds(when) + b"." + body, secret).hex()
    return arrived(body, {"TikTok-Signature": f"t={_seconds(when).decode()},s={signature}"})


def slack(secret: bytes = SECRET, when: datetime = NOW, body: bytes = BODY) -> Arrived:
    signature = _digest(b"v0:" + _seconds(when) + b":" + body, secret).hex()
    return arrived(body, {"X-Slack-Signature": f"v0={signature}", "X-Slack-Request-Timestamp": _seconds(when).decode()})


def hubspot(secret: bytes = SECRET, when: datetime = NOW, body: bytes = BODY) -> Arrived:
    told = _seconds(when) + b"123"
    signature = base64.b64encode(_digest(b"POST" + URL.encode() + body + told, secret)).decode()
    return arrived(body, {"X-HubSpot-Signature-v3": signature, "X-HubSpot-Request-Timestamp": told.decode()})


def google(secret: bytes = SECRET, _when: datetime = NOW, body: bytes = b"") -> Arrived:
    return arrived(body, {"X-Goog-Channel-Token": secret.decode()})


def microsoft(secret: bytes = SECRET, _when: datetime = NOW, body: bytes = b"") -> Arrived:
    told = {"value": [{"clientState": secret.decode(), "changeType": "updated"}]}
    return arrived(body or json.dumps(told).encode())


SENDERS: dict[str, Callable[..., Arrived]] = {
    "github": github,
    "shopify": shopify,
    "simulator": simulator,
    "stripe": stripe,
    "tiktok": tiktok,
    "slack": slack,
    "hubspot": hubspot,
    "google-drive": google,
    "microsoft": microsoft,
}
"""By the provider whose entry is used: each scheme, and what of plain HMAC and of Stripe's differs."""

SIGNATURES = {
    "github": "X-Hub-Signature-256",
    "shopify": "X-Shopify-Hmac-SHA256",
    "simulator": "webhook-signature",
    "stripe": "Stripe-Signature",
    "tiktok": "TikTok-Signature",
    "slack": "X-Slack-Signature",
    "hubspot": "X-HubSpot-Signature-v3",
    "google-drive": "X-Goog-Channel-Token",
}
TIMES = {
    "simulator": "webhook-timestamp",
    "slack": "X-Slack-Request-Timestamp",
    "hubspot": "X-HubSpot-Request-Timestamp",
}
