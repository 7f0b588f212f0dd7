import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from integrations.db import calls, outage_counts
from integrations.db.session import Sessions
from integrations.domain.call import Caller, ProviderCall
from integrations.domain.gate import Purpose
from integrations.domain.outage import Baseline, Cell
from integrations.domain.verdict import Meaning

NOW = datetime.now(UTC).replace(microsecond=0)
NUMBERS = itertools.count(1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


def made(ago: timedelta, outcome: Meaning = Meaning.OK, tenant: str = "org:acme", **changes: Any) -> calls.Numbered:
    """A refresh at the simulator, so long before NOW."""
    purpose = changes.pop("purpose", Purpose.REFRESH)
    given: dict[str, Any] = {
        "caller": Caller(tenant=tenant, connection_id=uuid4(), purpose=purpose, attempt=1),
        "provider_id": "simulator",
        "endpoint": "token",
        "outcome": outcome,
        "rule": "a-rule",
        "status": 200,
        "duration_ms": 12,
        "at": NOW - ago,
    }
    return next(NUMBERS), ProviderCall(**(given | changes))


async def add(sessions: Sessions, *some: calls.Numbered) -> None:
    async with sessions.begin() as session:
        await calls.add(session, some)


async def matrix(sessions: Sessions) -> list[Cell]:
    async with sessions.begin() as session:
        return await outage_counts.matrix(session, "simulator", NOW - MINUTE)


async def since(sessions: Sessions) -> list[Cell]:
    async with sessions.begin() as session:
        return await outage_counts.since(session, "simulator", NOW - MINUTE)


async def baseline(sessions: Sessions) -> Baseline:
    async with sessions.begin() as session:
        return await outage_counts.baseline(session, "simulator", NOW)


class TestAMatrix:
    async def test_counts_what_is_nobodys_to_mend_as_failing(self, sessions: Sessions) -> None:
        await add(sessions, *(made(SECOND, meaning) for meaning in Meaning), made(SECOND, endpoint="identity"))

        assert await since(sessions) == [
            Cell(endpoint="token", tenant="org:acme", calls=7, failing=3),
            Cell(endpoint="identity", tenant="org:acme", calls=1, failing=0),
        ]

    async def test_is_of_that_provider_since_that_moment(self, sessions: Sessions) -> None:
        await add(sessions, made(MINUTE), made(MINUTE + SECOND), made(SECOND, provider_id="github"))

        assert await matrix(sessions) == [Cell(endpoint="token", tenant="org:acme", calls=1, failing=0)]

    async def test_counts_small_parts_of_the_trouble_together(
        self, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outage_counts, "WORST", 1)
        small = [made(SECOND, Meaning.OUTAGE if n < 2 else Meaning.OK, f"org:{n}") for n in range(5)]
        await add(sessions, *(made(2 * SECOND, Meaning.OUTAGE) for _ in range(3)), *small)

        worst, others = await matrix(sessions)

        assert worst == Cell(endpoint="token", tenant="org:acme", calls=3, failing=3)
        assert others == Cell(endpoint="token", tenant="", calls=5, failing=2, tenants=5)
        assert others.who == "5 others"

    async def test_names_who_fails_before_who_is_busy(
        self, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outage_counts, "WORST", 1)
        busy = [made(SECOND, Meaning.OUTAGE if n < 30 else Meaning.OK, "org:busy") for n in range(300)]
        await add(sessions, *busy, *(made(2 * SECOND, Meaning.OUTAGE, "org:broken") for _ in range(20)))

        assert {each.tenant: each.failing for each in await matrix(sessions)} == {"": 30, "org:broken": 20}

    @pytest.mark.parametrize("of", [{}, {"endpoint": "notes.read"}, {"tenant": "org:umbrella"}], ids=str)
    async def test_begins_with_the_trouble_whosever_it_is(self, sessions: Sessions, of: dict[str, Any]) -> None:
        """What went well before the first failing call, and a time-out of long ago, say nothing of now."""
        for ago in range(59, 0, -1):
            failing = Meaning.OUTAGE if ago <= 20 or ago == 55 else Meaning.OK
            fine = [made(ago * SECOND) for _ in range(9)] if of or ago > 20 else []
            await add(sessions, *fine, made(ago * SECOND, failing, **of))

        [worst, *others] = await matrix(sessions)

        assert (worst.calls, worst.failing) == (20, 20)
        assert sum(each.calls for each in others) == (180 if of else 0)

    async def test_since_a_moment_names_everybody_from_then_on(self, sessions: Sessions) -> None:
        await add(sessions, *(made(SECOND, Meaning.OUTAGE, tenant=f"org:{n}") for n in range(60)), made(30 * SECOND))

        found = await since(sessions)

        assert len({each.tenant for each in found}) == 61


class TestABaseline:
    async def test_is_of_the_ten_minutes_before_the_first_failing_call(self, sessions: Sessions) -> None:
        began = timedelta(minutes=5)
        healthy = [made(began + n * 10 * SECOND) for n in range(1, 61)]
        used = [made(began + n * MINUTE, purpose=Purpose.USE, endpoint="notes.read") for n in range(1, 5)]
        refused = made(began + SECOND, Meaning.OWNER_MUST_ACT)
        failing = [made(n * 10 * SECOND, Meaning.OUTAGE) for n in range(1, 31)]
        await add(sessions, *healthy, *used, refused, *failing, made(timedelta(minutes=16)))

        found = await baseline(sessions)

        assert (found.since, found.until) == (NOW - timedelta(minutes=15), NOW - began)
        # A refusal is an answer.
        assert (found.refreshes, found.refreshed, found.uses, found.used) == (61, 61, 4, 4)

    async def test_rate_is_the_busiest_minutes(self, sessions: Sessions) -> None:
        """A sweep comes once a minute or seldomer: the provider took all of it."""
        burst = [made(timedelta(minutes=4, seconds=5) + n * SECOND / 4) for n in range(60)]
        await add(sessions, *burst, *(made(n * MINUTE) for n in range(2, 9)), made(SECOND, Meaning.OUTAGE))

        assert (await baseline(sessions)).rate == pytest.approx(61 / 60)

    @pytest.mark.parametrize(("seconds", "rate"), [(20, 3.0), (4, 1.2), (60, 3.0)])
    async def test_of_a_platform_that_is_new_is_what_there_was(
        self, sessions: Sessions, seconds: int, rate: float
    ) -> None:
        """Three calls a second, for so long."""
        await add(sessions, *(made(MINUTE + (n + 1) * SECOND / 3) for n in range(3 * seconds)))
        await add(sessions, *(made(n * SECOND, Meaning.OUTAGE) for n in range(60)), made(MINUTE, Meaning.OUTAGE))

        assert (await baseline(sessions)).rate == pytest.approx(rate, rel=0.02)

    async def test_looks_at_a_longer_time_where_calls_are_rare(self, sessions: Sessions) -> None:
        """One call each five minutes; the last five failed."""
        seldom = [made(n * 5 * MINUTE, Meaning.OUTAGE if n <= 5 else Meaning.OK) for n in range(1, 60)]
        await add(sessions, *seldom)

        found = await baseline(sessions)

        assert found.until == NOW - timedelta(minutes=25)
        assert found.until - found.since == timedelta(days=1)
        assert (found.rate, found.refreshes, found.refreshed) == (1 / 60, 54, 54)

    async def test_goes_back_no_more_than_a_day(self, sessions: Sessions) -> None:
        """One call each five hours; the last three failed. What is further back is among a week of everybody's."""
        hours = timedelta(hours=5)
        await add(sessions, *(made(n * hours, Meaning.OUTAGE if n <= 3 else Meaning.OK) for n in range(1, 30)))

        found = await baseline(sessions)

        assert (found.since, found.until) == (NOW - 3 * hours - timedelta(days=1), NOW - 3 * hours)
        assert found.refreshes == 4

    async def test_is_not_bent_by_a_stray_failure_before_and_a_stray_success_within(self, sessions: Sessions) -> None:
        healthy = [made(timedelta(minutes=2) + n * 5 * SECOND) for n in range(1, 60)]
        stray = made(timedelta(minutes=6, seconds=1), Meaning.RETRY)
        failing = [made(n * 2 * SECOND, Meaning.OUTAGE) for n in range(61)]
        await add(sessions, *healthy, stray, *failing, made(timedelta(seconds=61)))

        assert (await baseline(sessions)).until == NOW - timedelta(minutes=2)

    async def test_of_a_provider_that_was_never_called_is_empty(self, sessions: Sessions) -> None:
        found = await baseline(sessions)

        assert (found.until, found.rate, found.refreshes) == (NOW, 0.0, 0)
