from datetime import timedelta

import pytest

from integrations.domain.webhook import Identity, Reaction, Reason
from integrations.providers.webhooks.arrived import Arrived, RefusedError
from integrations.providers.webhooks.greeting import greet
from integrations.providers.webhooks.reading import read
from integrations.providers.webhooks.signature import verify
from integrations.providers.webhooks.signing import has_time, request, tampered
from tests.providers.webhooks.requests import CATALOG, NOW, URL, webhook_of
from tests.providers.webhooks.signed import SECRET

PROVIDERS = [entry.id for entry in CATALOG if entry.webhook is not None]


def refused(provider_id: str, sent: Arrived) -> Reason:
    with pytest.raises(RefusedError) as caught:
        verify(webhook_of(provider_id), sent, (SECRET,), NOW)
    return caught.value.reason


@pytest.mark.parametrize("provider_id", PROVIDERS)
class TestARequestOfEachProvider:
    def test_is_taken_for_its_own(self, provider_id: str) -> None:
        webhook = webhook_of(provider_id)
        sent = request(webhook, SECRET, url=f"{URL}?a=%2Fb%3F", name="test-1", at=NOW)

        assert greet(webhook, sent, (SECRET,), NOW) is None
        assert verify(webhook, sent, (SECRET,), NOW) == (NOW if has_time(webhook) else None)

    def test_says_who_it_is_and_asks_for_nothing(self, provider_id: str) -> None:
        webhook = webhook_of(provider_id)
        one, other = (
            read(webhook, request(webhook, SECRET, url=URL, name=name, at=NOW), None) for name in ("test-1", "test-2")
        )

        assert one.delivery_id != other.delivery_id
        assert one.identity == (Identity.ID if webhook.delivery_id else Identity.DIGEST)
        assert one.resource == ""
        assert one.account == ""
        assert webhook.reaction(one.event) is Reaction.EVENT
        if webhook.event:
            assert "runbook-self-test" in one.event

    def test_that_was_tampered_with_is_refused(self, provider_id: str) -> None:
        sent = tampered(webhook_of(provider_id), SECRET, url=URL, name="test-1", at=NOW)

        assert refused(provider_id, sent) is Reason.WRONG

    def test_that_is_late_is_refused_where_a_time_is_signed(self, provider_id: str) -> None:
        webhook = webhook_of(provider_id)
        late = request(webhook, SECRET, url=URL, name="1", at=NOW - webhook.tolerance - timedelta(minutes=1))

        if has_time(webhook):
            assert refused(provider_id, late) is Reason.STALE
        else:
            verify(webhook, late, (SECRET,), NOW)


@pytest.mark.parametrize("secret", [b"token!", b"token-a", b"token~"])
def test_a_token_that_is_nearly_the_right_one_may_be_sent_by_http(secret: bytes) -> None:
    webhook = webhook_of("google-drive")

    sent = tampered(webhook, secret, url=URL, name="test-1", at=NOW)

    told = sent.header(webhook.header or "") or ""
    assert told.encode() != secret
    assert told == told.strip()


def test_only_schemes_with_a_time_have_one() -> None:
    timed = {provider_id for provider_id in PROVIDERS if has_time(webhook_of(provider_id))}

    assert timed == {"simulator", "stripe", "tiktok", "slack", "hubspot"}
