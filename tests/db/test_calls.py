import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db import calls
from integrations.db.call_tables import ProviderCall as Row
from integrations.db.session import Sessions
from integrations.domain.call import Caller, Count, ProviderCall
from integrations.domain.gate import Purpose
from integrations.domain.verdict import Meaning
from tests.factories import every

NOW = datetime.now(UTC)
NUMBERS = itertools.count(1)
WEEK = timedelta(days=7)


def made(tenant: str = "org:acme", **changes: Any) -> calls.Numbered:
    """A refresh of acme's at the simulator that went well a moment ago."""
    given: dict[str, Any] = {
        "caller": Caller(tenant=tenant, connection_id=uuid4(), purpose=Purpose.REFRESH, attempt=1),
        "provider_id": "simulator",
        "endpoint": "token",
        "outcome": Meaning.OK,
        "rule": "success",
        "status": 200,
        "duration_ms": 12,
        "at": NOW,
    }
    return next(NUMBERS), ProviderCall(**(given | changes))


async def add(sessions: Sessions, *some: calls.Numbered) -> None:
    async with sessions.begin() as session:
        await calls.add(session, some)


async def many(sessions: Sessions, count: int, age: timedelta) -> None:
    """So many calls of one second, so long ago."""
    async with sessions.begin() as session:
        await session.execute(
            text("""
            INSERT INTO service_provider_calls
            SELECT now() - cast(:age AS interval), n, 'simulator', 'token', 'refresh',
              'org:acme', gen_random_uuid(), 'ok', 'success', 200, 1, 12 FROM generate_series(1, :count) AS n
            """),
            {"age": age, "count": count},
        )


class TestWhatIsAdded:
    async def test_is_a_row_for_each_call(self, sessions: Sessions) -> None:
        number, call = made(status=None, outcome=Meaning.OUTAGE, rule="answer-lost", endpoint="notes.read")

        await add(sessions, (number, call), made())

        row = next(row for row in await every(sessions, Row) if row.id == number)
        caller = call.caller
        assert (row.at, row.provider_id, row.endpoint) == (call.at, "simulator", "notes.read")
        assert (row.tenant, row.connection_id, row.purpose, row.attempt) == (
            "org:acme",
            caller.connection_id,
            "refresh",
            1,
        )
        assert (row.outcome, row.rule, row.status, row.duration_ms) == ("outage", "answer-lost", None, 12)

    async def test_twice_is_there_once(self, sessions: Sessions) -> None:
        """The answer to the first was lost on its way."""
        first, second = made(), made()

        await add(sessions, first)
        await add(sessions, first, second)

        assert {row.id for row in await every(sessions, Row)} == {first[0], second[0]}


class TestCounts:
    async def test_are_of_the_window_by_provider_endpoint_tenant_and_outcome(self, sessions: Sessions) -> None:
        window = NOW - timedelta(minutes=10)
        await add(
            sessions,
            made(at=window - timedelta(seconds=1)),
            made(at=window),
            made(outcome=Meaning.OUTAGE, rule="server-error", status=503),
            made(outcome=Meaning.OUTAGE, rule="answer-lost", status=None),
            made("org:umbrella"),
            made(endpoint="notes.read"),
            made(provider_id="github"),
        )

        async with sessions.begin() as session:
            found = await calls.counts(session, window)

        def counted(provider_id: str, endpoint: str, tenant: str, outcome: Meaning, calls: int) -> Count:
            return Count(provider_id=provider_id, endpoint=endpoint, tenant=tenant, outcome=outcome, calls=calls)

        assert found == [
            counted("github", "token", "org:acme", Meaning.OK, 1),
            counted("simulator", "notes.read", "org:acme", Meaning.OK, 1),
            counted("simulator", "token", "org:acme", Meaning.OK, 1),
            counted("simulator", "token", "org:acme", Meaning.OUTAGE, 2),
            counted("simulator", "token", "org:umbrella", Meaning.OK, 1),
        ]

    async def test_walk_over_the_keys_last_part_only(self, engine: AsyncEngine, sessions: Sessions) -> None:
        await many(sessions, 30_000, timedelta(days=2))
        await add(sessions, made(at=datetime.now(UTC)))
        async with engine.connect() as connection:
            # Of other tests' calls as well, whose remains would be read.
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("VACUUM ANALYZE service_provider_calls"))

        async with sessions.begin() as session:
            explained = text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {calls._COUNTS.text}")
            [[plan]] = (await session.execute(explained, {"since": NOW - timedelta(minutes=10)})).scalars()

        read = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
        assert "pk_service_provider_calls" in str(plan)
        # The whole key of 30,000 has more than a hundred.
        assert read < 50


class TestForgetting:
    async def test_takes_what_is_too_old_and_no_more_at_once_than_it_may(self, sessions: Sessions) -> None:
        await many(sessions, 5, timedelta(days=8))
        await many(sessions, 2, timedelta(days=6))

        taken = []
        for _ in range(3):
            async with sessions.begin() as session:
                taken.append(await calls.forget(session, WEEK, most=3))

        assert taken == [3, 2, 0]
        assert len(await every(sessions, Row)) == 2

    async def test_looks_at_nothing_else(self, sessions: Sessions) -> None:
        await many(sessions, 30_000, timedelta(days=2))
        await many(sessions, 10, timedelta(days=8))

        async with sessions.begin() as session:
            await session.execute(text("ANALYZE service_provider_calls"))
            explained = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {calls._FORGET.text}")
            [plan] = (await session.execute(explained, {"kept": WEEK, "most": 10_000})).scalars()

        assert "Seq Scan" not in str(plan)
