from datetime import UTC, datetime, timedelta
from typing import Any

from integrations.domain.outage import OURS, Limits
from integrations.domain.outage_look import Group
from integrations.domain.outage_what_if import Episode, Minute, episodes

START = datetime(2026, 11, 30, 3, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def group(calls: int, failing: int, provider_id: str = "simulator", **of: Any) -> Group:
    return Group(provider_id=provider_id, calls=calls, failing=failing, **of)


def minute(number: int, *groups: Group, called: int = 9) -> Minute:
    return Minute(at=START + number * MINUTE, groups=groups, called=called)


def found(*minutes: Minute) -> list[Episode]:
    return episodes(minutes, Limits(), {})


class TestMinutesThatTrip:
    def test_are_one_outage_from_the_first_to_the_end_of_the_last(self) -> None:
        [each] = found(minute(0, group(20, 10)), minute(1, group(40, 40)), minute(2, group(30, 30, endpoint="token")))

        assert (each.since, each.until) == (START, START + 3 * MINUTE)
        assert (each.calls, each.failing) == (90, 80)
        assert each.found_at == START + MINUTE

    def test_are_one_where_it_was_quiet_for_some_between_them(self) -> None:
        assert len(found(minute(0, group(20, 20)), minute(6, group(20, 20)))) == 1

    def test_are_two_where_it_was_quiet_for_long(self) -> None:
        assert len(found(minute(0, group(20, 20)), minute(7, group(20, 20)))) == 2

    def test_are_two_of_two_providers(self) -> None:
        both = minute(0, group(20, 20), group(20, 20, "github"))

        assert {each.provider_id for each in found(both)} == {"simulator", "github"}

    def test_of_most_providers_are_our_own(self) -> None:
        three = [group(20, 20, name) for name in ("simulator", "github", "slack")]

        [each] = found(minute(0, *three, called=4), minute(1, *three[:2], group(20, 20, "stripe"), called=4))

        assert (each.provider_id, each.names) == (OURS, ("github", "simulator", "slack", "stripe"))
        assert len(found(minute(0, *three, called=5))) == 3
