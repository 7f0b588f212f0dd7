"""Counting what may be too much to be counted while somebody waits for it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row, TextClause, text
from sqlalchemy.exc import DBAPIError

from integrations.db.session import Sessions

PATIENCE: Final = 5.0
"""Seconds that a person who asks for the status waits for one number."""
_CANCELED: Final = "57014"


async def in_time(
    sessions: Sessions, statement: TextClause, values: Mapping[str, Any] | None = None, seconds: float = PATIENCE
) -> Sequence[Row[Any]] | None:
    """What a reading statement finds, in a transaction of its own. None when it took longer than that."""
    try:
        async with sessions.begin() as session:
            await session.execute(_LIMIT, {"limit": f"{int(seconds * 1000)}ms"})
            return (await session.execute(statement, values or {})).all()
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _CANCELED:
            raise
        return None


_LIMIT: Final = text("SELECT set_config('statement_timeout', :limit, true)")
