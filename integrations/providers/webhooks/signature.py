"""Did the provider send it? One verifier for each scheme; what differs from vendor to vendor is in its entry.

Signatures are compared as text, in constant time, with those of every live secret. A request is first proven and then
called stale, so that what is counted as stale is a replay, or a clock that is off.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from standardwebhooks.webhooks import EmptyWebhookSecretError
from standardwebhooks.webhooks import Webhook as Standard

from integrations.domain.webhook import Reason
from integrations.providers.entry import Webhook
from integrations.providers.webhooks.arrived import Arrived, RefusedError
from integrations.providers.webhooks.place import parsed

_SHAPES: Final = {"hex": re.compile(r"[0-9a-fA-F]{64}"), "base64": re.compile(r"[A-Za-z0-9+/]{43}=")}
_TIME: Final = re.compile(r"[1-9][0-9]*")
_SECOND: Final = timedelta(seconds=1)
_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DECODED: Final = {
    "%3A": ":", "%2F": "/", "%3F": "?", "%40": "@", "%21": "!", "%24": "$",
    "%27": "'", "%28": "(", "%29": ")", "%2A": "*", "%2C": ",", "%3B": ";",
}  # fmt: skip
"""What HubSpot decodes of an address before it signs it, and nothing else."""
_ENCODED: Final = re.compile("|".join(_DECODED), re.IGNORECASE)

_PROOFS: Final = {"standard-webhooks": "webhook-signature"}
"""The header of a scheme that has a name for it."""
Verifier = Callable[[Webhook, Arrived, Sequence[bytes]], datetime | None]


def verify(webhook: Webhook, arrived: Arrived, secrets: Sequence[bytes], now: datetime) -> datetime | None:
    """When the provider signed it; None where its scheme has no time. Raises RefusedError."""
    if arrived.method != "POST":
        raise RefusedError(Reason.METHOD)
    sent_at = SCHEMES[webhook.scheme](webhook, arrived, live(secrets))
    if sent_at is not None and abs(now - sent_at) > webhook.tolerance:
        raise RefusedError(Reason.STALE)
    return sent_at


def check_signed(webhook: Webhook, arrived: Arrived) -> None:
    """Is there a signature, and one only? Asked before a body is read. Raises RefusedError."""
    if arrived.method == "POST" and (name := _PROOFS.get(webhook.scheme, webhook.header)):
        _header(arrived, name)


def live(secrets: Sequence[bytes]) -> Sequence[bytes]:
    """The secrets that prove something: with an empty one, everybody signs. Raises RefusedError when there is none."""
    told = [secret for secret in secrets if secret]
    if not told:
        raise RefusedError(Reason.UNSIGNED)
    return told


def same(given: Sequence[str], expected: Sequence[str]) -> None:
    """Is one of these one of those? A near miss takes as long as a far one. Raises RefusedError."""
    pairs = ((one.encode(), other.encode()) for one in given for other in expected)
    if not any(hmac.compare_digest(one, other) for one, other in pairs):
        raise RefusedError(Reason.WRONG)


def _hmac_sha256(webhook: Webhook, arrived: Arrived, secrets: Sequence[bytes]) -> None:
    given = _one_signature(webhook, arrived)
    same(given, [_signed(webhook, secret, arrived.body) for secret in secrets])


def _standard_webhooks(_webhook: Webhook, arrived: Arrived, secrets: Sequence[bytes]) -> datetime:
    message_id = _header(arrived, "webhook-id")
    told = _header(arrived, "webhook-timestamp")
    sent_at = _time(told, _SECOND)
    listed = [each.removeprefix("v1,") for each in _header(arrived, "webhook-signature").split() if each[:3] == "v1,"]
    given = _shaped(listed, "base64")
    try:
        body = arrived.body.decode()
    except UnicodeDecodeError:
        # The scheme signs text.
        raise RefusedError(Reason.WRONG) from None
    same(given, [key.sign(message_id, sent_at, body).removeprefix("v1,") for key in _standard_keys(secrets)])
    return sent_at


def _standard_keys(secrets: Sequence[bytes]) -> list[Standard]:
    keys = []
    for secret in secrets:
        try:
            keys.append(Standard(secret.decode()))
        except (ValueError, EmptyWebhookSecretError):
            continue
    if not keys:
        raise RefusedError(Reason.UNSIGNED)
    return keys


def _stripe(webhook: Webhook, arrived: Arrived, secrets: Sequence[bytes]) -> datetime:
    """`t=…,v1=…`, of which the signature may come several times while a secret is rotated."""
    parts = [each.strip() for each in _own_header(webhook, arrived).split(",")]
    times = [each.removeprefix("t=") for each in parts if each.startswith("t=")]
    if len(times) != 1:
        raise RefusedError(Reason.MALFORMED)
    sent_at = _time(times[0], _SECOND)
    listed = [each.removeprefix(webhook.prefix) for each in parts if each.startswith(webhook.prefix)]
    content = times[0].encode() + b"." + arrived.body
    same(_shaped(listed, "hex"), [_signed(webhook, secret, content) for secret in secrets])
    return sent_at


def _slack(webhook: Webhook, arrived: Arrived, secrets: Sequence[bytes]) -> datetime:
    given = _one_signature(webhook, arrived)
    told = _header(arrived, "x-slack-request-timestamp")
    content = b"v0:" + told.encode() + b":" + arrived.body
    same(given, [_signed(webhook, secret, content) for secret in secrets])
    return _time(told, _SECOND)


def _hubspot_v3(webhook: Webhook, arrived: Arrived, secrets: Sequence[bytes]) -> datetime:
    given = _one_signature(webhook, arrived)
    told = _header(arrived, "x-hubspot-request-timestamp")
    content = (arrived.method + canonical(arrived.url)).encode("utf-8", "replace") + arrived.body + told.encode()
    same(given, [_signed(webhook, secret, content) for secret in secrets])
    return _time(told, _MILLISECOND)


def canonical(url: str) -> str:
    """An address as HubSpot signs it."""
    return _ENCODED.sub(lambda match: _DECODED[match[0].upper()], url)


def _channel_token(webhook: Webhook, arrived: Arrived, secrets: Sequence[bytes]) -> None:
    """The secret itself comes along, and nothing is signed."""
    same([_own_header(webhook, arrived)], _texts(secrets))


def _microsoft_graph(_webhook: Webhook, arrived: Arrived, secrets: Sequence[bytes]) -> None:
    """Each notification of a delivery tells the secret of its subscription, and each has to."""
    body: Any = parsed(arrived.body)
    notifications = body.get("value") if isinstance(body, dict) else None
    if not isinstance(notifications, list) or not notifications:
        raise RefusedError(Reason.MISSING)
    expected = _texts(secrets)
    for each in notifications:
        told = each.get("clientState") if isinstance(each, dict) else None
        if not isinstance(told, str) or not told:
            raise RefusedError(Reason.MISSING)
        if not told.isascii():
            raise RefusedError(Reason.MALFORMED)
        same([told], expected)


SCHEMES: Final[dict[str, Verifier]] = {
    "hmac-sha256": _hmac_sha256,
    "standard-webhooks": _standard_webhooks,
    "stripe": _stripe,
    "slack": _slack,
    "hubspot-v3": _hubspot_v3,
    "google-channel-token": _channel_token,
    "microsoft-graph": _microsoft_graph,
}


def _header(arrived: Arrived, name: str) -> str:
    value = arrived.header(name)
    if not value:
        raise RefusedError(Reason.MISSING)
    return value


def _own_header(webhook: Webhook, arrived: Arrived) -> str:
    return _header(arrived, webhook.header or "")


def _one_signature(webhook: Webhook, arrived: Arrived) -> list[str]:
    value = _own_header(webhook, arrived)
    if not value.startswith(webhook.prefix):
        raise RefusedError(Reason.MALFORMED)
    return _shaped([value.removeprefix(webhook.prefix)], webhook.encoding)


def _shaped(listed: Iterable[str], encoding: str) -> list[str]:
    """Those that are a SHA-256 at all. Raises RefusedError when none is."""
    found = [each.lower() if encoding == "hex" else each for each in listed if _SHAPES[encoding].fullmatch(each)]
    if not found:
        raise RefusedError(Reason.MALFORMED)
    return found


def _signed(webhook: Webhook, secret: bytes, content: bytes) -> str:
    digest = hmac.digest(secret, content, hashlib.sha256)
    return digest.hex() if webhook.encoding == "hex" else base64.b64encode(digest).decode()


def _time(told: str, unit: timedelta) -> datetime:
    if not _TIME.fullmatch(told):
        raise RefusedError(Reason.MALFORMED)
    try:
        return _EPOCH + int(told) * unit
    except OverflowError:
        raise RefusedError(Reason.MALFORMED) from None


def _texts(secrets: Sequence[bytes]) -> list[str]:
    return [secret.decode("latin-1") for secret in secrets]
