"""Secrets that nothing is signed with are found when they are given."""

import pytest

from integrations.domain.errors import WrongUsageError
from integrations.providers import catalog
from integrations.providers.webhooks.secret import check_secret

CATALOG = catalog.load(host="http://127.0.0.1:9")


def check(provider_id: str, secret: bytes) -> None:
    webhook = CATALOG.provider(provider_id).webhook
    assert webhook is not None
    check_secret(webhook, secret)


@pytest.mark.parametrize(
    "secret", [b"whsec_abcde", b"not base64 at all", b"whsec_", b"whsec_MfKQ9r8GKYqrTwjUPD8I\xc3\xbc", b""]
)
def test_standard_webhooks_wants_base64(secret: bytes) -> None:
    with pytest.raises(WrongUsageError) as refused:
        check("simulator", secret)

    assert "MfKQ" not in str(refused.value)
    assert "abcde" not in str(refused.value)


@pytest.mark.parametrize("provider_id", ["google-drive", "microsoft"])
def test_what_is_sent_back_has_to_survive_that(provider_id: str) -> None:
    check(provider_id, b"a client state")
    for secret in ("größer".encode(), b" edges", b"two\nlines", b""):
        with pytest.raises(WrongUsageError):
            check(provider_id, secret)


@pytest.mark.parametrize(
    ("provider_id", "secret"),
    [
        ("simulator", b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("simulator", b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("stripe", b"whsec_abcde"),
        ("github", "größer".encode()),
    ],
)
def test_every_other_is_a_text_like_any(provider_id: str, secret: bytes) -> None:
    check(provider_id, secret)
