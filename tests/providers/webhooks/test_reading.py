import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.domain.webhook import Identity, Notice, Reaction
from integrations.providers.entry import Webhook
from integrations.providers.webhooks.arrived import Arrived, Told
from integrations.providers.webhooks.reading import read
from tests.providers.webhooks.requests import DEEP, NOW, URL, arrived

ENTRY = Webhook(
    scheme="hmac-sha256",
    header="X-Acme-Signature",
    delivery_id=("X-Acme-Delivery", "body:id"),
    event=("X-Acme-Event+body:action", "X-Acme-Event"),
    account=("body:account.id",),
    resource=("X-Acme-Channel", "body:thing"),
    reactions={"app.removed": Reaction.UNINSTALLED},
)


def told(body: Any = None, webhook: Webhook = ENTRY, **headers: str) -> Told:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read(webhook, arrived(raw, {name.replace("_", "-"): value for name, value in headers.items()}), NOW)


def test_each_lies_where_the_entry_says() -> None:
    found = told({"action": "added", "account": {"id": 42}, "thing": 7}, X_Acme_Delivery=" d-1 ", X_Acme_Event="app")
    assert (found.delivery_id, found.identity, found.event, found.account) == ("d-1", Identity.ID, "app.added", "42")
    assert found.sent_at == NOW


def test_the_best_place_that_says_something_counts() -> None:
    assert told({"id": "b-1"}).delivery_id == "b-1"
    assert told({"id": "b-1"}, X_Acme_Delivery=" ", X_Acme_Event="ping").delivery_id == "b-1"
    assert told({}, X_Acme_Event="ping").event == "ping", "a part that is missing leaves the next place to say it"


def test_without_an_id_the_body_is_the_identity_and_never_the_signature() -> None:
    """W23."""
    first = told({"a": 1}, X_Acme_Signature="one")
    assert first.delivery_id == "body:" + hashlib.sha256(b'{"a": 1}').hexdigest()
    assert first.identity is Identity.DIGEST
    assert told({"a": 1}, X_Acme_Signature="two").delivery_id == first.delivery_id
    assert told({"a": 2}, X_Acme_Signature="one").delivery_id != first.delivery_id


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([{"events": []}, {"events": [{}, {"id": 7}]}, {"events": [{"id": 8}]}], "7"),
        ([{"events": 5}], ""),
        ({"0": {"events": [{"id": 7}]}}, ""),
        ([], ""),
    ],
)
def test_a_star_is_the_first_of_a_list_that_says_something(body: Any, said: str) -> None:
    assert told({"all": body}, ENTRY.model_copy(update={"account": ("body:all.*.events.*.id",)})).account == said


def test_a_star_may_stand_for_the_whole_body() -> None:
    webhook = ENTRY.model_copy(update={"account": ("body:*.account",)})
    assert told([{}, {"account": 7}], webhook).account == "7"
    assert told({"account": 7}, webhook).account == ""


@pytest.mark.parametrize("odd", ["a\0b", "a\nb", "\ud800", "é" * 201, "x" * 10_000, "\x80"])
def test_an_odd_id_is_told_by_its_digest(odd: str) -> None:
    found = told({"id": odd}).delivery_id
    assert found.startswith("sha256:")
    assert found != told({"id": odd + "x"}).delivery_id


def test_a_header_that_comes_twice_says_nothing() -> None:
    headers = ((b"x-acme-delivery", b"1"), (b"x-acme-delivery", b"2"))
    assert read(ENTRY, Arrived("POST", URL, headers, b"{}"), None).identity is Identity.DIGEST


@pytest.mark.parametrize("value", [None, True, 1.5, [], {}, {"id": 1}, ""])
def test_what_is_no_text_or_whole_number_says_nothing(value: Any) -> None:
    assert told({"id": value}).identity is Identity.DIGEST


EACH = ENTRY.model_copy(
    update={"each": ("body:all.*.parts.*", "body:*"), "event": ("item:kind",), "account": ("item:who",)}
)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"all": [{"who": "a", "parts": [{"kind": "x"}, {"kind": "y", "who": "b"}]}]}, [("x", "a"), ("y", "b")]),
        ({"all": [{"who": "a", "kind": "z"}, {"who": "b", "parts": [{"kind": "x"}]}]}, [("z", "a"), ("x", "b")]),
        ([{"kind": "x", "who": "a"}], [("x", "a")]),
        ({"kind": "x", "all": []}, [("", "")]),
        ({"all": [5, None, [], {"parts": 5, "who": "a"}]}, [("", ""), ("", "a")]),
        (b"[[[", [("", "")]),
    ],
)
def test_each_notification_is_read_with_what_it_lies_in(body: Any, said: list[tuple[str, str]]) -> None:
    found = told(body, EACH)
    notices = found.notices or (Notice(found.reaction, found.event, found.account),)
    assert [(notice.event, notice.account) for notice in notices] == said


def test_the_gravest_are_never_cut_off() -> None:
    body = [{"kind": "x", "who": n} for n in range(3000)] + [{"kind": "app.removed", "who": "last"}]
    found = told(body, EACH)
    assert len(found.notices) == 1000
    assert found.notices[0] == (Reaction.UNINSTALLED, "app.removed", "last")


@pytest.mark.parametrize(
    "wrong", [{"account": ["item:id"]}, {"each": ["body:entry"]}, {"each": ["X-Header"]}, {"occurred": ["X-Time"]}]
)
def test_an_entry_that_says_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"needs each|no place of lists|not signed"):
        Webhook(scheme="hmac-sha256", header="X-Acme", **wrong)


def test_a_resource_is_told_by_all_its_places_and_by_no_reaction() -> None:
    assert told({"thing": "t"}, X_Acme_Channel="c", X_Acme_Event="app").resource == '["c", "t"]'
    assert told({"thing": "t"}, X_Acme_Event="app").resource == ""
    assert told({"action": "removed", "thing": "t"}, X_Acme_Channel="c", X_Acme_Event="app").resource == ""
    one_place = ENTRY.model_copy(update={"resource": ("body:thing",)})
    assert told({"thing": "t"}, one_place).resource == "t"
    # Two resources are never one, whatever their parts hold.
    assert told({"thing": '", "'}, X_Acme_Channel="a").resource != told({"thing": '"'}, X_Acme_Channel='a", "').resource


HUGE = [DEEP, b'{"id": ' + b"9" * 5000 + b"}", b'{"id": "\\u0000"}', b"\xff\xfe\x00", b"\x00" * 1000, b""]


@given(st.binary() | st.sampled_from(HUGE), st.lists(st.tuples(st.just(b"x-acme-delivery"), st.binary())))
def test_whatever_comes_is_text_that_postgres_takes(body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    found = read(ENTRY, Arrived("POST", URL, tuple(headers), body), None)
    assert found.delivery_id
    for text in (found.delivery_id, found.event, found.account, found.resource):
        assert len(text) <= 200
        assert text.isprintable()
        text.encode()


def test_an_id_is_one_id_however_large_the_rest() -> None:
    request = arrived(b'{"id": "b-1", "more": ' + b"[" * 500 + b"]" * 500 + b"}")
    assert read(ENTRY, request, None) == replace(read(ENTRY, request, NOW), sent_at=None)
