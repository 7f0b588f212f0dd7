"""Bringing calls back: what a step's calls say."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.domain.outage import RAMP, Limits, Sample
from integrations.domain.outage_ramp import LONGEST, Judged, above, below, judge, next_wait

LIMITS = Limits()
LONG = LIMITS.step


@pytest.mark.parametrize(
    ("calls", "failing", "lasted", "judged"),
    [
        (10, 0, LONG, Judged.UP),
        (10, 1, LONG, Judged.UP),
        (9, 0, LONG, Judged.STAY),
        (1000, 0, LONG - timedelta(seconds=1), Judged.STAY),
        # Two failures of three are met on a good day.
        (3, 2, LONG, Judged.STAY),
        (20, 3, LONG, Judged.DOWN),
        (20, 3, timedelta(0), Judged.DOWN),
        (6, 3, timedelta(0), Judged.RELAPSE),
        (20, 10, LONG, Judged.RELAPSE),
        # Nobody calls.
        (0, 0, LIMITS.step_quiet, Judged.UP),
        (0, 0, LIMITS.step_quiet - timedelta(seconds=1), Judged.STAY),
        (9, 0, LIMITS.step_quiet, Judged.UP),
        (1, 1, LIMITS.step_quiet * 100, Judged.STAY),
    ],
)
def test_a_step_is_judged_by_its_calls_and_its_time(
    calls: int, failing: int, lasted: timedelta, judged: Judged
) -> None:
    assert judge(Sample(calls=calls, failing=failing), lasted, LIMITS) is judged


@pytest.mark.parametrize(
    ("calls", "whole", "judged"),
    [
        (0, Sample(calls=1, failing=1), Judged.STAY),
        (1, Sample(calls=3, failing=1), Judged.STAY),
        (0, Sample(calls=3, failing=3), Judged.RELAPSE),
        (0, Sample(calls=20, failing=1), Judged.UP),
        # Enough of them were fine since.
        (3, Sample(calls=6, failing=3), Judged.UP),
    ],
)
def test_what_failed_at_its_beginning_counts_where_calls_are_rare(calls: int, whole: Sample, judged: Judged) -> None:
    assert judge(Sample(calls=calls), LIMITS.step_quiet, LIMITS, whole=whole) is judged


@pytest.mark.parametrize(
    ("usual", "failing", "judged"),
    [(100.0, 15, Judged.DOWN), (85.0, 15, Judged.UP), (85.0, 21, Judged.DOWN), (50.0, 52, Judged.UP)],
)
def test_of_a_provider_that_never_did_well_no_more_is_asked(usual: float, failing: int, judged: Judged) -> None:
    assert judge(Sample(calls=100, failing=failing), LONG, LIMITS, usual) is judged


def test_the_steps_are_all_walked_up_and_down() -> None:
    up, down = [percent := above(0)], [100]
    while percent := above(percent or 0):
        up.append(percent)
    while percent := below(down[-1]):
        down.append(percent)

    assert tuple(up) == RAMP
    assert tuple(reversed(down)) == RAMP
    assert above(100) is None
    assert below(RAMP[0]) is None


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 1000))
def test_more_failures_never_lead_higher(calls: int, failing: int, seconds: int) -> None:
    order = [Judged.RELAPSE, Judged.DOWN, Judged.STAY, Judged.UP]
    failing = min(failing, calls)
    lasted = timedelta(seconds=seconds)

    better = judge(Sample(calls=calls + 1, failing=failing), lasted, LIMITS)
    worse = judge(Sample(calls=calls + 1, failing=failing + 1), lasted, LIMITS)

    assert order.index(worse) <= order.index(better)


class TestTheWaitBetweenProbes:
    def test_doubles_up_to_the_longest(self) -> None:
        waits, wait = [], None
        for _ in range(5):
            wait = next_wait(wait, LIMITS)
            waits.append(wait.total_seconds())

        assert waits == [15, 30, 60, 120, 120]

    def test_is_never_shorter_than_what_the_provider_asks_for(self) -> None:
        assert next_wait(None, LIMITS, timedelta(minutes=5)) == timedelta(minutes=5)
        assert next_wait(timedelta(minutes=2), LIMITS, timedelta(seconds=1)) == LIMITS.probe_most

    def test_does_not_believe_everything(self) -> None:
        assert next_wait(None, LIMITS, timedelta(hours=9)) == LONGEST
