import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.domain.outage import Cell, Limits, Scope
from integrations.domain.outage_detection import scope_of, trips

LIMITS = Limits()
Row = tuple[str, str, int, int]
"""Endpoint, tenant, calls, failing."""


def cells(*rows: Row) -> list[Cell]:
    return [Cell(endpoint=at, tenant=of, calls=calls, failing=failing) for at, of, calls, failing in rows]


def many(endpoint: str, count: int, calls: int, failing: int, first: int = 0) -> list[Row]:
    return [(endpoint, f"org:{n}", calls, failing) for n in range(first, first + count)]


class TestAWindow:
    @pytest.mark.parametrize(
        ("calls", "failing", "is_one"),
        [(20, 10, True), (20, 9, False), (19, 19, False), (1000, 499, False), (1000, 500, True), (0, 0, False)],
    )
    def test_trips_with_so_many_calls_and_such_a_share(self, calls: int, failing: int, is_one: bool) -> None:
        assert trips(calls, failing, LIMITS) is is_one


TENANT, ENDPOINT, PROVIDER = Scope.TENANT, Scope.ENDPOINT, Scope.PROVIDER
TABLE: list[tuple[str, list[Row], Scope, tuple[str, ...], Scope | None]] = [
    (
        "everything fails for everybody",
        [*many("token", 5, 4, 4), *many("notes.read", 5, 10, 10)],
        PROVIDER,
        (),
        None,
    ),
    ("one endpoint is all that anybody calls", many("token", 5, 10, 10), PROVIDER, (), ENDPOINT),
    (
        "a tenant fails, and others are fine at the same endpoints",
        [("token", "a", 100, 100), ("token", "b", 20, 0), ("notes.read", "a", 5, 5), ("notes.read", "c", 9, 0)],
        TENANT,
        ("a",),
        None,
    ),
    (
        "a tenant fails, one call of another's too, by chance",
        [("token", "a", 100, 100), ("token", "b", 1, 1), ("token", "c", 100, 0)],
        TENANT,
        ("a",),
        None,
    ),
    (
        "a tenant with most of the calls fails where the others fail too: the endpoint's",
        [("token", "a", 100, 100), ("token", "b", 3, 3), ("notes.read", "a", 50, 0), ("notes.read", "b", 50, 0)],
        ENDPOINT,
        ("token",),
        None,
    ),
    ("nobody else calls: it cannot be told", [("token", "a", 50, 50)], TENANT, ("a",), TENANT),
    (
        "others call other endpoints only: it cannot be told either",
        [("token", "a", 50, 50), ("notes.read", "b", 50, 0)],
        TENANT,
        ("a",),
        TENANT,
    ),
    (
        "a probe with another's connection failed as well",
        [("token", "a", 50, 50), ("token", "b", 1, 1)],
        PROVIDER,
        (),
        ENDPOINT,
    ),
    (
        "probes with two others' were answered",
        [("token", "a", 50, 50), ("token", "b", 1, 0), ("token", "c", 1, 0)],
        TENANT,
        ("a",),
        None,
    ),
    (
        "two tenants of many fail",
        [*many("token", 10, 5, 0), ("token", "a", 20, 20), ("token", "b", 20, 15)],
        TENANT,
        ("a", "b"),
        None,
    ),
    (
        "half of the tenants fail: they have nothing in common but the provider",
        [*many("token", 3, 10, 0), *many("token", 3, 10, 10, first=3)],
        PROVIDER,
        (),
        ENDPOINT,
    ),
    (
        "two tenants fail in an endpoint that answers most calls: theirs, as many as they are",
        [("token", "a", 20, 20), ("token", "b", 20, 20), ("token", "c", 100, 0)],
        TENANT,
        ("a", "b"),
        None,
    ),
    (
        "two endpoints of three",
        [*many("notes.read", 5, 8, 8), *many("notes.write", 5, 8, 8), *many("token", 5, 8, 0)],
        ENDPOINT,
        ("notes.read", "notes.write"),
        None,
    ),
    (
        "an endpoint fails, and a tenant has bad luck at another",
        [*many("notes.read", 5, 8, 8), *many("token", 5, 8, 0), ("token", "org:0", 2, 2)],
        ENDPOINT,
        ("notes.read",),
        None,
    ),
    (
        "half of all calls, spread over everybody",
        [*many("token", 8, 10, 6), *many("notes.read", 8, 10, 5)],
        PROVIDER,
        (),
        None,
    ),
    ("everybody calls once", many("token", 30, 1, 1), PROVIDER, (), ENDPOINT),
    (
        "everybody calls once, and one of them twice",
        [*many("token", 30, 1, 1), ("token", "a", 2, 2)],
        PROVIDER,
        (),
        ENDPOINT,
    ),
]


class TestAMatrix:
    @pytest.mark.parametrize(("rows", "scope", "names", "ask"), [each[1:] for each in TABLE], ids=[e[0] for e in TABLE])
    def test_reaches(self, rows: list[Row], scope: Scope, names: tuple[str, ...], ask: Scope | None) -> None:
        found = scope_of(cells(*rows), LIMITS)

        assert (found.scope, found.names, found.ask) == (scope, names, ask), found.why

    def test_of_a_provider_with_this_one_tenant_is_the_providers(self) -> None:
        found = scope_of(cells(("token", "a", 50, 50)), LIMITS, alone=True)

        assert (found.scope, found.names) == (PROVIDER, ())

    def test_of_a_provider_with_this_one_tenant_is_an_endpoints_where_another_answers(self) -> None:
        found = scope_of(cells(("token", "a", 50, 50), ("notes.read", "a", 50, 0)), LIMITS, alone=True)

        assert (found.scope, found.names) == (ENDPOINT, ("token",))

    def test_counts_small_tenants_together_as_so_many(self) -> None:
        """Nobody of them is named, and their number still says that the two are few."""
        fine = Cell(endpoint="token", tenant="", calls=400, failing=10, tenants=400)
        broken = fine.model_copy(update={"failing": 400})
        two = cells(("token", "a", 100, 100), ("token", "b", 100, 100), ("token", "c", 9, 0))

        assert scope_of([*two, fine], LIMITS).names == ("a", "b")
        assert scope_of([*two, broken], LIMITS).scope is PROVIDER

    def test_names_nobody_who_is_counted_together_with_others(self) -> None:
        small = Cell(endpoint="token", tenant="", calls=20, failing=20, tenants=2)
        busy = cells(("token", "a", 20, 20), ("token", "b", 1000, 30))

        assert scope_of([*busy, small], LIMITS).names == ("a",)

    def test_says_why_in_words_with_its_counts(self) -> None:
        found = scope_of(cells(("token", "a", 100, 100), ("token", "b", 20, 1)), LIMITS)

        assert found.why == "a alone fails at token: of 20 calls of others there (1) 1 failed"

    def test_without_a_call_is_a_mistake(self) -> None:
        with pytest.raises(ValueError, match="without a call"):
            scope_of([], LIMITS)


def cell(endpoints: str = "xyz", tenants: str = "abcd") -> st.SearchStrategy[Cell]:
    counts = st.integers(1, 40).flatmap(lambda calls: st.tuples(st.just(calls), st.integers(0, calls)))
    return st.builds(
        lambda at, of, count: Cell(endpoint=at, tenant=of, calls=count[0], failing=count[1]),
        st.sampled_from(endpoints),
        st.sampled_from(tenants),
        counts,
    )


MATRICES = st.lists(cell(), min_size=1, max_size=12).filter(lambda some: any(each.failing for each in some))
SUCCESSES = st.builds(
    lambda at, of, calls: Cell(endpoint=at, tenant=of, calls=calls, failing=0),
    st.sampled_from("xyzw"),
    st.sampled_from("abcde"),
    st.integers(1, 60),
)


class TestAlways:
    @given(MATRICES.filter(lambda some: any(each.tenant != "a" for each in some)))
    def test_one_tenants_failures_are_never_the_providers(self, some: list[Cell]) -> None:
        theirs = [each if each.tenant == "a" else each.model_copy(update={"failing": 0}) for each in some]
        if not any(each.failing for each in theirs):
            return

        assert scope_of(theirs, LIMITS).names == ("a",)

    @given(MATRICES, st.lists(SUCCESSES, min_size=1, max_size=4))
    def test_successes_of_others_never_make_it_the_providers(self, some: list[Cell], more: list[Cell]) -> None:
        before = scope_of(some, LIMITS)
        of_others = [each for each in more if each.tenant not in before.names]

        after = scope_of([*some, *of_others], LIMITS)

        assert before.scope is PROVIDER or after.scope is not PROVIDER, (before, after)

    @given(MATRICES, st.lists(SUCCESSES, min_size=1, max_size=4))
    def test_successes_of_others_leave_tenants_theirs(self, some: list[Cell], more: list[Cell]) -> None:
        """At one endpoint: at two, what answers now may show that the trouble is another one's."""
        alone = [each.model_copy(update={"endpoint": "x"}) for each in some]
        before = scope_of(alone, LIMITS)
        others = [each.model_copy(update={"endpoint": "x"}) for each in more if each.tenant not in before.names]

        after = scope_of([*alone, *others], LIMITS)

        assert before.scope is not TENANT or (after.scope is TENANT and after.names == before.names)

    @given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("abcd"), st.integers(1, 40)), min_size=2))
    def test_what_fails_for_everybody_everywhere_is_the_providers(self, some: list[tuple[str, str, int]]) -> None:
        if len({tenant for _, tenant, _ in some}) < 2:
            return

        failing = [Cell(endpoint=at, tenant=of, calls=calls, failing=calls) for at, of, calls in some]

        assert scope_of(failing, LIMITS).scope in {PROVIDER, TENANT}
        if sum(1 for each in failing if each.calls > 1) in {0, len(failing)}:
            # No cell may be chance beside the others.
            assert scope_of(failing, LIMITS).scope is PROVIDER

    @given(MATRICES, st.randoms())
    def test_it_does_not_matter_in_which_order_or_parts_calls_are_told(self, some: list[Cell], random: object) -> None:
        parts = [
            part
            for each in some
            for part in (
                each.model_copy(update={"calls": each.failing, "failing": each.failing}),
                each.model_copy(update={"calls": each.calls - each.failing, "failing": 0}),
            )
        ]
        random.shuffle(parts)  # type: ignore[attr-defined]

        assert scope_of(parts, LIMITS) == scope_of(some, LIMITS)
