"""`runbook` as a person runs it: a process of its own, told nothing but where the stack's folder is."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from integrations.db import connections
from integrations.domain.errors import StopError
from starters.client import invitation_link
from starters.demo.owner import Owner
from tests.starters import running
from tests.starters.running import Running

RUNBOOK = Path(sys.executable).with_name("runbook")
UNKNOWN = "3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11"


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.has_plugin(running.__name__):
        config.pluginmanager.register(running, running.__name__)


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout: anything beside it is an error."""
        return json.loads(self.out)

    @property
    def printed_commands(self) -> list[list[str]]:
        """What could be pasted: each `runbook …` in what was said, without the word itself."""
        found = re.findall(
            r"runbook ((?:connections|reauth|refresh|tasks|outage|outbox|notifications|automation|keys|db|status"
            r"|doctor)[^\n`)]*)",
            self.out + self.err,
        )
        return [shlex.split(words.split("  ")[0]) for words in found]


Runbook = Callable[..., Ran]


def run(*words: str, stdin: str = "", **environment: str) -> Ran:
    """Run a command, its stdin no terminal; `environment` is all that it has beside PATH and HOME."""
    told = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | environment
    done = subprocess.run(
        [RUNBOOK, *words], env=told, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def runbook(running: Running) -> Runbook:
    def on_the_stack(*words: str, stdin: str = "", **environment: str) -> Ran:
        return run(*words, stdin=stdin, RUNBOOK_DATA=str(running.stack.folder), **environment)

    return on_the_stack


@dataclass(frozen=True)
class Account:
    """A connection of the stack and its owner, Ada."""

    running: Running
    id: UUID

    @property
    def word(self) -> str:
        return str(self.id)

    async def status(self) -> str:
        async with self.running.platform.sessions.begin() as session:
            return (await connections.find(session, self.id)).status

    async def until(self, status: str) -> None:
        async with asyncio.timeout(30):
            while await self.status() != status:
                await asyncio.sleep(0.05)

    async def link(self) -> str:
        async with asyncio.timeout(30):
            while True:
                try:
                    found = await invitation_link(self.running.stack.settings, self.running.platform.sessions, self.id)
                except StopError:  # the lifecycle has not opened yet
                    await asyncio.sleep(0.05)
                else:
                    return found[0]

    async def consent(self) -> None:
        async with Owner("ada@acme.example", "ada") as ada:
            await ada.consent(await self.link())
        await self.until("active")


@pytest_asyncio.fixture
async def invited(running: Running) -> Account:
    """A connection whose owner has not answered yet."""
    account = Account(running, (await running.platform.add("simulator", "org:acme", by="the test")).id)
    await account.link()
    return account


@pytest_asyncio.fixture
async def connected(invited: Account) -> AsyncIterator[Account]:
    """A working connection; given up at the end, so that the stack is not in trouble for the next test."""
    await invited.consent()
    yield invited
    await invited.running.platform.disconnect(invited.id, by="the test", reason="over")
