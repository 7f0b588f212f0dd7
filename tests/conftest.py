"""The real things, once per session: Postgres with a database of our own, the Temporal dev server, the simulator.

The suite reads RUNBOOK_TEST_DATABASE_URL and RUNBOOK_TEST_POSTGRES and nothing else of the environment: whatever
RUNBOOK_* or TEMPORAL_* point to, a test must never reach it.
"""

import base64
import os
import secrets
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import httpx
import pytest
import pytest_asyncio
from sqlalchemy import TextClause, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.testing import WorkflowEnvironment

from integrations import temporal
from integrations.db import migrate
from integrations.db.base import Base
from integrations.db.session import Sessions, make_engine, make_sessions
from integrations.db.vault import Vault
from integrations.domain.keyring import Ring
from integrations.keyring import GivenKeys
from integrations.providers import catalog
from integrations.providers.http import make_client
from integrations.providers.oauth import Providers
from starters.embedded.lock import acquire
from starters.embedded.ports import free_port
from starters.embedded.postgres import Postgres
from starters.embedded.process import Command, GuardedProcess
from worker.plugin import runbook_plugin

WEB_URL = "http://127.0.0.1:9"
_HERE = Path(__file__).parent
_DYNAMIC = {
    "frontend.WorkflowTimeSkippingEnabled": "true",
    "history.timerProcessorMaxTimeShift": '"10ms"',
    "history.transferProcessorMaxPollRPS": "200",
    "history.timerProcessorMaxPollRPS": "200",
    # As the embedded server has it: who goes first, and how fast, is exact within one partition.
    "matching.enableFairness": "true",
    "matching.numTaskqueueReadPartitions": "1",
    "matching.numTaskqueueWritePartitions": "1",
}


def pytest_xdist_auto_num_workers() -> int:
    """One process more than cores: tests wait for servers much. Each has a Postgres and a Temporal of its own."""
    return min(6, (os.cpu_count() or 1) + 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where weeks are skipped, a worker that is slow to answer is skipped too; the demo has minutes to hold in; and an
    outage is told from a slow machine by seconds.
    """
    for item in items:
        where = item.path.relative_to(_HERE).parts
        # Of the chaos only what kills and counts takes another one beside it: the rest has limits of its own.
        strict = "chaos" in item.keywords and (where[0] != "chaos" or where[-1] == "test_outage.py")
        if strict or where[0] in {"workflows", "demo"}:
            item.add_marker(pytest.mark.alone)


@pytest.fixture(scope="session", autouse=True)
def _no_stranger() -> Iterator[None]:
    """Nothing that a test starts, in this process or another one, hears of a person's database or Temporal."""
    ours = [n for n in os.environ if n.startswith(("RUNBOOK_", "TEMPORAL_")) and not n.startswith("RUNBOOK_TEST_")]
    kept = {name: os.environ.pop(name) for name in ours}
    yield
    os.environ.update(kept)


@pytest.fixture(scope="session")
def reachable_folder() -> Iterator[Path]:
    """A folder that PostgreSQL's account can reach when we are root: pytest's own are 0700."""
    folder = Path(tempfile.mkdtemp(prefix="rb-test-", dir="/var/tmp" if os.geteuid() == 0 else None))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest_asyncio.fixture(scope="session")
async def postgres_server(reachable_folder: Path) -> AsyncIterator[str]:
    """The URL of a server on which databases may be made: given, in a container, or embedded."""
    given = os.environ.get("RUNBOOK_TEST_DATABASE_URL")
    if given:
        yield given.replace("postgresql+asyncpg://", "postgresql://")
        return
    if os.environ.get("RUNBOOK_TEST_POSTGRES") == "docker":
        from testcontainers.postgres import PostgresContainer

        with PostgresContainer("postgres:18", driver=None) as container:
            yield container.get_connection_url()
        return
    lock = acquire(reachable_folder / "postgres")
    server = await Postgres.start(lock)
    yield server.url("postgres").replace("+asyncpg", "")
    await server.stop()
    lock.release()


@pytest_asyncio.fixture(scope="session")
async def database_url(postgres_server: str) -> AsyncIterator[str]:
    """A database of this session's own, dropped at its end. postgresql+asyncpg://…"""
    name = f"runbook_test_{os.getpid()}_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(postgres_server)
    await admin.execute(f'CREATE DATABASE "{name}"')
    yield (
        make_url(postgres_server)
        .set(drivername="postgresql+asyncpg", database=name)
        .render_as_string(hide_password=False)
    )
    await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await admin.close()


@pytest_asyncio.fixture
async def empty_database(postgres_server: str) -> AsyncIterator[AsyncEngine]:
    """A database of this test alone, without a table."""
    name = f"runbook_test_empty_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(postgres_server)
    await admin.execute(f'CREATE DATABASE "{name}"')
    engine = make_engine(
        make_url(postgres_server)
        .set(drivername="postgresql+asyncpg", database=name)
        .render_as_string(hide_password=False)
    )
    yield engine
    await engine.dispose()
    await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await admin.close()


@pytest_asyncio.fixture(scope="session")
async def _migrated(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(database_url)
    await migrate.upgrade(engine)
    yield engine
    await engine.dispose()


@pytest_asyncio.fixture(scope="session")
async def _emptying(_migrated: AsyncEngine) -> TextClause:
    """One statement that empties every table: deleting a few rows takes a tenth of what TRUNCATE takes."""
    tables = "; ".join(f"DELETE FROM {table.name}" for table in reversed(Base.metadata.sorted_tables))
    async with _migrated.begin() as connection:
        names = await connection.scalars(text("SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'"))
    counters = "; ".join(f"PERFORM setval('{name}', 1, false)" for name in names)
    return text(f"DO $$ BEGIN {tables}; {counters}; END $$")


@pytest_asyncio.fixture
async def engine(_migrated: AsyncEngine, _emptying: TextClause) -> AsyncIterator[AsyncEngine]:
    """The database, empty."""
    async with _migrated.begin() as connection:
        await connection.execute(_emptying)
    yield _migrated


@pytest.fixture
def sessions(engine: AsyncEngine) -> Sessions:
    return make_sessions(engine)


@pytest.fixture(scope="session")
def raw_key() -> bytes:
    return os.urandom(32)


@pytest.fixture(scope="session")
def vault(raw_key: bytes) -> Vault:
    return Vault(GivenKeys(Ring.of_one("k1", raw_key)))


@pytest_asyncio.fixture(scope="session")
async def simulator_url(reachable_folder: Path) -> AsyncIterator[str]:
    """The simulator as a process of its own, the same one that `runbook up` starts."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "PATH": os.environ["PATH"],
        "SIMULATOR_CLIENT_ID": "runbook",
        "SIMULATOR_CLIENT_SECRET": "the client secret of the tests",
        "SIMULATOR_REDIRECT_URIS": f"{WEB_URL}/oauth/callback/simulator",
    }
    argv = [sys.executable, "-m", "simulator", "--port", str(port)]
    process = GuardedProcess.start(Command("simulator", argv, reachable_folder / "simulator.log", environment))

    async def answers() -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                return (await client.get(f"{url}/healthz")).status_code == 200
        except httpx.TransportError:
            return False

    await process.wait_until_ready(answers, 30)
    yield url
    await process.stop()


@pytest_asyncio.fixture
async def providers(simulator_url: str) -> AsyncIterator[Providers]:
    """The catalog with its simulator, healthy, over the one httpx client."""
    environment = {
        "RUNBOOK_PROVIDER_SIMULATOR_CLIENT_ID": "runbook",
        "RUNBOOK_PROVIDER_SIMULATOR_CLIENT_SECRET": "the client secret of the tests",
    }
    async with make_client() as http:
        await http.delete(f"{simulator_url}/admin/faults")
        yield Providers(catalog.load(host=simulator_url, environment=environment), http)


@pytest_asyncio.fixture(scope="session")
async def time_skipping() -> AsyncIterator[WorkflowEnvironment]:
    """The real dev server, on which a workflow's fourteen days pass in a second."""
    async with AsyncExitStack() as stack:
        started = await WorkflowEnvironment.start_time_skipping_v2(
            dev_server_existing_path=str(Path(sysconfig.get_path("scripts")) / "temporal"),
            dev_server_log_level="error",
            plugins=[runbook_plugin()],
            search_attributes=list(temporal.SEARCH_ATTRIBUTES),
            dev_server_extra_args=[
                word for pair in _DYNAMIC.items() for word in ("--dynamic-config-value", "=".join(pair))
            ],
        )
        stack.push_async_callback(started.shutdown)
        yield started


@pytest.fixture(scope="session")
def base64_key(raw_key: bytes) -> str:
    return base64.b64encode(raw_key).decode()
