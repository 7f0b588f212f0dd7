from datetime import UTC, datetime, timedelta

import pytest

from integrations.domain.errors import WrongUsageError
from integrations.domain.filters import Filters
from integrations.domain.ledger import ItemStatus
from integrations.domain.replay import Outcome, PlanStatus
from integrations.domain.replay_pace import Budget, read_rate, stages


class TestTheStages:
    @pytest.mark.parametrize(
        ("count", "ends"),
        [
            (1, [1]),
            (2, [1, 2]),
            (10, [1, 10]),
            (11, [1, 10, 11]),
            (1099, [1, 10, 1099]),
            (1100, [1, 10, 11, 1100]),
            (1_000_000, [1, 10, 10_000, 1_000_000]),
        ],
    )
    def test_are_one_ten_a_percent_and_the_rest(self, count: int, ends: list[int]) -> None:
        found = stages(count)

        assert [stage.upto for stage in found] == ends
        assert sum(stage.items for stage in found) == count
        assert [stage.first for stage in found] == [1, *(end + 1 for end in ends[:-1])]

    def test_allow_no_failure_in_the_canaries_and_a_share_after_them(self) -> None:
        assert [Budget().of(stage) for stage in stages(1_000_000)] == [0, 0, 499, 49_500]
        assert [Budget.read("3").of(stage) for stage in stages(1_000_000)] == [0, 0, 3, 3]
        assert [Budget.read("100%").of(stage) for stage in stages(1)] == [0]


class TestABudget:
    @pytest.mark.parametrize(
        ("text", "budget"),
        [
            ("5%", Budget(share=0.05)),
            ("0.1", Budget(share=0.1)),
            ("12.5%", Budget(share=0.125)),
            ("20", Budget(count=20)),
            ("0", Budget(count=0)),
        ],
    )
    def test_is_a_share_or_a_number(self, text: str, budget: Budget) -> None:
        assert Budget.read(text) == budget

    @pytest.mark.parametrize("text", ["", "-1", "101%", "1.5", "many", "5 %"])
    def test_is_refused_otherwise(self, text: str) -> None:
        with pytest.raises(WrongUsageError, match="neither a share"):
            Budget.read(text)


class TestARate:
    def test_is_items_a_second(self) -> None:
        assert [read_rate(text) for text in ("1", "50/s", " 100000/s ")] == [1, 50, 100_000]

    @pytest.mark.parametrize(
        ("text", "answer"),
        [
            ("0", "runbook replays pause"),
            ("-5/s", "runbook replays pause"),
            ("1000000/s", "above the cap of 100,000/s"),
            ("fast", "'fast' is no rate: write 500/s"),
            ("50/m", "is no rate"),
        ],
    )
    def test_is_refused_otherwise(self, text: str, answer: str) -> None:
        with pytest.raises(WrongUsageError, match=answer):
            read_rate(text)


class TestFilters:
    def test_are_echoed_as_options_that_can_be_pasted(self) -> None:
        filters = Filters(
            statuses=(ItemStatus.DEAD, ItemStatus.HELD),
            since=datetime(2026, 11, 25, 12, 0, 5, tzinfo=UTC),
            event_type="reauth.*",
            cause="Raise: it's full",
            limit=5,
        )

        assert str(filters) == (
            "--status dead --status held --event-type 'reauth.*' --cause 'Raise: it'\\''s full' --limit 5 "
            "--since 2026-11-25T12:00:05Z"
        )

    def test_that_cannot_be_meant_are_refused_with_both_times(self) -> None:
        at = datetime(2026, 11, 25, 12, tzinfo=UTC)
        with pytest.raises(WrongUsageError, match=r"2026-11-25 12:00 UTC is not before --until 2026-11-25 11:59 UTC"):
            Filters(since=at, until=at - timedelta(minutes=1)).check()
        with pytest.raises(WrongUsageError, match="no status"):
            Filters(statuses=()).check()


class TestAnOutcome:
    def test_is_good_when_all_is_done_and_nothing_is_dead_again(self) -> None:
        done = Outcome(status=PlanStatus.DONE, count=3, delivered=2, skipped=1)

        assert done.good
        assert not done.model_copy(update={"dead": 1}).good
        assert not done.model_copy(update={"status": PlanStatus.CANCELLED}).good

    def test_tells_what_is_late(self) -> None:
        told = str(Outcome(status=PlanStatus.STOPPED, count=3, dead=1, untouched=2, late=4))

        assert (
            told == "stopped: 0 delivered, 0 skipped, 1 dead again, 2 untouched of 3; 4 more match the filters by now"
        )
