"""A provider that sends webhooks, signed with the vendors' own methods."""

import base64
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from standardwebhooks.webhooks import Webhook

SECRET = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HUB = b"hub secret"
XERO = b"xero secret"


@dataclass(frozen=True)
class Vendor:
    """Sends to one site."""

    browser: httpx.AsyncClient

    async def send(
        self,
        delivery_id: str = "msg_1",
        body: Any = None,
        *,
        channel: str = "app",
        secret: bytes = SECRET,
        at: datetime | None = None,
        headers: Mapping[str, str] | None = None,
        query: str = "",
    ) -> httpx.Response:
        """As the simulator does it: Standard Webhooks."""
        content = as_bytes({"type": "note.changed", "data": {}} if body is None else body)
        signed = standard(delivery_id, content, secret, at or datetime.now(UTC))
        return await self.browser.post(
            f"/webhooks/simulator/{channel}{query}", content=content, headers=signed | dict(headers or {})
        )

    async def github(self, content: bytes, delivery_id: str | None, secret: bytes = HUB, **more: str) -> httpx.Response:
        headers = hub(content, secret) | more
        if delivery_id is not None:
            headers["X-GitHub-Delivery"] = delivery_id
        return await self.browser.post("/webhooks/github/app", content=content, headers=headers)

    async def xero(self, content: bytes, secret: bytes = XERO) -> httpx.Response:
        """No id of its own."""
        signature = base64.b64encode(hmac.digest(secret, content, "sha256")).decode()
        return await self.browser.post("/webhooks/xero/app", content=content, headers={"x-xero-signature": signature})


def standard(delivery_id: str, content: bytes, secret: bytes, at: datetime) -> dict[str, str]:
    signature = Webhook(secret.decode()).sign(delivery_id, at, content.decode())
    timestamp = str(int(at.timestamp()))
    return {"webhook-id": delivery_id, "webhook-timestamp": timestamp, "webhook-signature": signature}


def hub(content: bytes, secret: bytes = HUB) -> dict[str, str]:
    return {
        "X-Hub-Signature-256": "sha256=" + hmac.digest(secret, content, "sha256").hex(),
        "X-GitHub-Event": "push",
        "Content-Type": "application/json",
    }


def as_bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()
