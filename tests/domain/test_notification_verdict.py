from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from integrations.domain.dispatcher import Dispatcher, Workflow
from integrations.domain.notification import CHANNELS
from integrations.domain.notification_page import ChannelLook, Out, Page
from integrations.domain.notification_verdict import NOBODY_YET, troubles

SLO = timedelta(minutes=15)
NOW = datetime(2026, 11, 25, 3, tzinfo=UTC)


def ago(**time: float) -> datetime:
    return NOW - timedelta(**time)


def look(channel: str, **changes: Any) -> ChannelLook:
    dispatcher = Dispatcher(number=CHANNELS.index(channel), seen_at=ago(seconds=1))
    return ChannelLook(channel=channel, addresses=1, dispatcher=dispatcher).model_copy(update=changes)


def found(email: dict[str, Any] | None = None, **changes: Any) -> list[tuple[str, str]]:
    """What is said of a page on which all is well, but for these."""
    channels = [look(channel, **(email or {} if channel == "email" else {})) for channel in CHANNELS]
    page = Page(at=NOW, channels=channels).model_copy(update=changes)
    return [(trouble.what, trouble.next) for trouble in troubles(page, SLO)]


def seat(**changes: Any) -> dict[str, Any]:
    return {"dispatcher": look("email").dispatcher.model_copy(update=changes)}


class TestTrouble:
    def test_is_none_while_all_is_well(self) -> None:
        assert found() == []
        assert found({"pending": 5, "later": 7, "on_the_way": 3, "retrying": 2, "oldest": ago(minutes=15)}) == []

    def test_is_what_is_dead_and_how_fast_it_grows(self) -> None:
        assert found({"dead": 1200, "dead_last_hour": 7, "dead_since": ago(days=1)}) == [
            ("email: 1,200 dead, 7 of them in the last hour", "runbook notifications dead")
        ]
        [(uncounted, _)] = found({"dead": None, "dead_last_hour": None})
        assert uncounted.startswith("email: many (not counted in time) dead")

    def test_is_an_origin_that_is_out_with_what_tries_for_all(self) -> None:
        item = UUID(int=7)
        out = Out(
            channel="email",
            origin="mail.acme.example:25",
            since=ago(minutes=1),
            waiting=9980,
            cause="SMTP 451",
            item_id=item,
            workflow_id=f"notification:invitation:{item}",
        )

        assert found(out=[out]) == [
            (
                f"email: mail.acme.example:25 is out, 9,980 wait for notification:invitation:{item}: SMTP 451",
                "runbook notifications dead --retrying",
            )
        ]

    def test_is_what_waits_for_longer_than_it_may(self) -> None:
        [(late, command)] = found({"pending": 4, "oldest": ago(minutes=16)})
        [(unexpanded, _)] = found(requests=3, requested=ago(hours=1))

        assert late == "4 messages wait for email, the oldest for 960 s; the SLO is 900 s"
        assert unexpanded == "3 events wait to be told, the oldest for 3,600 s; the SLO is 900 s"
        assert command == "runbook notifications status"

    def test_is_that_nobody_sends_told_once(self) -> None:
        channels = [look(each, **seat(seen_at=ago(seconds=16))) for each in CHANNELS]

        assert found(channels=channels) == [("nobody sends notifications; nothing waits yet", "runbook worker")]

    def test_is_a_dispatcher_that_is_not_heard_of_with_what_is_known(self) -> None:
        [(silent, command)] = found(seat(seen_at=ago(seconds=16)))
        [(ended, _)] = found(seat(seen_at=None, workflow=Workflow(state="terminated")))
        [(failing, _)] = found(seat(seen_at=None, workflow=Workflow(state="running", attempt=7, failure="no")))

        assert (silent, command) == ("the dispatcher of email has not been seen", "runbook doctor")
        assert ended == (
            "the dispatcher of email has never been seen; notification-dispatch:email is terminated: reconcile "
            "starts it within a minute"
        )
        assert failing == "the dispatcher of email has never been seen; attempt 7: no"

    def test_is_a_loop_that_fails_now_and_not_one_that_once_did(self) -> None:
        failed = {"errors": 7, "last_error": "Postgres: deadlock detected"}

        assert found(seat(**failed, last_error_at=ago(seconds=20))) == [
            ("the dispatcher of email fails (7 times so far): Postgres: deadlock detected", "runbook doctor")
        ]
        assert found(seat(**failed, last_error_at=ago(minutes=2))) == []

    def test_is_a_channel_that_people_are_reached_by_and_that_cannot_send(self) -> None:
        lacks = "RUNBOOK_SMTP_URL is not set: smtp://user:password@host:587, or smtps://…"

        assert found({"unready": lacks}) == [(f"email cannot send, and 1 are reached by it: {lacks}", "runbook doctor")]
        assert found({"unready": lacks, "addresses": 0}) == []

    def test_is_what_reached_nobody_once_there_is_anybody(self) -> None:
        assert found(nobody=3, nobody_since=ago(hours=2)) == [("3 reached nobody", "runbook notifications dead")]

    @pytest.mark.parametrize("nobody", [0, 3])
    def test_is_not_that_nobody_is_to_be_told_anything_yet(self, nobody: int) -> None:
        channels = [look(each, addresses=0) for each in CHANNELS]

        assert found(channels=channels, nobody=nobody) == []
        assert NOBODY_YET == ("Nobody is told anything yet: runbook contacts add operators.primary email ADDRESS")
