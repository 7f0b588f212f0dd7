from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.domain.webhook import Reason
from integrations.providers.webhooks.arrived import Arrived, Greeting, RefusedError
from integrations.providers.webhooks.greeting import greet, verify_token
from tests.providers.webhooks import signed
from tests.providers.webhooks.requests import DEEP, NOW, URL, arrived, webhook_of
from tests.providers.webhooks.signed import BODY, SECRET, SENDERS

HUB = f"{URL}?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token="
XERO = b'{"events":[],"firstEventSequence": 0,"lastEventSequence": 0,"entropy": "S0m3r4N0m3t3xt"}'


def greeted(provider_id: str, request: Arrived) -> Greeting | None:
    return greet(webhook_of(provider_id), request, [SECRET], NOW)


def refused(provider_id: str, request: Arrived, *secrets: bytes) -> Reason:
    with pytest.raises(RefusedError) as caught:
        greet(webhook_of(provider_id), request, secrets, NOW)
    return caught.value.reason


def test_slack_is_sent_back_its_challenge_when_it_has_signed_it() -> None:
    """docs.slack.dev/reference/events/url_verification."""
    body = b'{"token": "Jhj5dZrVaK7ZwHHjRyZWjbDl", "challenge": "3eZbrw1aBm2rZgRNFdxV", "type": "url_verification"}'
    assert greeted("slack", signed.slack(body=body)) == Greeting(200, b"3eZbrw1aBm2rZgRNFdxV")
    assert refused("slack", signed.slack(b"other", body=body), SECRET) is Reason.WRONG
    # A message that only speaks of it is a delivery.
    assert greeted("slack", signed.slack(body=b'{"type": "event_callback", "text": "url_verification"}')) is None
    assert greeted("slack", signed.slack(body=b'{"type": "url_verification", "challenge": 7}')) is None


def test_microsoft_is_sent_back_its_token_as_plain_text() -> None:
    """learn.microsoft.com/en-us/graph/change-notifications-delivery-webhooks, "notificationUrl validation"."""
    request = arrived(url=f"{URL}?validationToken=Validation%3A+Testing+%3Cb%3E")
    assert greeted("microsoft", request) == Greeting(200, b"Validation: Testing <b>")
    assert greeted("microsoft", replace(request, method="GET")) is None
    assert greeted("microsoft", replace(request, url=f"{URL}?validationToken={'x' * 5000}")) is None
    assert greeted("microsoft", replace(request, url=f"{URL}?validationToken=a&validationToken=b")) is None
    assert refused("microsoft", request) is Reason.UNSIGNED, "of a channel that would take nothing"


def test_meta_is_sent_back_its_challenge_for_the_channels_token() -> None:
    """developers.facebook.com/docs/graph-api/webhooks/getting-started, "Verification requests"."""
    request = arrived(method="GET", url=HUB + verify_token(SECRET))
    assert greeted("facebook", request) == Greeting(200, b"1158201444")
    assert refused("facebook", replace(request, url=HUB + "guessed"), SECRET) is Reason.WRONG
    assert refused("facebook", replace(request, url=HUB + SECRET.decode()), SECRET) is Reason.WRONG
    assert refused("facebook", replace(request, url=HUB + "%C3%A4"), SECRET) is Reason.MALFORMED
    assert refused("facebook", replace(request, url=HUB), SECRET) is Reason.MISSING
    assert refused("facebook", request) is Reason.UNSIGNED
    assert greeted("facebook", replace(request, method="POST")) is None
    assert greeted("facebook", replace(request, url=URL)) is None


def test_xero_learns_from_the_status_whether_its_signature_was_looked_at() -> None:
    """developer.xero.com/documentation/guides/webhooks/configuring-your-server, "Intent to receive"."""
    signature = dict(signed.shopify(body=XERO).headers)[b"x-shopify-hmac-sha256"].decode()
    assert greeted("xero", arrived(XERO, {"x-xero-signature": signature})) == Greeting(200, b"")
    assert refused("xero", arrived(XERO, {"x-xero-signature": signature.lower()}), SECRET) is Reason.WRONG
    signature = dict(signed.shopify().headers)[b"x-shopify-hmac-sha256"].decode()
    assert greeted("xero", arrived(BODY, {"x-xero-signature": signature})) is None


@pytest.mark.parametrize("provider_id", SENDERS)
def test_a_delivery_is_no_handshake(provider_id: str) -> None:
    assert greeted(provider_id, SENDERS[provider_id]()) is None


@pytest.mark.parametrize("provider_id", ["slack", "microsoft", "facebook", "xero", "github"])
@given(st.sampled_from(["GET", "POST", "HEAD"]), st.binary(), st.booleans(), st.text())
def test_whatever_comes_is_greeted_refused_or_none_of_its_business(
    provider_id: str, method: str, body: bytes, deep: bool, query: str
) -> None:
    body = b'"url_verification"' + DEEP if deep else body
    for url in (query, f"{URL}?validationToken={query}", f"{HUB}{query}"):
        try:
            answer = greeted(provider_id, Arrived(method, url, (), body))
        except RefusedError:
            continue
        assert answer is None or provider_id == "microsoft"
