"""A hundred thousand credentials are sealed anew while fifty refreshes a second go on, and the worker is killed.

`pytest -m chaos -s` shows what was measured.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random
from uuid import UUID, uuid4

import psutil
import pytest
import pytest_asyncio
from sqlalchemy import delete, select, text

from integrations.db import credentials, refresh
from integrations.db.credentials import Tokens, opened
from integrations.db.session import Sessions, make_engine, make_sessions
from integrations.db.tables import Connection, Credential, RefreshLease
from integrations.db.vault import Vault, credential_place
from integrations.domain.errors import NotReadyError
from integrations.domain.keyring import Ring
from integrations.domain.keys import Reencrypted
from integrations.keyring import GivenKeys, KeysFile
from tests.factories import EVERYTHING, tokens
from tests.starters.conftest import Runbook
from tests.starters.running import Running

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]
CONNECTIONS = 2000
VERSIONS = 50
"""Of each connection: one active, the others retired."""
REFRESHES = 50
"""A second."""
GROWTH = 30 * 2**20
"""Bytes: what a batch and the allocator add. Rows that are kept, some 600 bytes each, would be twice that."""


@dataclass
class Load:
    """Refreshes at their pace and readers as fast as they can, in a process of their own: as a web app beside a worker.

    A refresh is what `RefreshActivities` does with its rows, without the provider's call in between: read, open,
    claim, settle. Thirty-five workflows a second is what the development server takes.
    """

    sessions: Sessions
    vault: Vault
    ids: list[UUID]
    chance: Random = field(default_factory=lambda: Random(1))  # noqa: S311 - it chooses rows, and guards nothing
    written: dict[tuple[UUID, int], str] = field(default_factory=dict)
    """What each refresh stored, by connection and version."""
    late: int = 0
    read: int = 0
    failed: list[str] = field(default_factory=list)

    async def refresh(self) -> None:
        connection_id = self.chance.choice(self.ids)
        async with self.sessions.begin() as session:
            connection = await session.get_one(Connection, connection_id)
            active = await credentials.active(session, connection_id)
            assert active is not None
            self.open(active)
            claim = await refresh.claim(session, connection, active)
        if claim is None:
            return
        name = uuid4().hex
        async with self.sessions.begin() as session:
            settled = await refresh.settle(
                session,
                self.vault,
                claim,
                tokens(name),
                granted=None,
                wanted=EVERYTHING,
                optional=(),
                variables={},
                expires_at=None,
            )
        if settled is None:
            self.late += 1
        else:
            self.written[connection_id, settled.version] = name

    async def read_on(self) -> None:
        while True:
            async with self.sessions.begin() as session:
                wanted = select(Credential).where(Credential.connection_id == self.chance.choice(self.ids))
                rows = (await session.scalars(wanted)).all()
            for row in rows:
                self.open(row)
            await asyncio.sleep(0.01)

    def open(self, row: Credential) -> None:
        try:
            opened(self.vault, row)
            self.read += 1
        except NotReadyError as error:
            self.failed.append(str(error))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.read_on())
            began, count = time.monotonic(), 0
            while True:
                group.create_task(self.refresh())
                count += 1
                await asyncio.sleep(max(0.0, began + count / REFRESHES - time.monotonic()))


@dataclass
class Memory:
    """The resident memory of whichever worker runs, from when it is up, looked at several times a second."""

    running: Running
    seen: dict[int, list[int]] = field(default_factory=dict)

    async def watch(self) -> None:
        while True:
            process = self.running.stack.processes["worker"]
            if process.pid in self.seen:
                # The worker is killed while it is watched: between any two lines, this one included.
                with contextlib.suppress(psutil.NoSuchProcess):
                    self.seen[process.pid].append(self._now(process.pid))
            await asyncio.sleep(0.1)

    def worker_is_up(self) -> None:
        pid = self.running.stack.processes["worker"].pid
        self.seen[pid] = [self._now(pid)]

    def _now(self, pid: int) -> int:
        return psutil.Process(pid).memory_info().rss


@pytest_asyncio.fixture
async def ids(running: Running) -> AsyncIterator[list[UUID]]:
    """The connections, each with its versions, sealed with the key of today."""
    vault = Vault(running.stack.settings.keys)
    made = [uuid4() for _ in range(CONNECTIONS)]
    common = {"provider_id": "simulator", "scope_type": "org", "scope_id": "scale", "status_reason": "-"}
    for start in range(0, CONNECTIONS, 100):
        some = made[start : start + 100]
        rows = [
            {
                "connection_id": connection_id,
                "version": version,
                "state": "active" if version == VERSIONS else "retired",
                "key_id": vault.key_id,
                "sealed": vault.seal(b"access\nrefresh", credential_place(connection_id, version)),
                "grants": EVERYTHING,
            }
            for connection_id in some
            for version in range(1, VERSIONS + 1)
        ]
        async with running.platform.sessions.begin() as session:
            await session.execute(
                Connection.__table__.insert(), [{"id": each, "status": "active"} | common for each in some]
            )
            await session.execute(Credential.__table__.insert(), rows)
    yield made
    for kind, column in (
        (RefreshLease, RefreshLease.connection_id),
        (Credential, Credential.connection_id),
        (Connection, Connection.id),
    ):
        async with running.platform.sessions.begin() as session:
            await session.execute(delete(kind).where(column.in_(made)))


async def moved(sessions: Sessions, key_id: str) -> int:
    async with sessions.begin() as session:
        counted = "SELECT count(*) FROM service_credentials WHERE key_id = :key_id"
        return int(await session.scalar(text(counted), {"key_id": key_id}) or 0)


async def until_moved(sessions: Sessions, key_id: str, count: int) -> None:
    async with asyncio.timeout(60):
        while await moved(sessions, key_id) < count:
            await asyncio.sleep(0.05)


async def test_a_hundred_thousand_credentials_under_load_and_a_kill(
    runbook: Runbook, running: Running, ids: list[UUID]
) -> None:
    sessions, settings = running.platform.sessions, running.stack.settings
    assert settings.keys_file is not None
    engine = make_engine(settings.sqlalchemy_url)
    load, memory = Load(make_sessions(engine), Vault(settings.keys), ids), Memory(running)
    memory.worker_is_up()
    tasks = [asyncio.create_task(load.run()), asyncio.create_task(memory.watch())]
    await asyncio.sleep(2)

    rotated = await asyncio.to_thread(runbook, "keys", "rotate")
    new = KeysFile(settings.keys_file).ring().current
    began = time.monotonic()
    started = await asyncio.to_thread(runbook, "keys", "reencrypt", "--no-wait", "--json")
    await until_moved(sessions, new, 30_000)
    worker = running.stack.processes["worker"]
    worker.kill()
    await worker.wait()
    at_the_kill, killed = await moved(sessions, new), time.monotonic()
    await running.stack.start_worker()
    memory.worker_is_up()
    client = await running.stack.temporal_client()
    handle = client.get_workflow_handle(started.json["workflow_id"], result_type=Reencrypted)
    await until_moved(sessions, new, at_the_kill + 5000)
    resumed = time.monotonic()
    result = await asyncio.wait_for(handle.result(), 120)
    ended = time.monotonic()
    await asyncio.sleep(1)
    for task in tasks:
        task.cancel()
    for stopped in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(stopped, asyncio.CancelledError), stopped

    await engine.dispose()
    growth = {pid: max(seen) - seen[0] for pid, seen in memory.seen.items()}
    told = {
        "rows": CONNECTIONS * VERSIONS + len(load.written),
        "seconds": round(ended - began, 1),
        "rows_a_second_after_the_kill": round((CONNECTIONS * VERSIONS - at_the_kill - 5000) / (ended - resumed)),
        "seconds_from_kill_to_going_on": round(resumed - killed, 1),
        "moved_at_the_kill": at_the_kill,
        "refreshed": len(load.written),
        "late": load.late,
        "opened": load.read,
        "failed": len(load.failed),
        "rss_mb": {pid: [round(seen[0] / 2**20), round(max(seen) / 2**20)] for pid, seen in memory.seen.items()},
    }
    sys.stdout.write(f"{told}\n")
    assert (rotated.code, started.code) == (0, 0)
    assert load.failed == []
    assert len(load.written) > REFRESHES * (ended - began) * 0.8
    assert 30_000 <= at_the_kill < CONNECTIONS * VERSIONS
    assert (result.left, result.unopened.count) == (0, 0)
    assert max(growth.values()) < GROWTH
    await everything_opens_with_the_new_key_alone(sessions, settings.keys.ring(), load)


async def everything_opens_with_the_new_key_alone(sessions: Sessions, ring: Ring, load: Load) -> None:
    found: dict[tuple[UUID, int], Tokens] = {}
    only = Vault(GivenKeys(Ring(ring.current, {ring.current: ring.keys[ring.current]}, ring.root)))
    for connection_id in load.ids:
        async with sessions.begin() as session:
            wanted = select(Credential).where(Credential.connection_id == connection_id).order_by(Credential.version)
            rows = (await session.scalars(wanted)).all()
        stored = {(connection_id, row.version): opened(only, row) for row in rows}
        found |= {version: secret for version, secret in stored.items() if version in load.written}
        assert [row.state for row in rows].count("active") == 1
    # No version is lost or overwritten. The last refresh may have committed without having been told so.
    assert found == {version: tokens(name) for version, name in load.written.items()}
