from typing import Any

import pytest

from integrations.domain.webhook import SELF_TEST_HEADER
from integrations.domain.webhook_selftest import is_marked, mark

KEY = b"k" * 32
OF = ("github", "app", "delivery-1")


def test_our_own_mark_is_known() -> None:
    assert is_marked(KEY, *OF, {SELF_TEST_HEADER: mark(KEY, *OF)})


@pytest.mark.parametrize("other", [("gitlab", "app", "delivery-1"), ("github", "x", "delivery-1"), (*OF[:2], "2")])
def test_the_mark_of_another_delivery_is_none(other: tuple[str, str, str]) -> None:
    assert not is_marked(KEY, *OF, {SELF_TEST_HEADER: mark(KEY, *other)})


def test_a_mark_made_with_another_key_is_none() -> None:
    assert not is_marked(KEY, *OF, {SELF_TEST_HEADER: mark(b"x" * 32, *OF)})


@pytest.mark.parametrize("told", ["", "ä", "\ud800", None, 1, ["x"], {}])
def test_whatever_else_a_header_holds_is_none(told: Any) -> None:
    assert not is_marked(KEY, *OF, {SELF_TEST_HEADER: told})


def test_a_delivery_without_the_header_is_not_ours() -> None:
    assert not is_marked(KEY, *OF, {})
