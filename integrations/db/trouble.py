"""What a database error says: of the item that was being written, or only of the database."""

from typing import Final

from sqlalchemy.exc import DBAPIError

from integrations.domain.ledger import Failure

_CANCELED: Final = "57014"
_SESSION_ENDED: Final = ("08003", "08006", "57P01", "57P02")
# PostgreSQL, appendix A: connection, transaction rollback (deadlocks), resources, operator intervention, system, and
# locks that could not be had. They come and go, and say nothing of what was written.
_OF_THE_DATABASE: Final = ("08", "25", "40", "53", "55", "57", "58", "XX")


def is_the_items(error: DBAPIError) -> bool:
    """Whether the same statement would fail again because of what it writes, and only for that."""
    state = sqlstate(error)
    return not error.connection_invalidated and state is not None and not state.startswith(_OF_THE_DATABASE)


def ended_the_session(error: DBAPIError) -> bool:
    """Whether the session ended in the middle of the statement: by the server's end, or by what the statement did."""
    return sqlstate(error) in _SESSION_ENDED


def failure_of(error: DBAPIError) -> Failure:
    """For people, and for grouping. Only the message: its details show rows."""
    said = error.orig.__cause__ if error.orig else None
    kind = type(said or error).__name__.removesuffix("Error")
    return Failure.of(kind, str(getattr(said, "message", None) or kind))


def sqlstate(error: DBAPIError) -> str | None:
    """The five characters of the SQL standard; None for an error that came without, such as a closed socket."""
    return getattr(error.orig, "sqlstate", None)


def timed_out(error: DBAPIError) -> bool:
    """Whether the server gave up on the statement because it took too long."""
    return sqlstate(error) == _CANCELED
