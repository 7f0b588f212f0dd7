"""Is it as it was before?"""

from datetime import UTC, datetime, timedelta

import pytest

from integrations.domain.outage import Baseline, Limits, Success
from integrations.domain.outage_baseline import validated

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
LIMITS = Limits()


def before(refreshes: int = 50, refreshed: int = 50, uses: int = 100, used: int = 100) -> Baseline:
    since = NOW - timedelta(minutes=10)
    return Baseline(since=since, until=NOW, rate=5.0, refreshes=refreshes, refreshed=refreshed, uses=uses, used=used)


def now(refreshes: int = 20, refreshed: int = 20, uses: int = 20, used: int = 20) -> Success:
    return Success(refreshes=refreshes, refreshed=refreshed, uses=uses, used=used)


@pytest.mark.parametrize(
    ("had", "has", "passed"),
    [
        (before(), now(), True),
        # One says nothing of twenty, and two in a hundred are the slack.
        (before(), now(refreshed=19), True),
        (before(), now(refreshed=18), False),
        (before(), now(uses=100, used=98), True),
        (before(), now(uses=100, used=97), False),
        # A provider that did no better before.
        (before(refreshed=40), now(refreshed=16), True),
        (before(refreshed=40), now(refreshed=15), False),
        # What was never called before has to be fine.
        (before(refreshes=0, refreshed=0), now(refreshed=17), False),
        # One that fails alone is all there is.
        (before(), now(uses=1, used=0), False),
        (before(), now(uses=2, used=1), True),
    ],
)
def test_compares_both_with_the_time_before(had: Baseline, has: Success, passed: bool) -> None:
    outcome = validated(had, has, LIMITS, lasted=timedelta(0))

    assert outcome.passed is passed
    assert "connections fine" in outcome.why


def test_too_few_are_waited_for_as_long_as_for_a_quiet_step() -> None:
    few = now(refreshes=0, refreshed=0, uses=3, used=3)

    assert not validated(before(), few, LIMITS, lasted=LIMITS.step_quiet - timedelta(seconds=1)).passed
    assert validated(before(), few, LIMITS, lasted=LIMITS.step_quiet).passed


@pytest.mark.parametrize(("fine", "passed"), [(100, True), (98, True), (97, False), (0, False)])
def test_without_a_baseline_all_have_to_be_fine(fine: int, passed: bool) -> None:
    outcome = validated(None, now(refreshes=100, refreshed=fine), LIMITS, lasted=LIMITS.step_quiet)

    assert outcome.passed is passed
    assert "none before" in outcome.why


def test_of_several_providers_counts_all_of_them() -> None:
    other = before(refreshes=10, refreshed=5).model_copy(update={"until": NOW + timedelta(minutes=1), "usual": 80.0})

    both = before() + other

    assert (both.refreshes, both.refreshed, both.uses, both.used) == (60, 55, 200, 200)
    assert (both.rate, both.usual, both.until - both.since) == (10.0, 80.0, timedelta(minutes=11))
