import base64
import json
import os

import pytest

from integrations.domain.errors import StopError
from integrations.domain.keyring import Ring, key_of, next_id, parsed, root_of, written


@pytest.fixture
def ring() -> Ring:
    return Ring.of_one("k1", os.urandom(32))


class TestARing:
    def test_keeps_every_key_and_its_root_when_another_one_becomes_current(self, ring: Ring) -> None:
        staged = ring.with_key("k2", os.urandom(32))
        rotated = staged.activated("k2")

        assert (staged.current, staged.staged) == ("k1", ["k2"])
        assert (rotated.current, rotated.staged) == ("k2", [])
        assert rotated.keys["k1"] == ring.keys["k1"]
        assert rotated.root == ring.root

    def test_loses_a_key_only_when_it_is_not_current(self, ring: Ring) -> None:
        rotated = ring.with_key("k2", os.urandom(32)).activated("k2")

        assert list(rotated.without("k1").keys) == ["k2"]
        with pytest.raises(StopError, match="'k2' is the current key"):
            rotated.without("k2")

    def test_seals_with_no_key_that_it_has_not(self, ring: Ring) -> None:
        with pytest.raises(StopError, match="no key 'k9'; it has k1"):
            ring.activated("k9")

    def test_shows_no_key_when_it_is_printed(self, ring: Ring) -> None:
        shown = repr(ring)

        assert "k1" in shown
        assert repr(ring.keys["k1"]) not in shown
        assert repr(ring.root) not in shown

    def test_has_a_root_that_does_not_give_the_key_away(self, ring: Ring) -> None:
        assert ring.root == root_of(ring.keys["k1"])
        assert ring.root != ring.keys["k1"]


class TestANewId:
    @pytest.mark.parametrize(
        ("taken", "fresh"),
        [((), "k1"), (("k1",), "k2"), (("k9", "k10"), "k11"), (("2026-key", "k3x"), "k1"), (("k1", "k3"), "k4")],
    )
    def test_is_above_every_one_that_there_was(self, taken: tuple[str, ...], fresh: str) -> None:
        assert next_id(taken) == fresh


class TestTheFilesText:
    def test_is_read_back_with_its_order(self, ring: Ring) -> None:
        rotated = ring.with_key("k10", os.urandom(32)).with_key("k2", os.urandom(32)).activated("k10")

        again = parsed(written(rotated))

        assert again == rotated
        assert again.staged == ["k2"]

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"current": "k9"}, "current: there is no key 'k9' in it"),
            ({"root": "c2hvcnQ="}, "root: must be 32 bytes in base64"),
            ({"keys": {"k1": "hunter2"}}, "keys.k1: must be 32 bytes in base64"),
            ({"keys": []}, "must be an object of current, root and keys"),
            ({"more": 1}, "must be an object of current, root and keys"),
            ({"keys": {"a b": base64.b64encode(b"k" * 32).decode()}}, "keys: 'a b' is no id"),
        ],
    )
    def test_that_is_wrong_is_refused_by_its_field_and_shows_nothing(
        self, ring: Ring, change: dict[str, object], said: str
    ) -> None:
        text = json.dumps(json.loads(written(ring)) | change)

        with pytest.raises(ValueError, match=said) as refused:
            parsed(text)

        assert "hunter2" not in str(refused.value)
        assert base64.b64encode(ring.keys["k1"]).decode() not in str(refused.value)

    def test_that_was_cut_off_is_no_ring(self, ring: Ring) -> None:
        for size in range(len(written(ring)) - 2):
            with pytest.raises(ValueError, match="is no JSON"):
                parsed(written(ring)[:size])


class TestAKey:
    @pytest.mark.parametrize("text", ["", "hunter2", "=", base64.b64encode(b"k" * 31).decode()])
    def test_is_32_bytes(self, text: str) -> None:
        with pytest.raises(ValueError, match="32 bytes in base64: make one with `openssl rand -base64 32`"):
            key_of(text)
