"""Calls are written beside the work, whatever the database does meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from time import perf_counter
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from integrations.db import migrate
from integrations.db.call_tables import ProviderCall as Row
from integrations.db.session import Sessions, make_engine, make_sessions
from integrations.domain.call import Caller, ProviderCall
from integrations.domain.gate import Purpose
from integrations.domain.verdict import Meaning
from integrations.providers.oauth import Providers
from tests.factories import every
from worker import recorder as module
from worker.recorder import Recorder, recording

ADA = Caller(tenant="org:acme", connection_id=uuid4(), purpose=Purpose.USE, attempt=1)


def call(milliseconds: int = 1) -> ProviderCall:
    return ProviderCall(
        caller=ADA,
        provider_id="simulator",
        endpoint="notes.read",
        outcome=Meaning.OK,
        rule="success",
        status=200,
        duration_ms=milliseconds,
        at=datetime.now(UTC),
    )


async def written(sessions: Sessions) -> list[int]:
    return sorted(row.duration_ms for row in await every(sessions, Row))


async def until_written(sessions: Sessions, expected: list[int]) -> None:
    async with asyncio.timeout(10):
        while await written(sessions) != expected:
            await asyncio.sleep(0.02)


class TestARecorder:
    async def test_writes_by_itself_and_in_one_statement(self, engine: AsyncEngine, sessions: Sessions) -> None:
        async with recording(sessions) as recorder:
            for number in range(300):
                recorder(call(number))
            await until_written(sessions, list(range(300)))

        async with engine.connect() as connection:
            transactions = "SELECT count(DISTINCT xmin::text) FROM service_provider_calls"
            assert await connection.scalar(text(transactions)) == 1

    async def test_writes_the_rest_on_its_way_out(self, sessions: Sessions) -> None:
        async with recording(sessions) as recorder:
            recorder(call(7))

        assert await written(sessions) == [7]

    async def test_writes_what_comes_while_it_writes_its_last(self, sessions: Sessions) -> None:
        """Activities end in their own time: the last call may be told while the worker is on its way out."""
        recorder, ended = Recorder(sessions), asyncio.Event()
        recorder(call(1))
        async with sessions.begin() as other:
            await other.execute(text("LOCK TABLE service_provider_calls IN ACCESS EXCLUSIVE MODE"))
            writing = asyncio.create_task(recorder.write_until(ended))
            while recorder._waiting:
                await asyncio.sleep(0.01)
            ended.set()
            recorder(call(2))

        await writing

        assert await written(sessions) == [1, 2]

    async def test_costs_a_call_microseconds(self, sessions: Sessions) -> None:
        recorder, told = Recorder(sessions, kept=200_000), call()
        began = perf_counter()

        for _ in range(100_000):
            recorder(told)

        assert (perf_counter() - began) / 100_000 < 20e-6

    async def test_tells_calls_of_one_instant_apart_from_another_processs(self, sessions: Sessions) -> None:
        told, recorders = call(), (Recorder(sessions), Recorder(sessions))

        for recorder in recorders:
            recorder(told)
            recorder(told)
            await recorder.write()

        assert len(await written(sessions)) == 4


@pytest.fixture
async def alone(empty_database: AsyncEngine) -> AsyncEngine:
    """A database of this test's own: others have no use for one that is away."""
    await migrate.upgrade(empty_database)
    return empty_database


@pytest.fixture
async def working(alone: AsyncEngine) -> AsyncIterator[Sessions]:
    """As a worker has it."""
    engine = make_engine(alone.url.render_as_string(hide_password=False), ask_first=False)
    yield make_sessions(engine)
    await engine.dispose()


class Down:
    """The database refuses everybody and has thrown out who was there."""

    def __init__(self, server: str, name: str) -> None:
        self._server, self._name = server, name

    async def __aenter__(self) -> None:
        await self._say(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS false')
        await self._say(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self._name}'")

    async def __aexit__(self, *_: object) -> None:
        await self._say(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS true')

    async def _say(self, statement: str) -> None:
        admin = await asyncpg.connect(self._server)
        await admin.execute(statement)
        await admin.close()


@pytest.fixture
def down(postgres_server: str, alone: AsyncEngine) -> Down:
    assert alone.url.database is not None
    return Down(postgres_server, alone.url.database)


class TestADatabaseThatIsAway:
    async def test_loses_no_call_and_holds_up_none(self, working: Sessions, down: Down, providers: Providers) -> None:
        with capture_logs() as logs:
            async with recording(working) as recorder:
                recorder(call(1))
                await until_written(working, [1])
                client = Providers(providers.catalog, providers._http, recorder).client("simulator", caller=ADA)
                async with down:
                    for _ in range(15):
                        answer = await client.refresh(SecretStr("sim_rt_anything"))
                        assert answer.heard.status == 400
                        await asyncio.sleep(0.1)

                async with asyncio.timeout(5):
                    while len(await written(working)) < 16:
                        await asyncio.sleep(0.05)

        assert len(await every(working, Row, endpoint="token")) == 15
        assert recorder.dropped == 0
        told = [log["event"] for log in logs]
        assert told == ["calls.unwritten", "calls.written_again"]

    async def test_costs_the_oldest_beyond_the_bound(self, working: Sessions, down: Down) -> None:
        recorder = Recorder(working, kept=5)
        async with down:
            for number in range(4):
                recorder(call(number))
            await recorder.write()
            for number in range(4, 8):
                recorder(call(number))
            await recorder.write()
            assert recorder.dropped == 3
            recorder(call(8))
            recorder(call(9))
            assert recorder.dropped == 5

        await recorder.write()
        # The pool's last connection was of before.
        await recorder.write()

        assert await written(working) == [5, 6, 7, 8, 9]

    async def test_at_the_end_is_said_once_with_how_many_are_lost(self, working: Sessions, down: Down) -> None:
        with capture_logs() as logs:
            async with down, recording(working) as recorder:
                for number in range(3):
                    recorder(call(number))

        assert [log["event"] for log in logs] == ["calls.unwritten", "calls.lost"]
        assert logs[-1]["calls"] == 3


class TestADatabaseThatHangs:
    async def test_is_given_up_and_asked_again(self, sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_PATIENCE", 0.2)
        async with recording(sessions) as recorder:
            async with sessions.begin() as other:
                await other.execute(text("LOCK TABLE service_provider_calls IN ACCESS EXCLUSIVE MODE"))
                recorder(call(1))
                await asyncio.sleep(1.5)
                recorder(call(2))
            await until_written(sessions, [1, 2])

    async def test_costs_the_oldest_when_more_come_than_may_wait(
        self, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_PATIENCE", 1.0)
        recorder = Recorder(sessions, kept=5)
        async with sessions.begin() as other:
            await other.execute(text("LOCK TABLE service_provider_calls IN ACCESS EXCLUSIVE MODE"))
            for number in range(4):
                recorder(call(number))
            writing = asyncio.create_task(recorder.write())
            await asyncio.sleep(0.1)
            for number in range(4, 8):
                recorder(call(number))
            await writing

        await recorder.write()

        assert await written(sessions) == [3, 4, 5, 6, 7]
        assert recorder.dropped == 3

    async def test_holds_up_no_shutdown(self, sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_PATIENCE", 0.2)
        async with sessions.begin() as other:
            await other.execute(text("LOCK TABLE service_provider_calls IN ACCESS EXCLUSIVE MODE"))
            async with asyncio.timeout(5), recording(sessions) as recorder:
                recorder(call(1))
