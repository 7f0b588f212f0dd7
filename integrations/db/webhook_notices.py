"""A delivery's row as handlers see it: once for each thing that it tells."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row

from integrations.domain.ids import derived_event_id
from integrations.domain.webhook import SELF_TEST_HEADER, Reaction

COLUMNS: Final = (
    "id, id AS delivery, position, provider_id, channel, delivery_id, reaction, event, resource, account, notices, "
    f"received_at, sent_at, occurred_at, due_at, woken, headers ->> '{SELF_TEST_HEADER}' AS mark"
)
"""What a handler is shown of a delivery's row."""


@dataclass(frozen=True, slots=True)
class Notified:
    """One of several notices of a delivery, in the place of its row."""

    id: UUID
    """Its own, so that what is made of it has another id than what is made of the next."""
    delivery: UUID
    provider_id: str
    channel: str
    delivery_id: str
    reaction: str
    event: str
    account: str
    resource: str
    received_at: datetime
    sent_at: datetime | None
    occurred_at: datetime | None


def notified(row: Row[Any]) -> Sequence[Any]:
    """The row itself where it tells one thing, else one `Notified` for each."""
    if not row.notices:
        return [row]
    return [
        Notified(
            id=derived_event_id(row.id, f"notice {n}"),
            delivery=row.id,
            provider_id=row.provider_id,
            channel=row.channel,
            delivery_id=row.delivery_id,
            reaction=Reaction(reaction),
            event=event,
            account=account,
            resource=row.resource,
            received_at=row.received_at,
            sent_at=row.sent_at,
            occurred_at=row.occurred_at,
        )
        for n, (reaction, event, account) in enumerate(row.notices)
    ]
