from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integrations.domain.outage import OURS, Cell, Finding, Limits, Scope
from integrations.domain.outage_look import Group, Suspect, finding, ours, quiet_suspects, suspects

NOW = datetime.now(UTC)
WINDOW = timedelta(seconds=60)
FAMILIES = {"google-docs": "google", "google-drive": "google", "google-gmail": "google"}


def group(calls: int, failing: int, **of: Any) -> Group:
    return Group(**({"provider_id": "simulator", "calls": calls, "failing": failing} | of))


def suspect(provider_id: str = "simulator", **changes: Any) -> Suspect:
    given = {
        "provider_id": provider_id,
        "window": WINDOW,
        "calls": 20,
        "failing": 15,
        "since": NOW - WINDOW,
        "whole": True,
    }
    return Suspect(**(given | changes))


class TestSuspects:
    def test_are_told_by_the_widest_group_that_trips(self) -> None:
        groups = [group(50, 50, endpoint="token"), group(80, 60), group(30, 30, tenant="org:acme")]

        assert suspects(groups, NOW, WINDOW, Limits()) == [suspect(calls=80, failing=60)]

    def test_are_told_as_a_whole_also_where_all_of_it_is_one_parts(self) -> None:
        groups = [group(50, 50, endpoint="token"), group(80, 50), group(50, 50, tenant="org:acme")]

        assert suspects(groups, NOW, WINDOW, Limits()) == [suspect(calls=80, failing=50)]

    def test_may_be_suspected_of_a_part_only(self) -> None:
        groups = [group(1000, 60), group(30, 30, tenant="org:acme"), group(60, 40, endpoint="token")]

        assert suspects(groups, NOW, WINDOW, Limits()) == [suspect(calls=60, failing=40, whole=False)]

    def test_are_two_when_two_providers_are_down(self) -> None:
        found = suspects([group(20, 20), group(20, 20, provider_id="github")], NOW, WINDOW, Limits())

        assert {each.provider_id for each in found} == {"simulator", "github"}

    def test_are_none_below_the_limits(self) -> None:
        assert suspects([group(19, 19), group(40, 19, provider_id="github")], NOW, WINDOW, Limits()) == []


class TestAQuietProvider:
    TAIL = tuple(NOW - n * timedelta(minutes=5) for n in range(5))

    def test_is_suspected_when_its_last_calls_all_failed(self) -> None:
        [found] = quiet_suspects({"simulator": self.TAIL}, set(), Limits())

        assert found == suspect(window=None, calls=5, failing=5, since=self.TAIL[-1])
        assert not found.certain

    @pytest.mark.parametrize(("calls", "busy"), [(4, set()), (5, {"simulator"})], ids=["too few", "not quiet"])
    def test_is_not(self, calls: int, busy: set[str]) -> None:
        assert quiet_suspects({"simulator": self.TAIL[:calls]}, busy, Limits()) == []


class TestAFinding:
    def test_says_what_tripped_and_how_far_it_reaches(self) -> None:
        matrix = [
            Cell(endpoint="token", tenant="org:acme", calls=15, failing=15),
            Cell(endpoint="token", tenant="org:umbrella", calls=5, failing=0),
        ]

        found = finding(suspect(), matrix, Limits())

        assert (found.scope, found.names, found.certain, found.ask) == (Scope.TENANT, ("org:acme",), True, None)
        assert found.why == (
            "15 of 20 calls failed in 60 s: org:acme alone fails at token: of 5 calls of others there (1) 0 failed"
        )

    def test_of_few_calls_is_not_certain(self) -> None:
        matrix = [Cell(endpoint="token", tenant="org:acme", calls=5, failing=5)]

        found = finding(suspect(window=None, calls=5, failing=5), matrix, Limits())

        assert (found.scope, found.certain, found.ask) == (Scope.TENANT, False, Scope.TENANT)


class TestOurs:
    def found(self, failing: str, called: str, **changes: Any) -> Finding | None:
        return ours([suspect(each, **changes) for each in failing.split()], len(called.split()), FAMILIES)

    def test_is_said_once_of_three_that_have_nothing_in_common(self) -> None:
        found = self.found("github slack stripe", "github slack stripe hubspot")

        assert found is not None
        assert (found.provider_id, found.scope, found.names) == (OURS, Scope.OURS, ("github", "slack", "stripe"))
        assert (found.calls, found.failing, found.window) == (60, 45, WINDOW)

    @pytest.mark.parametrize(
        ("failing", "called"),
        [
            ("github slack", "github slack"),
            ("google-docs google-drive google-gmail github", "google-docs google-drive google-gmail github"),
            ("github slack stripe", "github slack stripe hubspot dropbox"),
        ],
        ids=["two", "one vendor and another", "three of five"],
    )
    def test_is_not_said_of(self, failing: str, called: str) -> None:
        assert self.found(failing, called) is None

    def test_is_not_said_of_three_of_which_parts_fail(self) -> None:
        assert self.found("github slack stripe", "github slack stripe", whole=False) is None
