"""Requests as providers send them, to an entry of the catalog."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from integrations.providers import catalog
from integrations.providers.entry import Webhook
from integrations.providers.webhooks.arrived import Arrived

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
CATALOG = catalog.load(host="http://127.0.0.1:1")
DEEP = b"[" * 100_000
URL = "https://runbook.example/webhooks/acme/app"


@lru_cache
def webhook_of(provider_id: str) -> Webhook:
    webhook = CATALOG.provider(provider_id).webhook
    assert webhook is not None
    return webhook


def arrived(
    body: bytes = b"", headers: dict[str, str] | None = None, *, method: str = "POST", url: str = URL
) -> Arrived:
    raw = tuple((name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items())
    return Arrived(method=method, url=url, headers=raw, body=body)


def with_header(request: Arrived, name: str, *values: bytes) -> Arrived:
    """The request with these values of a header in place of what it had: none, one or several."""
    others = tuple(each for each in request.headers if each[0] != name.lower().encode())
    more = tuple((name.lower().encode(), value) for value in values)
    return Arrived(method=request.method, url=request.url, headers=(*others, *more), body=request.body)


def at(seconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
