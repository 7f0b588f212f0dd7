from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.domain.quiet_hours import QuietHours
from integrations.domain.reauth import Reminding

BERLIN = QuietHours(zone="Europe/Berlin")
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - naive bounds
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "no/where"])


def utc(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


class TestQuietHours:
    @pytest.mark.parametrize(
        ("at", "then"),
        [
            ("2026-01-15T12:00", "2026-01-15T12:00"),
            ("2026-01-15T18:59", "2026-01-15T18:59"),  # 19:59 in Berlin
            ("2026-01-15T19:00", "2026-01-16T07:00"),
            ("2026-01-15T23:30", "2026-01-16T07:00"),
            ("2026-01-16T06:59", "2026-01-16T07:00"),
            ("2026-01-16T07:00", "2026-01-16T07:00"),
            # The night in which the clocks go forward, and the one in which they go back.
            ("2026-03-28T20:00", "2026-03-29T06:00"),
            ("2026-10-24T19:00", "2026-10-25T07:00"),
        ],
    )
    def test_are_those_of_the_owner(self, at: str, then: str) -> None:
        assert BERLIN.after(utc(at)) == utc(then)

    def test_may_lie_within_one_day_or_be_none_at_all(self) -> None:
        siesta = QuietHours(starts=13, ends=15)

        assert siesta.after(utc("2026-01-15T13:30")) == utc("2026-01-15T15:00")
        assert QuietHours(starts=9, ends=9).after(utc("2026-01-15T09:30")) == utc("2026-01-15T09:30")

    def test_in_a_zone_that_nobody_knows_are_those_of_utc(self) -> None:
        assert QuietHours(zone="Mars/Olympus").after(utc("2026-01-15T21:00")) == utc("2026-01-16T08:00")

    @given(MOMENTS, ZONES)
    def test_are_never_written_into_and_cost_half_a_day_at_most(self, at: datetime, zone: str) -> None:
        then = QuietHours(zone=zone).after(at)

        known = ZoneInfo(zone) if zone != "no/where" else ZoneInfo("UTC")
        assert 8 <= then.astimezone(known).hour < 20
        # Samoa skipped a whole day once.
        assert timedelta(0) <= then - at <= timedelta(hours=13)


class TestReminders:
    def test_come_after_one_three_and_six_days_by_day(self) -> None:
        opened = utc("2026-01-15T22:00")

        times = Reminding().times(opened, opened + timedelta(days=14))

        assert times == (utc("2026-01-17T08:00"), utc("2026-01-19T08:00"), utc("2026-01-22T08:00"))

    def test_end_with_the_deadline_and_fall_together_into_one(self) -> None:
        opened = utc("2026-01-15T12:00")
        pressing = Reminding(after=(timedelta(hours=9), timedelta(hours=10), timedelta(days=3)))

        assert pressing.times(opened, opened + timedelta(days=2)) == (utc("2026-01-16T08:00"),)


class TestReading:
    def test_takes_what_a_person_writes(self) -> None:
        assert QuietHours.read("Europe/Berlin", "22-7") == QuietHours(zone="Europe/Berlin", starts=22, ends=7)

    @pytest.mark.parametrize(
        ("zone", "hours"),
        [("UTC", "22"), ("UTC", "22-24"), ("UTC", "a-b"), ("UTC", "-1-7"), ("Nowhere", "22-7"), ("../etc", "22-7")],
    )
    def test_names_what_is_wrong(self, zone: str, hours: str) -> None:
        with pytest.raises(ValueError, match=r"no hours|no time zone"):
            QuietHours.read(zone, hours)
