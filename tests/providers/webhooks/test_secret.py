"""Secrets that nothing is signed with are found when they are given."""

import pytest

from integrations.providers import catalog
from integrations.providers.webhooks.secret import trouble_of

CATALOG = catalog.load(host="http://127.0.0.1:9")
SECRET = b"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


@pytest.mark.parametrize(
    ("provider_id", "secret", "can"),
    [
        ("simulator", SECRET, True),
        ("simulator", SECRET.removeprefix(b"whsec_"), True),
        ("simulator", b"whsec_ab", False),
        ("simulator", b"whsec_abcde", False),
        ("simulator", b"whsec_MfKQ9r8GKYqrTwjUPD8I\xc3\xbc", False),
        ("stripe", b"whsec_abcde", True),
        ("simulator", b"correct horse", False),
        ("github", b"correct horse \xff", True),
        ("microsoft", b"s" * 128, True),
        ("microsoft", b"s" * 129, False),
        ("microsoft", "ä".encode(), False),
        ("microsoft", b" edges", False),
        ("microsoft", b"two\nlines", False),
        ("google-drive", b"a token", True),
        ("google-drive", b"s" * 256, True),
        ("google-drive", b"s" * 257, False),
        ("google-drive", "ä".encode(), False),
    ],
)
def test_a_secret_that_no_provider_can_have_is_told_without_it(provider_id: str, secret: bytes, can: bool) -> None:
    webhook = CATALOG.provider(provider_id).webhook
    assert webhook is not None
    said = trouble_of(webhook, secret)
    assert (said == "") is can
    assert secret.decode("latin-1") not in said


@pytest.mark.parametrize("provider_id", [entry.id for entry in CATALOG if entry.webhook is not None])
def test_an_empty_one_is_none_anywhere(provider_id: str) -> None:
    webhook = CATALOG.provider(provider_id).webhook
    assert webhook is not None
    assert trouble_of(webhook, b"")
