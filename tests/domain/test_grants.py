from hypothesis import given
from hypothesis import strategies as st

from integrations.domain.grants import compare

GRANTS = st.frozensets(st.sampled_from("abcdef"))


class TestAComparison:
    def test_counts_only_what_some_capability_wants(self) -> None:
        change = compare({"a", "b", "x"}, {"a", "c", "y"}, wanted={"a", "b", "c"}, optional=())

        assert (change.gained, change.lost, change.missing) == (("c",), ("b",), ("b",))
        assert (change.kind, change.words) == ("downgraded", "lost b and gained c")

    def test_of_an_optional_loss_misses_nothing(self) -> None:
        change = compare({"a", "b"}, {"a"}, wanted={"a", "b"}, optional={"b"})

        assert (change.lost, change.missing) == (("b",), ())
        assert change.kind == "downgraded"

    def test_of_more_is_an_expansion(self) -> None:
        assert compare({"a"}, {"a", "b"}, wanted={"a", "b"}, optional=()).kind == "expanded"

    @given(GRANTS, GRANTS, GRANTS, GRANTS)
    def test_is_something_exactly_when_a_wanted_grant_came_or_went(
        self, before: frozenset[str], after: frozenset[str], wanted: frozenset[str], optional: frozenset[str]
    ) -> None:
        change = compare(before, after, wanted=wanted, optional=optional)

        assert bool(change) is bool((before ^ after) & wanted)
        assert set(change.missing) == (before - after) & wanted - optional
        assert set(change.gained) == (after - before) & wanted
