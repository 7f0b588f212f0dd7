"""A statement within a transaction of somebody else's, whom we leave to commit it: SQLAlchemy's, or asyncpg's alone."""

from functools import cache
from typing import Any, TypeAlias, cast

import asyncpg
from sqlalchemy import Executable
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from integrations.domain.errors import StopError

Within: TypeAlias = AsyncSession | AsyncConnection | asyncpg.Connection
"""A session, or a connection of SQLAlchemy's or asyncpg's own, pooled or not."""


async def scalar(within: Within, statement: Executable, values: dict[str, Any]) -> Any:
    """The first column of the first row, or None.

    Raises StopError for a connection of asyncpg's that is in no transaction: there each statement is committed alone.
    """
    if isinstance(within, AsyncSession | AsyncConnection):
        return (await within.execute(statement, values)).scalar()
    if not within.is_in_transaction():
        raise StopError(
            "an event is recorded within the transaction of the change it tells of, and this connection is in none: "
            "`async with connection.transaction():` around both"
        )
    compiled = _compiled(statement)
    given = compiled.params | values
    # In the order of $1, $2 and so on.
    return await within.fetchval(str(compiled), *(given[name] for name in compiled.positiontup or ()))


@cache
def _compiled(statement: ClauseElement) -> SQLCompiler:
    return cast("SQLCompiler", statement.compile(dialect=dialect()))  # type: ignore[no-untyped-call]
