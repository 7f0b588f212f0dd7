"""The ramp, drawn: by pencil and paper."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from integrations.domain.outage import Scope, Step
from integrations.domain.outage_chart import COLUMNS, chart, levels
from integrations.domain.outage_page import Explained, Note, Standing, Traffic
from integrations.domain.outage_words import listed, reach, title

AT = datetime(2026, 11, 25, 20, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def explained(
    *steps: tuple[int, int], traffic: tuple[Traffic, ...] | None = (), closed: datetime | None = None
) -> Explained:
    """An hour, a column a minute. Steps: the minute, and the per cent that is let through from then on."""
    standing = Standing(
        outage=UUID(int=1),
        provider="simulator",
        scope=Scope.PROVIDER,
        names=(),
        step=Step.RAMP,
        since=AT,
        by="outage-detector",
        reason="48 of 50 calls failed",
        observed=False,
        why_not=None,
        percent=None,
        rate=None,
        relapses=0,
        parked=0,
        done=0,
        brakes=0,
        lease_until=None,
        seen_at=AT,
        ended=None,
        closed_at=closed,
        closed_by=None,
        closed_reason=None,
    )
    notes = tuple(
        Note(at=AT + MINUTE * minute, step=Step.RAMP, what="a step", percent=percent, rate=None, facts={})
        for minute, percent in steps
    )
    return Explained(
        standing=standing,
        finding=None,
        baseline=None,
        timeline=notes,
        journal=(),
        parked={},
        start=AT,
        end=AT + MINUTE * COLUMNS,
        traffic=traffic,
        now=AT,
    )


class TestTheLevels:
    def test_are_what_was_let_through_at_the_end_of_a_column(self) -> None:
        steps = [(AT + MINUTE * 1.5, 0), (AT + MINUTE * 3, 5)]

        assert levels(steps, AT, AT + MINUTE * 5, 5) == [100, 0, 5, 5, 5]

    def test_are_the_last_of_several_in_one_column(self) -> None:
        steps = [(AT + MINUTE * 0.2, 0), (AT + MINUTE * 0.4, 5), (AT + MINUTE * 0.6, 10)]

        assert levels(steps, AT, AT + MINUTE * 2, 2) == [10, 10]


class TestTheChart:
    def test_goes_up_in_steps(self) -> None:
        drawn = chart(explained((10, 0), (20, 5), (25, 10), (30, 25), (35, 50), (40, 100)))

        assert [line.count("█") for line in drawn] == [10 + 20, 10 + 25, 10 + 30, 10 + 35, 10 + 40, 0, 0]
        assert drawn[0].startswith("   100 %  ██")
        assert drawn[4].startswith("     5 %  ██")
        assert drawn[-1].split() == ["20:00:00", "21:00:00", "UTC"]
        assert drawn[-1].index("21:00:00") == 10 + COLUMNS - len("21:00:00 UTC")
        assert all(len(line) <= 100 for line in drawn)

    def test_is_full_again_when_it_is_closed(self) -> None:
        drawn = chart(explained((10, 0), closed=AT + MINUTE * 50))

        assert drawn[0].count("█") == 20

    def test_has_the_calls_beneath(self) -> None:
        busy = tuple(
            Traffic(column=column, calls=120 if column < 10 else 1, failing=column // 9) for column in range(11)
        )
        calls, failing, axis = chart(explained(traffic=busy))

        assert calls == f"   calls  {'█' * 10}▁{' ' * 49}  at most 2/s"
        assert failing == f" failing  {' ' * 9}▁▁{' ' * 49}  2 of 1,201"
        assert "20:00:00" in axis

    @pytest.mark.parametrize("traffic", [(), None])
    def test_is_none_where_nothing_is_known(self, traffic: tuple[Traffic, ...] | None) -> None:
        assert chart(explained(traffic=traffic)) == []


class TestTheWords:
    @pytest.mark.parametrize(
        ("scope", "names", "reached", "titled"),
        [
            (Scope.PROVIDER, [], "the whole provider", "Simulator is down"),
            (Scope.ENDPOINT, ["token"], "the endpoint token", "Simulator is down: the endpoint token"),
            (Scope.ENDPOINT, ["a", "b"], "the endpoints a, b", "Simulator is down: the endpoints a, b"),
            (
                Scope.ENDPOINT,
                ["notes.read", "org:acme"],
                "the endpoint notes.read; org:acme",
                "Simulator is down: the endpoint notes.read; org:acme",
            ),
            (Scope.TENANT, ["org:acme"], "org:acme alone", "Simulator fails for org:acme alone"),
            (
                Scope.OURS,
                ["a", "b"],
                "our own way out, seen at a, b",
                "a, b fail at once: it is our own way out",
            ),
        ],
    )
    def test_say_how_far_it_reaches(self, scope: Scope, names: list[str], reached: str, titled: str) -> None:
        assert (reach(scope, names), title("Simulator", scope, names)) == (reached, titled)

    def test_name_three(self) -> None:
        assert (listed(["a", "b", "c"]), listed(["a", "b", "c", "d", "e"])) == ("a, b, c", "a, b, c and 2 more")
