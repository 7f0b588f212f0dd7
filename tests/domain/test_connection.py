from itertools import product
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.domain.connection import Status, masked, may_become, reauth_id
from integrations.domain.ledger import PARTITIONS, partition_of

ALLOWED = {
    ("active", "pending_reauth"),
    ("active", "needs_reconsent"),
    ("active", "errored"),
    ("active", "disconnected"),
    ("pending_reauth", "active"),
    ("pending_reauth", "needs_reconsent"),
    ("pending_reauth", "disconnected"),
    ("needs_reconsent", "active"),
    ("needs_reconsent", "pending_reauth"),
    ("needs_reconsent", "disconnected"),
    ("errored", "active"),
    ("errored", "pending_reauth"),
    ("errored", "disconnected"),
    ("disconnected", "active"),
}


class TestTheTransitionTable:
    @pytest.mark.parametrize(("now", "then"), list(product(Status, Status)))
    def test_allows_exactly_what_is_written_down(self, now: Status, then: Status) -> None:
        allowed = may_become(now, then)

        assert allowed is ((now.value, then.value) in ALLOWED)


class TestAPartition:
    @pytest.mark.parametrize(
        ("key", "partition"),
        [
            ("", 0),
            ("a", 3),
            ("org:acme", 11),
            ("00000000-0000-0000-0000-000000000000", 9),
            ("3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11", 15),
        ],
    )
    def test_never_changes_from_one_release_to_the_next(self, key: str, partition: int) -> None:
        assert partition_of(key) == partition

    @given(st.uuids().map(str))
    def test_is_one_of_sixteen(self, key: str) -> None:
        assert PARTITIONS == 16
        assert partition_of(key) in range(16)

    def test_is_shared_out_about_evenly(self) -> None:
        counts = [0] * 16

        for number in range(16_000):
            counts[partition_of(str(UUID(int=number * 7919)))] += 1

        assert min(counts) > 500


class TestAMaskedName:
    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            ("ada@acme.example", "a••@acme.example"),
            ("Ada Lovelace", "A••"),
            ("@acme.example", "••@acme.example"),
            ("", "unknown"),
            (None, "unknown"),
        ],
    )
    def test_shows_enough_for_its_owner(self, name: str | None, shown: str) -> None:
        assert masked(name) == shown

    @given(st.text(min_size=1), st.sampled_from(["", "@acme.example"]))
    def test_keeps_no_more_than_one_letter_of_the_person(self, person: str, host: str) -> None:
        person = person.replace("@", "")

        shown = masked(person + host)

        assert shown == f"{person[:1]}••{host}" or (not person and not host and shown == "unknown")


class TestTheLifecyclesName:
    def test_is_the_one_that_other_peoples_tools_rely_on(self) -> None:
        assert reauth_id("github", UUID(int=1)) == "reauth:github:00000000-0000-0000-0000-000000000001"
