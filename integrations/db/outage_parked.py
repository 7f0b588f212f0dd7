"""Which jobs waited for the end of an outage."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func

from integrations.db.outage_tables import ParkedJob
from integrations.domain.outage_words import providers


def waited(provider_id: str, names: Sequence[str], since: datetime, until: datetime | None) -> ColumnElement[bool]:
    """Parked before its end and not settled before its beginning: also one that was parked before it was found."""
    end = func.coalesce(until, func.now())
    return and_(
        ParkedJob.provider_id.in_(providers(provider_id, names)),
        ParkedJob.parked_at <= end,
        func.coalesce(ParkedJob.settled_at, end) >= since,
    )
