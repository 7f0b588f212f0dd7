"""What the entries read of deliveries as the vendors' pages show them."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from integrations.domain.webhook import Identity, Notice, Reaction
from integrations.providers.webhooks.arrived import Told
from integrations.providers.webhooks.reading import read
from tests.providers.webhooks.requests import CATALOG, arrived, webhook_of

PROVIDERS = [provider.id for provider in CATALOG if provider.webhook]
CHANNEL = {"X-Goog-Channel-ID": "4ba78bf0-6a47-11e2-bcfd-0800200c9a66", "X-Goog-Resource-ID": "o3hgv1538sdjfh"}


def told(provider_id: str, body: Any = None, headers: dict[str, str] | None = None) -> Told:
    raw = b"" if body is None else json.dumps(body).encode()
    return read(webhook_of(provider_id), arrived(raw, headers), None)


@pytest.mark.parametrize(
    ("provider_id", "headers", "body", "event", "reaction", "account"),
    [
        (
            "github",
            {"X-GitHub-Event": "github_app_authorization"},
            {"action": "revoked", "sender": {"id": 2}},
            "github_app_authorization.revoked",
            Reaction.REVOKED,
            "2",
        ),
        (
            "github",
            {"X-GitHub-Event": "installation"},
            {"action": "deleted", "installation": {"id": 9, "account": {"id": 1}}, "sender": {"id": 2}},
            "installation.deleted",
            Reaction.UNINSTALLED,
            "1",
        ),
        (
            "github",
            {"X-GitHub-Event": "push"},
            {"ref": "refs/heads/main", "repository": {"owner": {"id": 1}}, "sender": {"id": 2}},
            "push",
            Reaction.EVENT,
            "1",
        ),
        (
            "slack",
            {},
            {"team_id": "T1", "type": "event_callback", "event": {"type": "tokens_revoked", "tokens": {"bot": ["U1"]}}},
            "tokens_revoked",
            Reaction.REVOKED,
            "T1",
        ),
        (
            "slack",
            {},
            {"team_id": "T1", "type": "event_callback", "event": {"type": "app_uninstalled"}},
            "app_uninstalled",
            Reaction.UNINSTALLED,
            "T1",
        ),
        ("shopify", {"X-Shopify-Topic": "app/uninstalled"}, {"id": 5}, "app/uninstalled", Reaction.UNINSTALLED, "5"),
        ("shopify", {"X-Shopify-Topic": "orders/create"}, {"id": 5}, "orders/create", Reaction.EVENT, ""),
        (
            "stripe",
            {},
            {"id": "evt_1", "type": "account.application.deauthorized", "account": "acct_1"},
            "account.application.deauthorized",
            Reaction.UNINSTALLED,
            "acct_1",
        ),
        (
            "tiktok",
            {},
            {"event": "authorization.removed", "user_openid": "act.1", "content": '{"reason": 1 }'},
            "authorization.removed",
            Reaction.REVOKED,
            "act.1",
        ),
        (
            "facebook",
            {},
            {
                "object": "permissions",
                "entry": [{"id": "7", "changes": [{"field": "connected", "value": {"verb": "revoked"}}]}],
            },
            "permissions.connected.revoked",
            Reaction.REVOKED,
            "7",
        ),
        ("instagram", {}, {"object": "user", "entry": [{"id": "7", "changed_fields": ["x"]}]}, "user", "event", "7"),
        (
            "microsoft",
            {},
            {"value": [{"lifecycleEvent": "reauthorizationRequired", "clientState": "s"}]},
            "reauthorizationRequired",
            Reaction.REAUTHORIZE,
            "",
        ),
        (
            "microsoft",
            {},
            {"value": [{"changeType": "updated"}, {"lifecycleEvent": "missed"}]},
            "missed",
            Reaction.MISSED,
            "",
        ),
        (
            "microsoft",
            {},
            {"value": [{"lifecycleEvent": "subscriptionRemoved"}]},
            "subscriptionRemoved",
            Reaction.MISSED,
            "",
        ),
        ("microsoft", {}, {"value": [{"changeType": "updated"}]}, "updated", Reaction.EVENT, ""),
        (
            "hubspot",
            {},
            [{"eventId": 1, "subscriptionType": "contact.creation", "portalId": 62515}],
            "contact.creation",
            Reaction.EVENT,
            "62515",
        ),
        ("xero", {}, {"events": [{"tenantId": "c2c", "eventCategory": "INVOICE"}]}, "INVOICE", Reaction.EVENT, "c2c"),
        (
            "quickbooks",
            {},
            {"eventNotifications": [{"realmId": "1185", "dataChangeEvent": {"entities": [{"name": "Customer"}]}}]},
            "Customer",
            Reaction.EVENT,
            "1185",
        ),
        (
            "quickbooks",
            {},
            [{"id": "88cd", "type": "qbo.customer.created.v1", "intuitaccountid": "1185"}],
            "qbo.customer.created.v1",
            Reaction.EVENT,
            "1185",
        ),
    ],
)
def test_an_event_is_told_with_its_account_and_what_it_makes_us_do(
    provider_id: str, headers: dict[str, str], body: Any, event: str, reaction: Reaction, account: str
) -> None:
    found = told(provider_id, body, headers)
    assert (found.event, found.account) == (event, account)
    assert found.reaction is Reaction(reaction)


@pytest.mark.parametrize(
    ("provider_id", "headers", "body", "expected"),
    [
        ("github", {"X-GitHub-Delivery": "72d3162e"}, {}, "72d3162e"),
        ("shopify", {"X-Shopify-Webhook-Id": "b54557e4", "X-Shopify-Event-Id": "98880550"}, {}, "b54557e4"),
        ("slack", {"X-Slack-Retry-Num": "1"}, {"event_id": "Ev9UQ52YNA"}, "Ev9UQ52YNA"),
        ("stripe", {}, {"id": "evt_1"}, "evt_1"),
        ("simulator", {"webhook-id": "msg_1"}, {}, "msg_1"),
    ],
)
def test_the_providers_own_id_is_the_identity(
    provider_id: str, headers: dict[str, str], body: Any, expected: str
) -> None:
    found = told(provider_id, body, headers)
    assert (found.delivery_id, found.identity) == (expected, Identity.ID)


def test_googles_numbers_never_collide_across_its_channels() -> None:
    """W23."""
    first = told("google-drive", None, CHANNEL | {"X-Goog-Message-Number": "2", "X-Goog-Resource-State": "change"})
    again = told("google-drive", None, CHANNEL | {"X-Goog-Message-Number": "2", "X-Goog-Resource-State": "change"})
    next_one = told("google-drive", None, CHANNEL | {"X-Goog-Message-Number": "3"})
    renewed = told("google-drive", None, CHANNEL | {"X-Goog-Message-Number": "2", "X-Goog-Channel-ID": "another"})
    assert first == again
    assert len({first.delivery_id, next_one.delivery_id, renewed.delivery_id}) == 3
    assert first.resource == renewed.resource == "o3hgv1538sdjfh"


@pytest.mark.parametrize(
    ("provider_id", "body", "first", "second"),
    [
        (
            "facebook",
            {
                "object": "permissions",
                "entry": [
                    {"id": "7", "changes": [{"field": "connected", "value": {"verb": "granted"}}]},
                    {"id": "8", "changes": [{"field": "email"}, {"field": "connected", "value": {"verb": "revoked"}}]},
                ],
            },
            (Reaction.REVOKED, "permissions.connected.revoked", "8"),
            (Reaction.EVENT, "permissions.connected.granted", "7"),
        ),
        (
            "microsoft",
            {"value": [{"changeType": "updated"}, {"lifecycleEvent": "missed"}]},
            (Reaction.MISSED, "missed", ""),
            (Reaction.EVENT, "updated", ""),
        ),
        (
            "hubspot",
            [{"subscriptionType": "contact.creation", "portalId": n} for n in (1, 2, 1)],
            (Reaction.EVENT, "contact.creation", "1"),
            (Reaction.EVENT, "contact.creation", "2"),
        ),
        (
            "quickbooks",
            [{"type": "a", "intuitaccountid": "1"}, {"type": "b", "intuitaccountid": "2"}],
            (Reaction.EVENT, "a", "1"),
            (Reaction.EVENT, "b", "2"),
        ),
        (
            "xero",
            {"events": [{"tenantId": "1", "eventCategory": "INVOICE"}, {"tenantId": "2", "eventCategory": "CONTACT"}]},
            (Reaction.EVENT, "INVOICE", "1"),
            (Reaction.EVENT, "CONTACT", "2"),
        ),
    ],
)
def test_every_notification_of_a_delivery_is_read_the_gravest_first(
    provider_id: str, body: Any, first: Notice, second: Notice
) -> None:
    found = told(provider_id, body)
    assert found.notices[:2] == (first, second)
    assert (found.reaction, found.event, found.account) == first


def test_an_attempt_of_hubspots_is_the_delivery_that_it_repeats() -> None:
    """Its body counts the attempts."""
    events = [{"eventId": n, "subscriptionId": 9, "occurredAt": 1462216307945 + n} for n in range(100)]
    first, again, other = (
        told("hubspot", [each | {"attemptNumber": attempt} for each in some])
        for attempt, some in ((0, events), (1, events), (0, events[:-1]))
    )
    assert first.identity is Identity.ID
    assert first.delivery_id == again.delivery_id != other.delivery_id


def test_two_notices_of_graphs_in_the_same_words_are_told_apart_where_they_have_an_id() -> None:
    first, second = (told("microsoft", {"value": [{"id": n, "lifecycleEvent": "missed"}]}) for n in "ab")
    assert (first.delivery_id, first.identity) == ("a", Identity.ID)
    assert second.delivery_id == "b"
    assert told("microsoft", {"value": [{"lifecycleEvent": "missed"}]}).identity is Identity.DIGEST


@pytest.mark.parametrize(
    ("provider_id", "body"),
    [
        ("stripe", {"created": 1764504000}),
        ("slack", {"event_time": 1764504000}),
        ("facebook", {"entry": [{"time": 1764504000000}, {"time": 1764504001}]}),
        ("tiktok", {"create_time": 1764504000}),
        ("hubspot", [{"occurredAt": 1764504000000}]),
        ("simulator", {"timestamp": "2025-11-30T13:00:00+01:00"}),
    ],
)
def test_when_it_happened_is_what_the_signed_body_says(provider_id: str, body: Any) -> None:
    assert told(provider_id, body).occurred_at == datetime(2025, 11, 30, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "said", ["2025-11-30T13:00:00", "soon", "9" * 30, "-1", 1e300, None, "0001-01-01T00:00:00+01:00"]
)
def test_what_is_no_time_says_nothing(said: Any) -> None:
    assert told("simulator", {"timestamp": said}).occurred_at is None


@pytest.mark.parametrize("provider_id", PROVIDERS)
def test_no_signature_is_an_identity(provider_id: str) -> None:
    """W23: not of Meta's and not of anybody's."""
    webhook = webhook_of(provider_id)
    places = {part.lower() for place in webhook.delivery_id for part in place.split("+")}
    assert (webhook.header or "webhook-signature").lower() not in places
    if webhook.header:
        one, other = (told(provider_id, {"a": 1}, {webhook.header: value}) for value in ("1", "2"))
        assert one.delivery_id == other.delivery_id
