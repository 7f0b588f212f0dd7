from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from integrations.domain.surge import Counted, Limits, way_out
from integrations.domain.verdict import Meaning

LIMITS = Limits()
REFUSED = st.integers(min_value=0, max_value=10_000)


class TestASurge:
    @given(REFUSED, REFUSED)
    def test_is_both_many_and_a_large_part(self, refused: int, fine: int) -> None:
        counted = Counted(refused=refused, tried=refused + fine)

        assert counted.is_surge(LIMITS) == (refused >= 5 and refused / (refused + fine) >= 0.2)

    @given(REFUSED, REFUSED)
    def test_is_no_less_one_for_another_refusal_and_no_more_for_another_success(self, refused: int, fine: int) -> None:
        now = Counted(refused=refused, tried=refused + fine).is_surge(LIMITS)
        worse = Counted(refused=refused + 1, tried=refused + 1 + fine).is_surge(LIMITS)
        better = Counted(refused=refused, tried=refused + fine + 1).is_surge(LIMITS)

        assert worse >= now >= better

    @given(st.integers(min_value=0, max_value=4), REFUSED)
    def test_is_never_of_four(self, refused: int, fine: int) -> None:
        assert not Counted(refused=refused, tried=refused + fine).is_surge(LIMITS)

    def test_tells_counts_and_the_commonest_answer(self) -> None:
        counted = Counted(refused=1200, tried=3000, answer="401 invalid_client", alike=1100)

        assert counted.words(Limits(window=timedelta(seconds=90))) == (
            "1,200 of 3,000 connections whose refresh was answered in 1.5 min were refused, most often "
            "401 invalid_client (1,100)"
        )


class TestTheWayOut:
    def test_begins_with_what_is_likely_and_ends_with_the_command(self) -> None:
        ours = way_out("simulator", "correct the secret", Meaning.OPERATOR_MUST_ACT)
        theirs = way_out("simulator", "correct the secret", Meaning.OWNER_MUST_ACT)

        assert ours.startswith("if our registration is wrong: correct the secret; if the provider is mistaken")
        assert theirs.startswith("if the provider is mistaken")
        assert ours.endswith("runbook refresh release simulator")
        assert theirs.endswith("runbook refresh release simulator")
