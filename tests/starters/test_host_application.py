"""docs/host-application.md: exactly its programs, run against the stack."""

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
from sqlalchemy import text

from tests.starters.conftest import Account
from tests.starters.running import CHECKOUT

PAGE = CHECKOUT / "docs" / "host-application.md"
PROGRAMS = {
    code.split(maxsplit=1)[0].lstrip('"'): code
    for code in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
}


class Host:
    """Somebody else's program, with a table of its own in the platform's database."""

    def __init__(self, account: Account, folder: Path) -> None:
        self.account = account
        self._folder = folder

    def runs(self, program: str, number: str) -> subprocess.CompletedProcess[str]:
        file = self._folder / program
        file.write_text(PROGRAMS[program], encoding="utf-8")
        stack = self.account.running.stack
        url = stack.settings.sqlalchemy_url.replace("+asyncpg", "")
        told = {"PATH": os.environ["PATH"], "RUNBOOK_DATA": str(stack.folder), "DATABASE_URL": url}
        argv = [sys.executable, str(file), self.account.word, number]
        return subprocess.run(argv, env=told, capture_output=True, text=True, timeout=90, check=False)

    async def rows(self, sql: str) -> list[Any]:
        async with self.account.running.platform.sessions.begin() as session:
            return list((await session.execute(text(sql), {"connection": self.account.id})).all())

    async def events(self) -> list[tuple[str, str]]:
        found = await self.rows(
            "SELECT name, source FROM service_lifecycle_outbox"
            " WHERE connection_id = :connection AND name LIKE 'invoice.%' ORDER BY seq"
        )
        return [(row.name, row.source) for row in found]


@pytest_asyncio.fixture
async def host(connected: Account, tmp_path: Path) -> AsyncIterator[Host]:
    async with connected.running.platform.sessions.begin() as session:
        await session.execute(
            text("CREATE TABLE invoices (number text PRIMARY KEY, paid boolean NOT NULL DEFAULT false)")
        )
    yield Host(connected, tmp_path)
    async with connected.running.platform.sessions.begin() as session:
        await session.execute(text("DROP TABLE invoices"))


async def test_its_programs_call_and_tell_and_do_nothing_twice(host: Host) -> None:
    ran = [host.runs("invoices.py", "7"), host.runs("invoices.py", "7")]

    assert [done.returncode for done in ran] == [0, 0], ran
    assert ran[0].stdout.startswith("invoice 7 is note note_")
    assert ran[1].stdout == ran[0].stdout
    assert await host.events() == [("invoice.approved", "invoices")]

    paid = [host.runs("paid.py", "7"), host.runs("paid.py", "7")]

    assert [done.stdout for done in paid] == ["invoice 7 is paid\n", "that invoice 7 is paid was told before\n"], paid
    assert await host.events() == [("invoice.approved", "invoices"), ("invoice.paid", "invoices")]
    assert [tuple(row) for row in await host.rows("SELECT number, paid FROM invoices")] == [("7", True)]


async def test_a_call_that_is_blocked_says_what_is_missing(host: Host) -> None:
    await host.account.running.platform.disconnect(host.account.id, by="the test", reason="over")

    blocked = host.runs("invoices.py", "8")

    assert blocked.returncode == 1
    assert blocked.stderr.startswith("blocked, not sent: the connection is disconnected")
