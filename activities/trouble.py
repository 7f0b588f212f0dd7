"""What is said of a database in trouble, in errors and logs that people read."""

from sqlalchemy.exc import DBAPIError

from integrations.observability import scrubbed


def said(error: Exception) -> str:
    """Without the statement, which is long, and without parameters, which engines hide already."""
    why = error.orig if isinstance(error, DBAPIError) and error.orig else error
    return scrubbed(f"Postgres: {str(why).splitlines()[0] if str(why) else type(why).__name__}")
