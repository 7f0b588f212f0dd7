from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integrations.domain.dispatcher import Dispatcher
from integrations.domain.webhook_page import Broken, Counted, HeldBack, Hour, Page, Waiting
from integrations.domain.webhook_verdict import troubles

NOW = datetime(2026, 11, 30, 12, 30, tzinfo=UTC)
EARLIER = NOW - timedelta(minutes=5)


HELD = HeldBack(
    provider="github", reaction="uninstalled", count=5, since=NOW - timedelta(hours=2), why="one of a surge"
)


def seat(number: int, **changes: Any) -> Dispatcher:
    return Dispatcher(number=number, **({"seen_at": NOW} | changes))


def page(**changes: Any) -> Page:
    return Page(**({"at": NOW, "wish": 2, "dispatchers": [seat(0), seat(1)]} | changes))


def hour(**counted: Any) -> Hour:
    told = {"hour": NOW - timedelta(minutes=30), "provider": "github", "channel": "app"}
    told |= {name: counted.pop(name) for name in list(counted) if name in told}
    return Hour(**told, counted=Counted(**counted))


def said(found: Page) -> list[str]:
    return [trouble.what for trouble in troubles(found)]


def test_a_quiet_page_is_fine() -> None:
    assert said(page(waiting=Waiting(pending=3, oldest=NOW - timedelta(seconds=2), retrying=1))) == []


@pytest.mark.parametrize(
    ("changes", "what", "command"),
    [
        ({"dispatchers": [seat(0, seen_at=EARLIER), seat(1, seen_at=None)]}, "nobody handles", "runbook worker"),
        ({"dispatchers": [seat(0), seat(1, seen_at=EARLIER)]}, "dispatcher 1 has not been seen", "runbook doctor"),
        (
            {"dispatchers": [seat(0), seat(1, errors=3, last_error="no table", last_error_at=NOW)]},
            "dispatcher 1 fails (3 times so far): no table",
            "runbook doctor",
        ),
        (
            {"waiting": Waiting(pending=7, oldest=EARLIER)},
            "the oldest delivery that is due waits for 300 s, 7 in all",
            "runbook webhooks scale 4",
        ),
        (
            {"waiting": Waiting(pending=7, oldest=EARLIER), "wish": 16},
            "the oldest delivery that is due waits for 300 s, 7 in all",
            "runbook webhooks status",
        ),
        (
            {"broken": [Broken(reaction="event", since=EARLIER, cause="Raise: full")]},
            "the handler of 'event' fails as a whole, and one delivery tries for all: Raise: full",
            "runbook webhooks dead --retrying",
        ),
        (
            {"held_back": [HELD]},
            "5 uninstalled of github are held back: one of a surge",
            "runbook tasks list",
        ),
        ({"waiting": Waiting(dead=12, dead_since=EARLIER)}, "12 dead", "runbook webhooks dead"),
        ({"waiting": Waiting(dead=None)}, "many (not counted in time) dead", "runbook webhooks dead"),
        ({"waiting": Waiting(retrying=3, unheard=2)}, "2 retried deliveries are past their lease", "runbook doctor"),
        (
            {"hours": [hour(accepted=2, rejected={"wrong signature": 9, "no signature": 2})]},
            "github/app refused 11 and accepted 2 lately: wrong signature",
            "runbook webhooks audit",
        ),
    ],
)
def test_each_trouble_has_its_command(changes: dict[str, Any], what: str, command: str) -> None:
    [trouble] = troubles(page(**changes))

    assert trouble.what.startswith(what)
    assert trouble.next == command


def test_more_dispatchers_are_no_way_out_while_these_have_trouble_of_their_own() -> None:
    late = Waiting(pending=7, oldest=EARLIER)
    failing = seat(1, errors=1, last_error="no table", last_error_at=NOW)
    for changes in (
        {"broken": [Broken(reaction="event", since=EARLIER, cause="Raise: full")]},
        {"dispatchers": [seat(0), failing]},
        {"dispatchers": [seat(0), seat(1, seen_at=EARLIER)]},
    ):
        assert "runbook webhooks status" in [each.next for each in troubles(page(waiting=late, **changes))]


def test_what_was_held_back_lately_is_no_trouble_yet() -> None:
    assert said(page(held_back=[HELD.model_copy(update={"since": NOW - timedelta(minutes=50)})])) == []


def test_what_waits_because_a_person_wants_it_so_is_no_trouble() -> None:
    assert said(page(held="webhook is paused by ada", held_back=[HELD])) == []
    assert said(page(held="webhook is paused by ada", waiting=Waiting(pending=7, oldest=EARLIER))) == []


@pytest.mark.parametrize(
    "some",
    [
        hour(accepted=20, rejected={"wrong signature": 19}),
        hour(accepted=0, rejected={"wrong signature": 9}),
        hour(provider="(unknown)", channel="(unknown)", rejected={"unknown channel": 1000}),
        hour(hour=NOW - timedelta(hours=3), rejected={"wrong signature": 100}),
    ],
)
def test_few_or_old_or_strangers_refusals_are_none(some: Hour) -> None:
    assert said(page(hours=[some])) == []


def test_a_channels_hours_are_summed() -> None:
    hours = [
        hour(accepted=2, duplicates=1, rejected={"wrong signature": 1}),
        hour(accepted=1, coalesced=1, rejected={"too large": 2}, hour=NOW - timedelta(minutes=90)),
        hour(accepted=50, hour=NOW - timedelta(hours=5)),
    ]

    sums = page(hours=hours).channels(timedelta(hours=2))

    expected = Counted(accepted=3, duplicates=1, coalesced=1, rejected={"too large": 2, "wrong signature": 1})
    assert sums == {("github", "app"): expected}
