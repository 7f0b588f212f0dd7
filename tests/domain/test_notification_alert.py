from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integrations.domain.notification_alert import EVENT, WEBHOOKS, DeadLetters, alert

NOW = datetime(2026, 11, 25, 20, 30, tzinfo=UTC)


def letters(**changes: Any) -> DeadLetters:
    given = {"channel": "email", "cause": "SMTP 550", "dead": 3, "more": 2, "since": NOW - timedelta(minutes=5)}
    return DeadLetters(**(given | changes))


class TestAnAlert:
    def test_counts_all_and_names_the_worst_causes_first(self) -> None:
        found = [letters(), letters(channel="webhook", cause="HTTP 503", dead=9, more=0)]

        told = alert(found, None, NOW)

        assert told is not None
        assert told.payload["dead"] == 12
        assert told.payload["more"] == 2
        assert [cause["dead"] for cause in told.payload["causes"]] == [9, 3]

    def test_begins_with_the_first_that_died_when_nobody_was_told_before(self) -> None:
        earlier = NOW - timedelta(days=2)

        told = alert([letters(), letters(since=earlier)], None, NOW)

        assert told is not None
        assert told.payload["since"] == earlier.isoformat()

    def test_names_ten_causes_at_most(self) -> None:
        told = alert([letters(cause=f"SMTP {code}") for code in range(500, 530)], None, NOW)

        assert told is not None
        assert (told.payload["dead"], len(told.payload["causes"])) == (90, 10)

    @pytest.mark.parametrize(("minutes", "due"), [(1, False), (59, False), (60, True), (90, True)])
    def test_is_due_an_hour_after_the_last(self, minutes: int, due: bool) -> None:
        assert (alert([letters()], NOW - timedelta(minutes=minutes), NOW) is not None) is due

    def test_is_none_when_nothing_more_is_dead(self) -> None:
        assert alert([letters(more=0)], None, NOW) is None
        assert alert([], None, NOW) is None

    def test_is_the_same_event_for_all_who_decide_it_in_the_same_hour(self) -> None:
        ids = {told.event_id for at in (NOW, NOW + timedelta(minutes=29)) if (told := alert([letters()], None, at))}
        next_hour = alert([letters()], None, NOW + timedelta(minutes=30))

        assert len(ids) == 1
        assert next_hour is not None
        assert next_hour.event_id not in ids

    def test_of_webhooks_is_another_event_in_the_same_hour(self) -> None:
        messages, webhooks = (alert([letters()], None, NOW, event) for event in (EVENT, WEBHOOKS))

        assert messages is not None
        assert webhooks is not None
        assert messages.event_id != webhooks.event_id
        assert alert([letters()], None, NOW + timedelta(minutes=10), WEBHOOKS) == webhooks
