"""PostgreSQL on a unix socket in the data folder."""

import os
import pwd
import shutil
import signal
from pathlib import Path
from urllib.parse import quote

import asyncpg

from starters.embedded.account import check_reachable, postgres_account
from starters.embedded.errors import EmbeddedError
from starters.embedded.files import last_lines, sync_folder
from starters.embedded.leftover import end_leftovers
from starters.embedded.lock import FolderLock
from starters.embedded.postgres_binaries import binaries
from starters.embedded.process import Command, GuardedProcess, User
from starters.embedded.socket_folder import PORT, choose_socket_folder, short_socket_folder

OWNER = "runbook"
READY_WITHIN = 60.0
"""Seconds; a start after a crash first replays the log."""

GRACE = 15.0
"""Seconds for a fast shutdown with its checkpoint; less than `lock.WAIT`, so that the next start sees the end of it."""

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "shared_buffers": "512MB",
    # A backlog that is worked off writes a gigabyte within seconds: each checkpoint makes what follows dearer.
    "max_wal_size": "4GB",
    "max_connections": "200",
    "log_min_duration_statement": "-1",
    "log_line_prefix": "%m [%p] ",
    "log_timezone": "UTC",
    "timezone": "UTC",
}

# Nothing of the caller's environment: PGDATA, PGPORT or a locale that is not installed would change what is started.
_ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


class Postgres:
    """A running server. Stop it before dropping the object."""

    def __init__(self, process: GuardedProcess, socket_folder: Path) -> None:
        self.process = process
        self._socket_folder = socket_folder

    @classmethod
    async def start(cls, lock: FolderLock) -> "Postgres":
        """Start the server on the folder's data, which is made on first use; return once it takes connections.

        Raises EmbeddedError, with the end of the log where there is one.
        """
        user = postgres_account()
        home = _home(lock.folder, user)
        programs = binaries(as_root=user is not None)
        await end_leftovers("postgres", lambda process: Path(process.cwd()).parent == home)
        if not (home / "data").exists():
            await _create(programs, home, user, lock)
        socket_folder = choose_socket_folder(lock.folder, home, home.stat().st_uid)
        # The setting is a list, in which quotes keep a comma or a space in the path together.
        settings = {**SETTINGS, "unix_socket_directories": '"{}"'.format(str(socket_folder).replace('"', '""'))}
        argv: list[str | Path] = [
            programs / "postgres",
            "-D",
            home / "data",
            *(f"--{name}={value}" for name, value in settings.items()),
        ]
        log = lock.folder / "logs" / "postgres.log"
        command = Command("PostgreSQL", argv, log, _ENV, stop_signal=signal.SIGINT, grace=GRACE, user=user)
        server = cls(GuardedProcess.start(command, lock), socket_folder)
        try:
            await server.process.wait_until_ready(server._accepts, READY_WITHIN)
        except BaseException:
            await server.stop()
            raise
        return server

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database; without `+asyncpg` it is one for asyncpg itself."""
        where = f"host={quote(str(self._socket_folder))}&port={PORT}"
        return f"postgresql+asyncpg://{OWNER}@/{quote(database, safe='')}?{where}"

    async def create_database(self, name: str) -> bool:
        """Create the database unless it exists; tell whether it was created."""
        connection = await self._connect()
        try:
            if await connection.fetchval("select 1 from pg_database where datname = $1", name):
                return False
            quoted = name.replace('"', '""')
            await connection.execute(f'create database "{quoted}"')
        finally:
            await connection.close()
        return True

    async def stop(self) -> int:
        """Shut down fast: open transactions are rolled back, data is flushed. Return the exit code."""
        code = await self.process.stop()
        if self._socket_folder == short_socket_folder(self.process.command.log.parents[1]):
            shutil.rmtree(self._socket_folder, ignore_errors=True)
        return code

    async def _accepts(self) -> bool:
        try:
            connection = await self._connect()
        except (FileNotFoundError, ConnectionError, asyncpg.CannotConnectNowError):
            return False
        await connection.close()
        return True

    async def _connect(self) -> "asyncpg.Connection":
        return await asyncpg.connect(self.url("postgres").replace("+asyncpg", ""), timeout=10)


def _home(folder: Path, user: User | None) -> Path:
    home = folder / "postgres"
    home.mkdir(mode=0o700, exist_ok=True)
    if user is not None:
        check_reachable(home, user)
        home.chmod(0o700)
        shutil.chown(home, user.uid, user.gid)
    return home


async def _create(programs: Path, home: Path, user: User | None, lock: FolderLock) -> None:
    """Run initdb under another name and rename at the end: a killed initdb must not pass for a database."""
    unfinished = home / "data.unfinished"
    if unfinished.exists():
        shutil.rmtree(unfinished)
    options = ["--username", OWNER, "--auth-local=peer", "--auth-host=reject", "--encoding=UTF8", "--no-instructions"]
    # The builtin provider sorts alike on every system and release; libc's order changes with the system's library.
    options += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    log = lock.folder / "logs" / "initdb.log"
    command = Command("initdb", [programs / "initdb", "-D", unfinished, *options], log, _ENV, user=user)
    process = GuardedProcess.start(command, lock)
    try:
        code = await process.wait()
    finally:
        await process.stop()
    if code:
        raise EmbeddedError(f"initdb ended with exit code {code}; the end of {log}:\n{last_lines(log)}")
    _let_in_only_us(unfinished)
    unfinished.rename(home / "data")
    sync_folder(home)


def _let_in_only_us(data: Path) -> None:
    """Ask the kernel who connects: as root the socket is `nobody`'s, and whoever else is that must not come in by it.

    Written in place, so that the files stay their owner's.
    """
    us = pwd.getpwuid(os.geteuid()).pw_name
    (data / "pg_hba.conf").write_text("local all all peer map=us\n", encoding="utf-8")
    (data / "pg_ident.conf").write_text(f'us "{us}" {OWNER}\n', encoding="utf-8")
