from datetime import UTC, datetime, timedelta

import pytest

from integrations.domain.dispatcher import Dispatcher, Owner, listed
from integrations.domain.outbox_health import Rates, forecast
from integrations.domain.outbox_page import Counts, Page, Projection, Reconciled, Stuck
from integrations.domain.outbox_verdict import troubles

SLO = timedelta(seconds=60)
NOW = datetime(2026, 11, 25, 3, tzinfo=UTC)


def said(lag: int, pending: int | None, come: float = 0, go: float = 0, *, drained: bool = True) -> str:
    rates = Rates(seconds=60, arrived=come, settled=go)
    return forecast(timedelta(seconds=lag), SLO, pending, rates, drained=drained).text


class TestAForecast:
    @pytest.mark.parametrize(
        ("lag", "pending", "come", "go", "text"),
        [
            (0, 0, 0, 0, "within the SLO"),
            (60, 40, 100, 100, "within the SLO"),
            (61, 4_000, 20, 100, "back within it in about 40 s at this rate"),
            (300, 20_400, 20, 100, "back within it in about 4 min at this rate"),
            (300, 5_000, 120, 100, "back within it in about 50 s at this rate"),
            (300, 20_000, 120, 80, "not at this rate: 120/s arrive, 80/s go"),
            (300, 10, 0.5, 0, "not at this rate: 0.5/s arrive, 0/s go"),
            (5, 50, 100, 50, "within the SLO"),
            (20, 3_000, 100, 50, "within the SLO, for about 60 s more: 100/s arrive, 50/s go"),
        ],
    )
    def test_tells_whether_and_when_the_lag_is_within_its_objective(
        self, lag: int, pending: int, come: float, go: float, text: str
    ) -> None:
        assert said(lag, pending, come, go) == text

    def test_without_a_dispatcher_is_that_nobody_drains(self) -> None:
        assert said(300, 10, 1, 100, drained=False) == "nobody drains"

    def test_without_a_rate_or_a_count_is_not_known(self) -> None:
        assert said(300, None).startswith("not known yet")
        nothing = forecast(timedelta(seconds=300), SLO, 10, None, drained=True)
        assert (nothing.known, nothing.after) == (False, None)


def healthy(**changes: object) -> Page:
    dispatchers = [
        Dispatcher(
            number=number,
            seen_at=NOW - timedelta(seconds=1),
            owner=Owner(pid=number, application="", wait="", parts=list(range(number, 16, 4))),
        )
        for number in range(4)
    ]
    page = Page(at=NOW, pending=0, wish=4, dispatchers=dispatchers)
    return page.model_copy(update=changes)


def found(**changes: object) -> list[tuple[str, str]]:
    return [(trouble.what, trouble.next) for trouble in troubles(healthy(**changes), SLO)]


def other(number: int, **changes: object) -> list[Dispatcher]:
    """The four, one of them changed."""
    return [each.model_copy(update=changes) if each.number == number else each for each in healthy().dispatchers]


def ago(**time: float) -> datetime:
    return NOW - timedelta(**time)


class TestTrouble:
    def test_is_none_while_all_is_well(self) -> None:
        assert healthy().unowned == []
        assert found() == []

    def test_is_a_lag_over_its_objective_with_the_scale_that_may_help(self) -> None:
        slow = {"pending": 20_000, "oldest": {3: ago(minutes=2)}}

        [(what, scaled)] = found(**slow, rates=Rates(seconds=60, arrived=120, settled=80))
        [(_, waited)] = found(**slow, rates=Rates(seconds=60, arrived=20, settled=500))

        assert what.endswith("120 s old, the SLO is 60 s: not at this rate: 120/s arrive, 80/s go")
        assert (scaled, waited) == ("runbook outbox scale 8", "runbook outbox status")
        assert found(pending=1, oldest={3: ago(seconds=60)}) == []

    def test_is_that_nobody_drains_told_once(self) -> None:
        dispatchers = [each.model_copy(update={"seen_at": ago(seconds=16)}) for each in healthy().dispatchers]

        assert found(dispatchers=dispatchers) == [("nobody drains the outbox; nothing waits yet", "runbook worker")]

    def test_is_a_dispatcher_that_is_not_seen_with_what_is_known_of_it(self) -> None:
        [(frozen, command)] = found(dispatchers=other(1, seen_at=ago(seconds=16)))
        [(never, _)] = found(dispatchers=other(1, seen_at=None, owner=None))

        assert frozen == (
            "dispatcher 1 has not been seen, and session 1 still owns partitions 1, 5, 9, 13: it is frozen"
        )
        assert (never, command) == ("dispatcher 1 has never been seen", "runbook outbox scale 4")

    def test_is_no_dispatcher_that_is_one_too_many(self) -> None:
        assert found(dispatchers=[*healthy().dispatchers, Dispatcher(number=4, wished=False)]) == []

    def test_is_a_loop_that_fails_now_and_not_one_that_once_did(self) -> None:
        failed = {"errors": 7, "last_error": "Postgres: deadlock detected"}

        [(what, _)] = found(dispatchers=other(2, **failed, last_error_at=ago(seconds=20)))

        assert what == "dispatcher 2 fails (7 times so far): Postgres: deadlock detected"
        assert found(dispatchers=other(2, **failed, last_error_at=ago(minutes=2))) == []

    def test_is_a_partition_that_nobody_owns_while_something_waits_there(self) -> None:
        without = other(3, owner=None)

        [(what, command)] = found(dispatchers=without, pending=1, oldest={7: ago(seconds=6)})

        assert (what, command) == (
            "nobody owns partition 7, and events wait there",
            "runbook outbox scale 4",
        )
        assert found(dispatchers=without, pending=1, oldest={7: ago(seconds=4)}) == []

    def test_is_what_is_dead_at_once_and_what_is_retried_after_a_quarter_of_an_hour(self) -> None:
        dead = Projection(projector="activity", dead=3, dead_since=ago(days=1))
        young = Projection(projector="activity", retrying=2, held=5, waiting_since=ago(minutes=14), cause="no")
        old = young.model_copy(update={"waiting_since": ago(minutes=16)})

        assert found(projections=[young]) == []
        assert found(projections=[dead]) == [("activity: 3 dead", "runbook outbox dead")]
        assert found(projections=[old]) == [
            ("activity: 2 retried, 5 held back behind them: no", "runbook outbox dead --retrying")
        ]

    def test_is_a_projector_that_fails_as_a_whole_at_once(self) -> None:
        whole = Projection(projector="activity", retrying=1, held=5000, waiting_since=NOW, cause="no", whole=True)

        assert found(projections=[whole]) == [
            ("activity fails as a whole, 5,000 wait: no", "runbook outbox dead --retrying")
        ]

    def test_is_a_claim_or_a_hold_that_is_stuck(self) -> None:
        [(lease, _), (hold, _)] = found(stuck=Stuck(retrying=2, holds=3))

        assert lease.startswith("2 retried items are past their lease")
        assert hold.startswith("3 holds were released")

    def test_is_any_difference_between_ledger_and_table_with_its_numbers(self) -> None:
        equal = Reconciled(projector="activity", delivered=1000, made=1000)
        less = equal.model_copy(update={"made": 999})
        gap = equal.model_copy(update={"unknown": 2})
        nameless = Reconciled(projector="mine", delivered=7, made=None)

        [(missing, command), (lost, _)] = found(counts=Counts(processing=0, projections=[equal, less, gap, nameless]))

        assert missing == "activity: the ledger says 1,000 delivered, its table has 999 rows"
        assert lost.endswith("and of 2 settled events the ledger knows nothing")
        assert command == "runbook outbox status --differences"


class TestPartitions:
    def test_are_listed_as_short_as_can_be(self) -> None:
        assert listed([7, 0, 1, 2, 3]) == "0-3, 7"
        assert listed([]) == "none"
