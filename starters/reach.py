"""How a command reaches the platform: its settings, the database, Temporal, and the check that they are a pair."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from asyncpg import PostgresError
from sqlalchemy.exc import InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from integrations import settings, temporal
from integrations.db import binding
from integrations.db.session import Sessions, make_engine, make_sessions
from integrations.domain.errors import StopError
from integrations.settings import Settings
from starters.client import Platform
from starters.embedded.live import read_live
from starters.embedded.location import locate
from starters.shell import UnreachableError, ago, err

_UNDEFINED_TABLE: Final = "42P01"
_POLL: Final = timedelta(seconds=75)
"""A living worker asks for work at least this often: a long poll of 60 s and some slack."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What a command works with."""

    settings: Settings
    sessions: Sessions

    async def client(self) -> Client:
        """Temporal. Raises TemporalUnreachableError."""
        return await temporal.connect(self.settings)

    async def platform(self) -> Platform:
        """The platform, ready to be asked for something. Raises TemporalUnreachableError."""
        return Platform(self.settings, self.sessions, await self.client())


def read_settings() -> Settings:
    """The settings from the environment, or from the stack that runs in this checkout.

    Raises UnreachableError when there is neither, and SettingsError for a wrong one.
    """
    folder = locate()
    live = read_live(folder)
    try:
        return settings.load(live)
    except settings.SettingsError as error:
        if live is None and "is not set" in str(error):
            wanted = "RUNBOOK_DATABASE_URL and RUNBOOK_KEYS_FILE (or RUNBOOK_KEY) are not both set"
            raise UnreachableError(
                f"no stack is running in {folder}, and {wanted}: start one with `make up`, or set them"
            ) from None
        raise


@asynccontextmanager
async def open_database(config: Settings) -> AsyncIterator[AsyncEngine]:
    """The database. What a driver says of it becomes a sentence with the address and the way out."""
    engine = make_engine(config.sqlalchemy_url, pool_size=2)
    address = binding.shown(config.sqlalchemy_url)
    try:
        yield engine
    except (OSError, InterfaceError, OperationalError, PostgresError) as error:
        way_out = "start the stack with `make up`, or correct RUNBOOK_DATABASE_URL"
        raise UnreachableError(f"the database {address} does not answer: {_first_line(error)}; {way_out}") from None
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != _UNDEFINED_TABLE:
            raise
        raise StopError(
            f"the database {address} has not the tables of this release: run `runbook db upgrade`"
        ) from None
    finally:
        await engine.dispose()


def _first_line(error: Exception) -> str:
    text = str(getattr(error, "orig", None) or error) or type(error).__name__
    return text.splitlines()[0][:200]


@asynccontextmanager
async def reading() -> AsyncIterator[Reach]:
    """For commands that change nothing."""
    config = read_settings()
    async with open_database(config) as engine:
        yield Reach(config, make_sessions(engine))


@asynccontextmanager
async def changing() -> AsyncIterator[Reach]:
    """For commands that change something: prints the target, and refuses a pair that does not belong together."""
    async with reading() as reach:
        wanted = temporal.target(reach.settings)
        err.print(f"Target: {binding.shown(reach.settings.sqlalchemy_url)} with Temporal at {wanted}", markup=False)
        async with reach.sessions.begin() as session:
            await binding.check(session, reach.settings.sqlalchemy_url, wanted)
        yield reach


async def no_worker_since(client: Client, queue: str) -> str | None:
    """A sentence when no worker polls the queue, with the last time that one did; None when one does."""
    newest: datetime | None = None
    for kind in (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY):
        described = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind)
        )
        for poller in described.pollers:
            seen = poller.last_access_time.ToDatetime(tzinfo=UTC)
            newest = seen if newest is None else max(newest, seen)
    if newest is not None and datetime.now(UTC) - newest < _POLL:
        return None
    last = "for more than 5 minutes" if newest is None else f"since {newest:%H:%M:%S} UTC ({_age(newest)})"
    return f"no worker has polled the queue {queue!r} {last}: start one with `runbook worker`"


def _age(at: datetime) -> str:
    return ago(datetime.now(UTC) - at)


async def warn_without_worker(client: Client, *queues: str) -> None:
    """Say on stderr which queues nobody works on: what is started waits there and is not lost."""
    for queue in queues:
        sentence = await no_worker_since(client, queue)
        if sentence:
            err.print(f"Note: {sentence}", markup=False)
