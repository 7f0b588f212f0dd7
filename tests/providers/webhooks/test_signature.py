import base64
import hmac
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.domain.webhook import Reason
from integrations.providers.webhooks.arrived import Arrived, RefusedError
from integrations.providers.webhooks.signature import verify
from tests.providers.webhooks import signed
from tests.providers.webhooks.requests import DEEP, NOW, URL, arrived, at, webhook_of, with_header
from tests.providers.webhooks.signed import BODY, SECRET, SENDERS, SIGNATURES, TIMES

OTHER = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
UNTIMED = {"github", "shopify", "google-drive", "microsoft"}


def refused(provider_id: str, request: Arrived, *secrets: bytes) -> Reason:
    with pytest.raises(RefusedError) as caught:
        verify(webhook_of(provider_id), request, secrets or (SECRET,), NOW)
    assert str(caught.value) == caught.value.reason.value, "nothing of the request is in the error"
    return caught.value.reason


# ── The vendors' own examples ───────────────────────────────────────────────────────────────────────────────────────


def test_githubs_example() -> None:
    """docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries, "Testing the webhook payload …"."""
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    request = arrived(b"Hello, World!", {"X-Hub-Signature-256": signature})
    assert verify(webhook_of("github"), request, [b"It's a Secret to Everybody"], NOW) is None


def test_slacks_example() -> None:
    """docs.slack.dev/authentication/verifying-requests-from-slack."""
    headers = {
        "X-Slack-Request-Timestamp": "1531420618",
        "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    secret, now = b"8f742231b10e8888abcd99yyyzzz85a5", at(1531420618 + 60)
    assert verify(webhook_of("slack"), arrived(SLACK_BODY, headers), [secret], now) == at(1531420618)


def test_the_example_of_standard_webhooks() -> None:
    """docs.svix.com/receiving/verifying-payloads/how-manual, whose scheme Standard Webhooks is."""
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    request = arrived(b'{"test": 2432232314}', headers)
    assert verify(webhook_of("simulator"), request, [OTHER], at(1614265330)) == at(1614265330)


def test_hubspots_example() -> None:
    """github.com/HubSpot/hubspot-api-python, tests/spec/utils/test_signature.py: the vendor's own client."""
    headers = {
        "X-HubSpot-Request-Timestamp": "15000000",
        "X-HubSpot-Signature-v3": "HPW73RUtKmcYoEDADG0s6MmGFWUzWJKAW07r8RDgcQw=",
    }
    url = "https://www.example.com/webhook_uri"
    request = arrived(b"{'example_field':'example_value'}", headers, url=url)
    secret = b"yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
    assert verify(webhook_of("hubspot"), request, [secret], at(15000)) == at(15000)


def test_hubspot_decodes_twelve_characters_of_an_address_and_no_other() -> None:
    """developers.hubspot.com, "Validating requests": the table under the v3 signature."""
    sent = f"{URL}?q=%3A%2F%3F%40%21%24%27%28%29%2a%2C%3B%20%26"
    read_as = f"{URL}?q=:/?@!$'()*,;%20%26"
    told = str(int(NOW.timestamp()) * 1000)
    digest = hmac.digest(SECRET, f"POST{read_as}".encode() + BODY + told.encode(), "sha256")
    headers = {"X-HubSpot-Request-Timestamp": told, "X-HubSpot-Signature-v3": base64.b64encode(digest).decode()}
    assert verify(webhook_of("hubspot"), arrived(BODY, headers, url=sent), [SECRET], NOW) == NOW


# ── Every scheme ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("provider_id", SENDERS)
def test_what_the_provider_signed_is_taken(provider_id: str) -> None:
    sent_at = verify(webhook_of(provider_id), SENDERS[provider_id](), [SECRET], NOW)
    assert (
        sent_at is None if provider_id in UNTIMED else sent_at is not None and abs(sent_at - NOW) < timedelta(seconds=1)
    )


@pytest.mark.parametrize("provider_id", SENDERS)
def test_every_live_secret_is_tried_and_no_other(provider_id: str) -> None:
    webhook, request = webhook_of(provider_id), SENDERS[provider_id]()
    verify(webhook, request, [OTHER, SECRET], NOW)
    verify(webhook, request, [SECRET, OTHER], NOW)
    assert refused(provider_id, request, OTHER) is Reason.WRONG


@pytest.mark.parametrize("provider_id", SENDERS)
@pytest.mark.parametrize("secrets", [[], [b""]])
def test_without_a_secret_nothing_is_taken(provider_id: str, secrets: list[bytes]) -> None:
    webhook = webhook_of(provider_id)
    # Also not what anybody can sign, with the empty secret.
    request = SENDERS[provider_id](b"")
    with pytest.raises(RefusedError) as caught:
        verify(webhook, request, secrets, NOW)
    assert caught.value.reason is Reason.UNSIGNED


@pytest.mark.parametrize("provider_id", sorted(SENDERS.keys() - {"google-drive", "microsoft"}))
def test_one_other_byte_in_the_body_is_refused(provider_id: str) -> None:
    request = SENDERS[provider_id]()
    for body in (request.body + b" ", request.body.replace(b"changed", b"chanGed"), b""):
        tampered = Arrived(method="POST", url=URL, headers=request.headers, body=body)
        assert refused(provider_id, tampered) is Reason.WRONG


@pytest.mark.parametrize("provider_id", sorted(SENDERS.keys() - UNTIMED))
@pytest.mark.parametrize("sign", [1, -1])
def test_a_time_outside_the_tolerance_is_refused_on_both_sides(provider_id: str, sign: int) -> None:
    webhook, sender = webhook_of(provider_id), SENDERS[provider_id]
    inside = webhook.tolerance - timedelta(seconds=1)
    assert verify(webhook, sender(when=NOW + sign * inside), [SECRET], NOW) is not None
    assert refused(provider_id, sender(when=NOW + sign * (webhook.tolerance + timedelta(seconds=2)))) is Reason.STALE
    # What is both old and not signed is no replay.
    assert refused(provider_id, sender(OTHER, NOW - timedelta(days=1))) is Reason.WRONG


@pytest.mark.parametrize("provider_id", TIMES)
@pytest.mark.parametrize(
    "told", [b"soon", b"1e9", b"-1", b"01", b"1.5", b"9" * 30, b"99999999999999", b"0", "١٢٣".encode(), b"12 34"]
)
def test_what_is_no_time_is_refused(provider_id: str, told: bytes) -> None:
    reason = refused(provider_id, with_header(SENDERS[provider_id](), TIMES[provider_id], told))
    assert reason in {Reason.MALFORMED, Reason.WRONG, Reason.STALE}


@pytest.mark.parametrize("provider_id", SIGNATURES)
def test_a_signature_that_is_missing_doubled_or_none_is_refused_as_that(provider_id: str) -> None:
    name, request = SIGNATURES[provider_id], SENDERS[provider_id]()
    (value,) = (value for key, value in request.headers if key == name.lower().encode())
    assert refused(provider_id, with_header(request, name)) is Reason.MISSING
    assert refused(provider_id, with_header(request, name, b"")) is Reason.MISSING
    assert refused(provider_id, with_header(request, name, b" \t ")) is Reason.MISSING
    assert refused(provider_id, with_header(request, name, value, value)) is Reason.DOUBLED
    assert refused(provider_id, with_header(request, name, value[:-1] + b"\xff")) is Reason.MALFORMED
    assert refused(provider_id, with_header(request, name, value * 200)) is Reason.MALFORMED
    for cut in (value[: len(value) // 2], value[:3], b", , ,=,", value[::-1]):
        assert refused(provider_id, with_header(request, name, cut)) in {Reason.MALFORMED, Reason.WRONG}
    if provider_id != "google-drive":  # a token may have any length
        assert refused(provider_id, with_header(request, name, value[: len(value) // 2])) is Reason.MALFORMED


@pytest.mark.parametrize("provider_id", TIMES)
def test_a_time_that_is_missing_or_doubled_is_refused(provider_id: str) -> None:
    request = SENDERS[provider_id]()
    assert refused(provider_id, with_header(request, TIMES[provider_id])) is Reason.MISSING
    assert refused(provider_id, with_header(request, TIMES[provider_id], b"1", b"2")) is Reason.DOUBLED


def test_of_two_times_in_stripes_header_none_is_believed() -> None:
    request = signed.stripe()
    [(name, value)] = request.headers
    assert refused("stripe", with_header(request, name.decode(), value + b",t=1")) is Reason.MALFORMED
    assert refused("stripe", with_header(request, name.decode(), value.replace(b"t=", b"x="))) is Reason.MALFORMED


@pytest.mark.parametrize("provider_id", SENDERS)
def test_only_a_post_is_a_delivery(provider_id: str) -> None:
    request = SENDERS[provider_id]()
    got = Arrived(method="GET", url=URL, headers=request.headers, body=request.body)
    assert refused(provider_id, got) is Reason.METHOD


@pytest.mark.parametrize("provider_id", SENDERS)
@given(st.data())
def test_whatever_comes_is_taken_or_refused_and_nothing_else(provider_id: str, data: st.DataObject) -> None:
    webhook = webhook_of(provider_id)
    names = [*SIGNATURES.values(), *TIMES.values(), "webhook-id"]
    value = st.binary(max_size=100) | st.from_regex(r"(sha256=|v0=|v1,|t=\d{0,12},v1=)?[0-9a-fA-F]{0,64}").map(
        lambda text: text.encode("utf-8")
    )
    headers = data.draw(st.lists(st.tuples(st.sampled_from(names).map(lambda name: name.lower().encode()), value)))
    body = data.draw(st.binary() | st.just(DEEP) | st.just(b'{"value": [{"clientState": "\\ud800"}]}'))
    url = data.draw(st.text())
    with pytest.raises(RefusedError):
        verify(webhook, Arrived("POST", url, tuple(headers), body), [SECRET], NOW)


# ── What only some have ─────────────────────────────────────────────────────────────────────────────────────────────


def test_one_of_several_signatures_is_enough() -> None:
    """While a secret is rotated, Standard Webhooks and Stripe sign with both, in one header."""
    for provider_id, between in (("simulator", b" "), ("stripe", b",")):
        name = SIGNATURES[provider_id]
        of = [dict(SENDERS[provider_id](secret).headers)[name.lower().encode()] for secret in (OTHER, SECRET)]
        second = of[1].split(b",", 1)[1] if provider_id == "stripe" else of[1]
        request = with_header(SENDERS[provider_id](), name, of[0] + between + second)
        verify(webhook_of(provider_id), request, [SECRET], NOW)
        verify(webhook_of(provider_id), request, [OTHER], NOW)


def test_a_body_that_is_no_text_is_verified_byte_for_byte() -> None:
    for provider_id in ("github", "shopify", "stripe", "tiktok", "slack", "hubspot"):
        verify(webhook_of(provider_id), SENDERS[provider_id](body=b"\xff\x00\xfe"), [SECRET], NOW)
    # Standard Webhooks signs text, so that nothing else is signed.
    assert refused("simulator", signed.simulator(body=b"\xff\x00\xfe")) is Reason.WRONG


def test_a_secret_that_signs_nothing_is_none() -> None:
    for secret in (b"whsec_", b"whsec_!", b"\xff\xff"):
        assert refused("simulator", signed.simulator(), secret) is Reason.UNSIGNED
    verify(webhook_of("simulator"), signed.simulator(), [b"whsec_!", SECRET], NOW)


def test_each_notification_of_microsofts_has_to_tell_its_secret() -> None:
    good = '{"clientState": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"}'
    verify(webhook_of("microsoft"), arrived(f'{{"value": [{good}, {good}]}}'.encode()), [SECRET], NOW)
    wrong = {
        '{"clientState": "another"}': Reason.WRONG,
        '{"clientState": "ä"}': Reason.MALFORMED,
        '{"clientState": 7}': Reason.MISSING,
        "{}": Reason.MISSING,
        "[]": Reason.MISSING,
    }
    for other, reason in wrong.items():
        assert refused("microsoft", arrived(f'{{"value": [{good}, {other}]}}'.encode())) is reason
    for body in (b"", b"{}", b'{"value": []}', b'{"value": {}}', DEEP):
        assert refused("microsoft", arrived(body)) is Reason.MISSING
