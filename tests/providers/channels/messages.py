"""A message to be sent, with secrets that a test can look for afterwards."""

import base64
from datetime import UTC, datetime
from uuid import UUID

from integrations.domain.notification import Address, News, Outgoing, Rendered, idempotency_key

SIGNING = f"whsec_{base64.b64encode(b'what acme signs with 123').decode()}"
LINK = "https://runbook.example/reconsent/a-very-secret-token"
EVENT = UUID("01993c30-8e2b-7bd0-8b3c-5a1b7f9d2e11")
KEY = idempotency_key(EVENT, "invitation", "org:acme/ada", "webhook")


def outgoing(
    address: str,
    *,
    channel: str = "webhook",
    name: str = "Ada",
    secret: str = SIGNING,
    subject: str = "Connect the simulator again",
    text: str = f"Hello Ada, here it is: {LINK}",
    html: str = "",
) -> Outgoing:
    news = News(
        event_id=EVENT,
        name="reauth.invited",
        occurred_at=datetime(2026, 11, 25, 20, 5, tzinfo=UTC),
        provider_id="simulator",
        scope_type="org",
        scope_id="acme",
        connection_id=UUID("2cfee766-1630-4443-9cae-ccfa0798e621"),
        payload={},
    )
    to = Address(channel, "org:acme/ada", name, address, secret)
    return Outgoing(KEY, "invitation", news, to, Rendered(subject, text, html))
