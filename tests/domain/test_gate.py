from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.domain.connection import Status
from integrations.domain.gate import Access, Answer, Decision, Purpose, decide

# As in the gate's docstring: grants there; read, grants gone; write, grants gone.
TABLE = {
    "active": ("allowed", "blocked", "blocked"),
    "pending_reauth": ("allowed", "degraded", "blocked"),
    "needs_reconsent": ("allowed", "blocked", "blocked"),
    "errored": ("degraded", "degraded", "blocked"),
    "disconnected": ("blocked", "blocked", "blocked"),
}
GRANTS = st.frozensets(st.sampled_from(["profile", "notes.read", "notes.write", "files"]))
SIX_WAYS = list(product(Status, Access, [True, False]))


def by_the_table(status: Status, access: Access, *, gone: bool) -> str:
    there, read_gone, write_gone = TABLE[status]
    if not gone:
        return there
    return read_gone if access is Access.READ else write_gone


def asked(
    status: Status, access: Access, *, requires: set[str], granted: set[str], optional: set[str] | None = None
) -> Decision:
    return decide(
        Purpose.USE,
        status,
        access,
        requires=frozenset(requires),
        optional=frozenset(optional or ()),
        granted=frozenset(granted),
    )


class TestUsingAConnection:
    @pytest.mark.parametrize(("status", "access", "gone"), SIX_WAYS)
    def test_is_answered_by_the_table(self, status: Status, access: Access, gone: bool) -> None:
        decision = asked(status, access, requires={"notes"}, granted=set() if gone else {"notes"})

        assert decision.answer == by_the_table(status, access, gone=gone)
        assert decision.may_go is (decision.answer != "blocked")

    @pytest.mark.parametrize(("status", "access", "gone"), SIX_WAYS)
    def test_is_degraded_and_never_blocked_by_an_optional_grant(
        self, status: Status, access: Access, gone: bool
    ) -> None:
        granted = set() if gone else {"notes"}

        decision = asked(status, access, requires={"notes"}, optional={"files"}, granted=granted)

        expected = by_the_table(status, access, gone=gone)
        assert decision.answer == ("degraded" if expected == "allowed" else expected)
        assert decision.missing[-1] == "files"

    @given(st.sampled_from(Status), st.sampled_from(Access), GRANTS, GRANTS, GRANTS)
    def test_follows_the_table_and_names_what_is_missing_whatever_the_grants(
        self,
        status: Status,
        access: Access,
        requires: frozenset[str],
        optional: frozenset[str],
        granted: frozenset[str],
    ) -> None:
        decision = asked(status, access, requires=set(requires), optional=set(optional), granted=set(granted))

        expected = by_the_table(status, access, gone=bool(requires - granted))
        if expected == "allowed" and optional - granted:
            expected = "degraded"
        assert decision.answer == expected
        assert set(decision.missing) == (requires | optional) - granted
        assert set(decision.missing[: len(requires - granted)]) == requires - granted
        assert all(name in decision.reason for name in decision.missing)

    def test_that_is_refused_says_the_status_and_the_grant(self) -> None:
        decision = asked(Status.PENDING_REAUTH, Access.WRITE, requires={"notes.write"}, granted={"profile"})

        assert decision.reason == "the connection is pending_reauth; missing grants: notes.write"


class TestRepairingAConnection:
    @given(st.sampled_from([p for p in Purpose if p is not Purpose.USE]), st.sampled_from(Status), GRANTS)
    def test_is_never_subject_to_its_status(self, purpose: Purpose, status: Status, granted: frozenset[str]) -> None:
        decision = decide(
            purpose, status, Access.WRITE, requires=frozenset({"notes"}), optional=frozenset(), granted=granted
        )

        assert decision.answer is Answer.ALLOWED
