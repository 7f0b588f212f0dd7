"""The schema: brought up to date, and compared with what the code believes."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db import (
    automation_tables,
    call_tables,
    ledger_tables,
    notification_tables,
    outage_tables,
    surge_tables,
    tables,
    webhook_tables,
)
from integrations.db.base import Base
from integrations.domain.errors import StopError

_ALL: Final = (
    tables,
    ledger_tables,
    notification_tables,
    call_tables,
    automation_tables,
    surge_tables,
    outage_tables,
    webhook_tables,
)
"""Imported for what they declare."""
_SCRIPTS: Final = Path(__file__).parent / "migrations"
_LOCK: Final = 0x72756E626F6F6B  # "runbook": any number that nobody else locks


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    return config


def newest() -> str:
    """The revision that this code was written for."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def _upgrade(connection: Connection) -> str | None:
    # Two upgrades at once wait for each other here, and the second finds nothing to do.
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    tables = inspect(connection).get_table_names()
    ours = sorted(set(tables) & set(Base.metadata.tables))
    if ours and "alembic_version" not in tables:
        raise StopError(
            f"this database has tables named like ours ({', '.join(ours[:3])}, …) but no alembic_version: they were "
            "not made by `runbook db upgrade`, and nothing was changed. Use an empty database"
        )
    before = MigrationContext.configure(connection).get_current_revision()
    try:
        command.upgrade(_config(connection), "head")
    except CommandError as error:
        raise StopError(
            f"this database's alembic_version says {before!r}, which is no revision of ours ({error}): it belongs to "
            "another application or to a newer release, and nothing was changed. Use a database of its own"
        ) from None
    return before


async def upgrade(engine: AsyncEngine) -> tuple[str | None, str]:
    """Upgrade to the newest revision, in one transaction. The revision before (None: empty) and after.

    Raises StopError when there are tables of our names that Alembic does not know.
    """
    async with engine.begin() as connection:
        before = await connection.run_sync(_upgrade)
    return before, newest()


async def revision(engine: AsyncEngine) -> str | None:
    async with engine.connect() as connection:
        return await connection.run_sync(lambda c: MigrationContext.configure(c).get_current_revision())


async def drift(engine: AsyncEngine) -> list[str]:
    """Where the database differs from `tables.py`, a line each. Empty: they agree."""

    def compare(connection: Connection) -> list[str]:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "include_object": _ours}
        )
        return [_told(difference) for difference in compare_metadata(context, Base.metadata)]

    async with engine.connect() as connection:
        return await connection.run_sync(compare)


def _ours(_object: object, name: str | None, kind: str, _reflected: bool, _compared: object) -> bool:
    # A host application may share the database: its tables are none of our business.
    return kind != "table" or (name or "") in Base.metadata.tables


def _told(difference: object) -> str:
    parts = difference if isinstance(difference, tuple | list) else (difference,)
    return " ".join(_told(p) if isinstance(p, tuple | list) else str(getattr(p, "name", None) or p) for p in parts)


def write_revision(connection: Connection, message: str) -> None:
    """Write a new revision file from the difference between the database and `tables.py`: for developers."""
    command.revision(_config(connection), message, autogenerate=True, rev_id=f"{len(list(_versions())) + 1:04}")


def _versions() -> list[Path]:
    return sorted((_SCRIPTS / "versions").glob("*.py"))
