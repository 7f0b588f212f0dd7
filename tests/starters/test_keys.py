"""Keys as an operator handles them, on a stack that works on meanwhile and is never restarted for it."""

import asyncio
import base64
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import delete, select, text

from integrations.db import credentials
from integrations.db.credentials import opened
from integrations.db.tables import Connection, Credential
from integrations.db.vault import Vault, credential_place
from integrations.domain.keyring import Ring, root_of
from integrations.domain.keys import Reencrypted
from integrations.keyring import KeysFile
from starters.demo.owner import Owner
from tests.factories import EVERYTHING
from tests.starters.conftest import RUNBOOK, Account, Ran, Runbook
from tests.starters.running import Running

MANY = 3000


@pytest.fixture
def file(running: Running) -> KeysFile:
    """The ring that the stack's processes follow."""
    assert running.stack.settings.keys_file is not None
    return KeysFile(running.stack.settings.keys_file)


@pytest.fixture
def away(file: KeysFile, tmp_path: Path) -> KeysFile:
    """A copy of it, as another machine has."""
    return KeysFile(Path(shutil.copy(file.path, tmp_path / "keys.json")))


def secrets(ring: Ring) -> set[str]:
    return {base64.b64encode(key).decode() for key in (ring.root, *ring.keys.values())}


def states(ran: Ran) -> dict[str, dict[str, object]]:
    return {state["key_id"]: state for state in ran.json}


async def add_many(running: Running, count: int, **changes: object) -> Connection:
    """A connection with many old versions, as years of refreshes leave them."""
    vault = Vault(running.stack.settings.keys)
    row = Connection(
        id=uuid4(), provider_id="simulator", scope_type="org", scope_id="many", status="disconnected", status_reason="-"
    )
    values = [
        {
            "connection_id": row.id,
            "version": version,
            "state": "retired",
            "key_id": vault.key_id,
            "sealed": vault.seal(b"access\nrefresh", credential_place(row.id, version)),
            "grants": EVERYTHING,
        }
        | changes
        for version in range(1, count + 1)
    ]
    async with running.platform.sessions.begin() as session:
        session.add(row)
        await session.flush()
        await session.execute(Credential.__table__.insert(), values)
    return row


async def remove(running: Running, row: Connection) -> None:
    async with running.platform.sessions.begin() as session:
        await session.execute(delete(Credential).where(Credential.connection_id == row.id))
        await session.execute(delete(Connection).where(Connection.id == row.id))


@pytest_asyncio.fixture
async def many(running: Running) -> AsyncIterator[Connection]:
    row = await add_many(running, MANY)
    yield row
    await remove(running, row)


@asynccontextmanager
async def slow_rows(running: Running) -> AsyncIterator[None]:
    """A database in which a changed credential takes a millisecond: a re-encryption that can be met in its middle."""
    start = (
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END'",
        "CREATE TRIGGER dawdle BEFORE UPDATE ON service_credentials FOR EACH ROW EXECUTE FUNCTION dawdle()",
    )
    for statement in start:
        async with running.platform.sessions.begin() as session:
            await session.execute(text(statement))
    yield
    for statement in ("DROP TRIGGER dawdle ON service_credentials", "DROP FUNCTION dawdle"):
        async with running.platform.sessions.begin() as session:
            await session.execute(text(statement))


async def by_key(running: Running, row: Connection) -> dict[str, int]:
    counted = "SELECT key_id, count(*) FROM service_credentials WHERE connection_id = :id GROUP BY key_id"
    async with running.platform.sessions.begin() as session:
        return dict(map(tuple, await session.execute(text(counted), {"id": row.id})))


async def until_half(running: Running, row: Connection, key_id: str) -> None:
    async with asyncio.timeout(60):
        while not await by_key(running, row) or not (await by_key(running, row)).get(key_id):
            await asyncio.sleep(0.02)


async def all_open(running: Running, vault: Vault, row: Connection) -> int:
    """Open every version. How many there are."""
    async with running.platform.sessions.begin() as session:
        found = (await session.scalars(select(Credential).where(Credential.connection_id == row.id))).all()
    return len([opened(vault, each) for each in found])


class TestTheStatus:
    def test_tells_what_seals_and_shows_no_key(self, runbook: Runbook, file: KeysFile) -> None:
        shown, told = runbook("keys", "status"), runbook("keys", "status", "--json")

        ring = file.reread()
        assert (shown.code, told.code) == (0, 0)
        assert states(told)[ring.current]["place"] == "current"
        assert states(told)[ring.current]["canary"] == "opens"
        assert not any(secret in ran.out + ran.err for secret in secrets(ring) for ran in (shown, told))

    async def test_names_a_lost_key_and_what_to_do_and_so_does_the_doctor(
        self, runbook: Runbook, running: Running, away: KeysFile
    ) -> None:
        row = await add_many(running, 3)
        lost = away.reread().current
        away.change(lambda ring: ring.with_key("k99", os.urandom(32)).activated("k99").without(lost))

        ran = runbook("keys", "status", RUNBOOK_KEYS_FILE=str(away.path))
        doctor = runbook("doctor", "--json", RUNBOOK_KEYS_FILE=str(away.path))
        await remove(running, row)

        assert (ran.code, doctor.code) == (1, 1)
        assert "it is not in the ring: what is sealed with it does not open" in ran.out
        assert f"put the right {lost} into {away.path}" in ran.out
        found = next(each for each in doctor.json if each["what"] == "key")
        assert f"{lost}: " in found["found"]
        assert found["fix"] == "runbook keys status"

    def test_of_a_file_that_others_can_read_is_refused(self, runbook: Runbook, away: KeysFile) -> None:
        away.path.chmod(0o644)

        ran = runbook("keys", "status", RUNBOOK_KEYS_FILE=str(away.path))

        assert (ran.code, ran.out) == (1, "")
        assert f"chmod 600 {away.path}" in ran.err


class TestRotating:
    async def test_leaves_a_mailed_link_alone_and_is_followed_without_a_restart(
        self, runbook: Runbook, running: Running, invited: Account, file: KeysFile
    ) -> None:
        mailed = await invited.link()
        before = file.reread()

        rotated = runbook("keys", "rotate", "--by", "ada", "--reason", "yearly")
        async with Owner("ada@acme.example", "ada") as ada:
            await ada.consent(mailed)
        await invited.until("active")
        refreshed = runbook("connections", "refresh", invited.word)
        async with running.platform.sessions.begin() as session:
            active = await credentials.active(session, invited.id)
        await running.platform.disconnect(invited.id, by="the test", reason="over")

        after = file.reread()
        assert rotated.code == 0
        assert rotated.err.startswith("Target: ")
        assert ["keys", "reencrypt"] in rotated.printed_commands
        assert after.current not in before.keys
        assert after.keys.items() >= before.keys.items()
        assert after.root == before.root
        assert active is not None
        assert (active.key_id, refreshed.code) == (after.current, 0)
        assert states(runbook("keys", "status", "--json"))[after.current]["made_by"] == "ada: yearly"
        assert not any(secret in rotated.out + rotated.err for secret in secrets(after))

    def test_that_was_killed_after_the_file_or_after_the_row_goes_on_with_the_same_key(
        self, runbook: Runbook, file: KeysFile
    ) -> None:
        file.change(lambda ring: ring.with_key("k500", os.urandom(32)))
        after_the_file = runbook("keys", "rotate")
        assert (after_the_file.code, file.reread().current) == (0, "k500")

        staged = runbook("keys", "rotate", "--stage")
        key_id = file.reread().staged[-1]
        again = runbook("keys", "rotate", "--stage")
        assert (staged.code, again.code, file.reread().staged) == (0, 0, [key_id])
        assert file.reread().current == "k500"

        assert runbook("keys", "rotate").code == 0
        assert (file.reread().current, file.reread().staged) == (key_id, [])

    def test_on_machines_with_a_file_each_stages_is_copied_and_activates(
        self, runbook: Runbook, file: KeysFile, away: KeysFile
    ) -> None:
        """The other machine refuses to seal with a key that it has not got, and with one of its own by that name."""
        staged = runbook("keys", "rotate", "--stage")
        (key_id,) = file.reread().staged
        activate = ["keys", "rotate", "--activate", key_id]
        there = {"RUNBOOK_KEYS_FILE": str(away.path)}
        assert activate in staged.printed_commands

        early = runbook(*activate, **there)
        away.change(lambda ring: ring.with_key(key_id, os.urandom(32)))
        wrong = runbook(*activate, **there)
        shutil.copy(file.path, away.path)
        copied = runbook("keys", "status", "--json", **there)
        here = [runbook(*activate) for _ in range(2)]
        late = runbook(*activate, **there)

        assert (early.code, wrong.code) == (1, 1)
        assert f"has no key {key_id!r}" in early.err
        assert f"has other bytes as {key_id!r}" in wrong.err
        assert (copied.code, states(copied)[key_id]["canary"]) == (0, "opens")
        assert [ran.code for ran in (*here, late)] == [0, 0, 0]
        assert file.reread() == away.reread()
        assert file.reread().current == key_id

    def test_of_keys_in_the_environment_is_refused_with_every_step(self, runbook: Runbook, tmp_path: Path) -> None:
        """The printed steps are followed: the root that openssl makes is the one that links were made of."""
        key = os.urandom(32)
        given = {"RUNBOOK_KEY": base64.b64encode(key).decode(), "RUNBOOK_KEY_ID": "k1000"}

        ran = runbook("keys", "rotate", **given)
        command = next(line for line in ran.err.splitlines() if "openssl dgst" in line)
        root = subprocess.run(
            ["/bin/sh", "-c", command], env=given | {"PATH": os.environ["PATH"]}, capture_output=True, check=True
        )

        assert (ran.code, ran.out) == (2, "")
        assert base64.b64decode(root.stdout) == root_of(key)
        assert 'RUNBOOK_OLD_KEYS="k1001:NEW"' in ran.err
        assert given["RUNBOOK_KEY"] not in ran.err


class TestInit:
    def test_makes_a_ring_and_never_another_one_in_its_place(self, runbook: Runbook, tmp_path: Path) -> None:
        path = tmp_path / "ring.json"

        made, again = (runbook("keys", "init", RUNBOOK_KEYS_FILE=str(path)) for _ in range(2))

        assert (made.code, again.code) == (0, 1)
        assert path.stat().st_mode & 0o777 == 0o600
        assert list(KeysFile(path).ring().keys) == ["k1"]
        assert "is left alone" in again.err

    def test_takes_the_key_of_the_environment_over_with_its_links(self, runbook: Runbook, tmp_path: Path) -> None:
        key = os.urandom(32)
        given = {"RUNBOOK_KEY": base64.b64encode(key).decode(), "RUNBOOK_KEY_ID": "first"}
        path = tmp_path / "ring.json"

        made = runbook("keys", "init", RUNBOOK_KEYS_FILE=str(path), **given)
        both = runbook("keys", "status", RUNBOOK_KEYS_FILE=str(path), **given)

        assert KeysFile(path).ring() == Ring.of_one("first", key)
        assert (made.code, both.code) == (0, 2)
        assert "are both set" in both.err

    def test_wants_to_know_which_file(self, runbook: Runbook) -> None:
        ran = runbook("keys", "init", RUNBOOK_KEY=base64.b64encode(os.urandom(32)).decode())

        assert ran.code == 2
        assert "RUNBOOK_KEYS_FILE=" in ran.err


class TestAProcessWithAWrongKey:
    @pytest.mark.parametrize("name", ["worker", "web"])
    def test_does_not_start(self, running: Running, runbook: Runbook, away: KeysFile, name: str) -> None:
        """Other bytes under the id that the database knows."""
        right = away.reread()
        away.path.unlink()
        away.create(Ring(right.current, {right.current: os.urandom(32)}, right.root))

        ran = runbook(name, RUNBOOK_KEYS_FILE=str(away.path), RUNBOOK_WEB_PORT="0")

        assert ran.code == 1
        assert f"{away.path} has other bytes as {right.current!r}" in ran.err


class TestReencrypting:
    async def test_seals_everything_anew_so_that_the_old_key_can_go(
        self, runbook: Runbook, running: Running, many: Connection, file: KeysFile
    ) -> None:
        old = file.reread().current
        assert runbook("keys", "rotate").code == 0
        new = file.reread().current

        too_early = runbook("keys", "retire", old, "--yes")
        current = runbook("keys", "retire", new, "--yes")
        unasked = runbook("keys", "retire", old)
        done = runbook("keys", "reencrypt", "--by", "ada")
        again = runbook("keys", "reencrypt", "--json")
        retired = [runbook("keys", "retire", old, "--yes", "--by", "ada").code for _ in range(2)]
        shown = states(runbook("keys", "status", "--json"))

        assert (too_early.code, current.code, unasked.code) == (1, 1, 2)
        assert "retired credentials" in too_early.err
        assert ["keys", "reencrypt"] in too_early.printed_commands
        assert f"{new!r} is the current key" in current.err
        assert (done.code, done.err.count("\n")) == (0, 1)  # the target, and no bar in a pipe
        assert (again.code, again.json["moved"], again.json["left"]) == (0, 0, 0)
        assert retired == [0, 0]
        assert old not in file.reread().keys
        assert shown[old]["place"] == "retired"
        assert str(shown[old]["retired_by"]).startswith("ada: ")
        assert await by_key(running, many) == {new: MANY}
        assert await all_open(running, Vault(file), many) == MANY

    async def test_names_what_does_not_open_and_goes_on(
        self, runbook: Runbook, running: Running, many: Connection, file: KeysFile
    ) -> None:
        altered = await add_many(running, 2, sealed=os.urandom(60))
        assert runbook("keys", "rotate").code == 0

        ran = runbook("keys", "reencrypt")
        left = await by_key(running, altered)
        trouble = runbook("keys", "status")
        await remove(running, altered)

        assert (ran.code, trouble.code) == (1, 1)
        assert "incomplete: 2 rows" in ran.err
        assert f"credential {altered.id} version 1 does not open" in ran.err
        assert await by_key(running, many) == {file.reread().current: MANY}
        assert file.reread().current not in left

    async def test_goes_on_after_its_worker_was_killed_in_the_middle(
        self, runbook: Runbook, running: Running, many: Connection, file: KeysFile
    ) -> None:
        """With readers and writers that never fail to open anything."""
        assert runbook("keys", "rotate").code == 0
        new, stop, reads = file.reread().current, asyncio.Event(), 0
        reader = Vault(KeysFile(file.path))

        async def read() -> None:
            nonlocal reads
            while not stop.is_set():
                reads += await all_open(running, reader, many)

        reading = asyncio.create_task(read())
        async with slow_rows(running):
            started = runbook("keys", "reencrypt", "--no-wait", "--json")
            await until_half(running, many, new)
            worker = running.stack.processes["worker"]
            worker.kill()
            await worker.wait()
            at_the_kill = await by_key(running, many)
            await running.stack.start_worker()
            client = await running.stack.temporal_client()
            handle = client.get_workflow_handle(started.json["workflow_id"], result_type=Reencrypted)
            result = await asyncio.wait_for(handle.result(), 90)
        stop.set()
        await reading

        assert 0 < at_the_kill[new] < MANY
        assert (result.left, result.complete) == (0, True)
        assert await by_key(running, many) == {new: MANY}
        assert reads > MANY

    async def test_goes_on_after_ctrl_c_and_says_how_to_come_back(
        self, runbook: Runbook, running: Running, many: Connection, file: KeysFile
    ) -> None:
        assert runbook("keys", "rotate").code == 0
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment["RUNBOOK_DATA"] = str(running.stack.folder)
        async with slow_rows(running):
            command = await asyncio.create_subprocess_exec(
                RUNBOOK, "keys", "reencrypt", env=environment, stderr=asyncio.subprocess.PIPE
            )
            await until_half(running, many, file.reread().current)
            command.send_signal(signal.SIGINT)
            said = (await asyncio.wait_for(command.communicate(), 20))[1].decode()
            joined = runbook("keys", "reencrypt")

        assert command.returncode == 130
        assert "It goes on without you. `runbook keys reencrypt` joins it again" in said
        assert f"--workflow-id keys-reencrypt --address {running.stack.settings.temporal_address}" in said
        assert joined.code == 0
        assert await by_key(running, many) == {file.reread().current: MANY}
