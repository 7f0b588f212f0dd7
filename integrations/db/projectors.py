"""The outbox's projectors: each one function that says, in SQL, what becomes of a batch of events.

A projector is given the name of a relation with one row for each event that is due, and returns the statement that
inserts what it makes of them. It runs inside the transaction that settles them, so it must write here and nowhere else;
what has to leave the database is written down here and sent by a drain of its own. The ledger keeps it from ever seeing
an event twice. The relation's columns are those of `service_lifecycle_outbox`, and `out_of_order`: it is replayed, and
later events of its order key may have been projected before.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from integrations.db.wildcards import like

Projector = Callable[[str], str]
DUE: Final = (
    "event_id, id, name, provider_id, scope_type, scope_id, connection_id, order_key, part, seq, source, payload, "
    "occurred_at"
)
"""What a projector is shown of an event, beside `out_of_order`."""


def activity(due: str) -> str:
    """What happened to a tenant's connections, for people to read."""
    columns = (
        "event_id, name, provider_id, scope_type, scope_id, connection_id, order_key, seq, source, payload, "
        "occurred_at, out_of_order"
    )
    return f"INSERT INTO service_activity_entries ({columns}) SELECT {columns} FROM {due} ORDER BY id"  # noqa: S608


def notification(due: str, status: str = "'pending'") -> str:
    """One request for each event; whom it concerns is found out when it is expanded."""
    columns = "event_id, name, order_key, seq, out_of_order"
    return (
        f"INSERT INTO service_notification_requests ({columns}, status) "  # noqa: S608
        f"SELECT {columns}, {status} FROM {due} ORDER BY id"
    )


def notifying(patterns: Iterable[str]) -> Projector:
    """The same, by a worker that knows which events are told to anybody: the others wait for nothing."""
    # A colon would begin a parameter.
    quoted = ("'" + like(pattern).replace("'", "''").replace(":", r"\:") + "'" for pattern in patterns)
    status = f"CASE WHEN name LIKE ANY(ARRAY[{', '.join(quoted)}]) THEN 'pending' ELSE 'unmapped' END"
    return lambda due: notification(due, status)


PROJECTORS: Final[Mapping[str, Projector]] = {"activity": activity, "notification": notification}
"""Each with the name that its rows in the ledger have. Another one is a function and a line here."""
