from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db import outage_what_if
from integrations.db.session import Sessions
from integrations.domain.outage import Limits, Scope
from integrations.domain.outage_what_if import WouldBe
from integrations.domain.verdict import Meaning
from tests.db.test_outage_counts import MINUTE, NOW, SECOND, add, made

OUTAGE = Meaning.OUTAGE
A_WEEK = """
INSERT INTO service_provider_calls
SELECT now() - n * interval '20 seconds', n, 'p' || n % 12, 'token', 'refresh', 'org:' || n % 300,
  gen_random_uuid(), CASE n % 50 WHEN 0 THEN 'outage' ELSE 'ok' END, 'a-rule', 200, 1, 12
FROM generate_series(1, 30000) AS n
"""
WHOLE = NOW.replace(second=0) - timedelta(days=1)
"""Where a minute begins."""


async def what_if(sessions: Sessions, provider_id: str = "", **limits: int) -> list[WouldBe]:
    async with sessions.begin() as session:
        return await outage_what_if.what_if(
            session, NOW - timedelta(days=7), Limits(**limits), {}, provider_id=provider_id
        )


class TestWhatWouldHaveBeen:
    async def test_is_what_trips_in_a_minute_with_its_reach(self, sessions: Sessions) -> None:
        for tenant in range(5):
            of = {"tenant": f"org:{tenant}"}
            await add(sessions, *(made(SECOND, OUTAGE, at=WHOLE + n * SECOND, **of) for n in range(90)))
            fine = [made(SECOND, at=WHOLE + n * SECOND, endpoint="notes.read", **of) for n in range(0, 90, 2)]
            await add(sessions, *fine)

        [found] = await what_if(sessions)

        assert (found.provider, found.scope, found.names, found.certain) == (
            "simulator",
            Scope.ENDPOINT,
            ("token",),
            True,
        )
        assert (found.since, found.until) == (WHOLE, WHOLE + 2 * MINUTE)
        # The first minute trips as a whole, and so does the second.
        assert (found.calls, found.failing, round(found.share)) == (675, 450, 67)

    async def test_depends_on_the_limits(self, sessions: Sessions) -> None:
        calls = [made(SECOND, OUTAGE if n % 10 < 4 else Meaning.OK, at=WHOLE + n * SECOND) for n in range(30)]
        await add(sessions, *calls)

        assert await what_if(sessions) == []
        assert [each.failing for each in await what_if(sessions, share=30)] == [12]
        assert await what_if(sessions, share=30, calls=31) == []

    async def test_is_also_a_quiet_provider_whose_calls_failed_in_a_row(self, sessions: Sessions) -> None:
        seldom = [made(n * 5 * MINUTE, OUTAGE if n in {3, 4, 5, 6, 7, 20} else Meaning.OK) for n in range(30)]
        await add(sessions, *seldom)

        [found] = await what_if(sessions)

        assert (found.certain, found.calls, found.failing) == (False, 5, 5)
        assert (found.since, found.until) == (NOW - 35 * MINUTE, NOW - 15 * MINUTE)

    async def test_is_told_by_one_call_where_that_is_enough(self, sessions: Sessions) -> None:
        await add(sessions, made(2 * MINUTE), made(MINUTE, OUTAGE))

        assert [each.calls for each in await what_if(sessions, quiet_calls=1)] == [1]

    async def test_is_no_row_of_failures_amid_many_calls(self, sessions: Sessions) -> None:
        busy = [made(SECOND, OUTAGE if 30 < n < 40 else Meaning.OK, at=WHOLE + n * SECOND) for n in range(60)]
        await add(sessions, *busy)

        assert await what_if(sessions) == []

    async def test_is_said_once_of_what_trips_and_ends_in_a_row_of_failures(self, sessions: Sessions) -> None:
        slow = [made(SECOND, OUTAGE, at=WHOLE + n * MINUTE) for n in range(6)]
        await add(sessions, *slow, *(made(SECOND, OUTAGE, at=WHOLE + 5 * MINUTE + n * SECOND) for n in range(1, 30)))

        assert [each.certain for each in await what_if(sessions)] == [True]

    async def test_is_of_one_provider_when_that_is_asked_for(self, sessions: Sessions) -> None:
        for provider_id in ("simulator", "github"):
            of = {"provider_id": provider_id}
            await add(sessions, *(made(SECOND, OUTAGE, at=WHOLE + n * SECOND, **of) for n in range(30)))

        assert [each.provider for each in await what_if(sessions, "github")] == ["github"]
        assert len(await what_if(sessions)) == 2

    async def test_is_looked_for_without_going_through_all_calls_for_each_minute(
        self, engine: AsyncEngine, sessions: Sessions
    ) -> None:
        """However many minutes there are, and in however many of them enough failed."""
        async with sessions.begin() as session:
            await session.execute(text(A_WEEK))
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("VACUUM ANALYZE service_provider_calls"))

        asked = {"since": NOW - timedelta(days=7), "calls": 1, "share": 1, "least": 1}
        async with sessions.begin() as session:
            explained = text(f"EXPLAIN (FORMAT JSON) {outage_what_if._MINUTES.text}")
            [plan] = (await session.execute(explained, asked)).scalars()

        joins = [value for name, value in _conditions(plan) if name in {"Hash Cond", "Merge Cond"}]
        assert any("date_bin" in each for each in joins), joins


def _conditions(plan: object) -> Iterator[tuple[str, str]]:
    if isinstance(plan, list):
        for each in plan:
            yield from _conditions(each)
    elif isinstance(plan, dict):
        for name, value in plan.items():
            if isinstance(value, str):
                yield name, value
            yield from _conditions(value)
