"""Can a delivery be written? Tried with a row that is rolled back: readiness and the audit ask the same."""

from typing import Final
from uuid import uuid4

from sqlalchemy import text

from integrations.db.session import Sessions

# Whoever asks is answered soon, though the table is locked by a migration or the disk is slow.
_SOON: Final = text("SET LOCAL statement_timeout = '2s'")
# Never committed, so no dispatcher sees it; under an id of its own, so that no two probes wait for each other. With a
# place, as the ingress writes it: that takes a right to the sequence too.
_INSERT: Final = text("""
INSERT INTO service_webhook_deliveries (id, provider_id, channel, delivery_id, identity, reaction, headers, body, part,
  position) OVERRIDING SYSTEM VALUE
VALUES (cast(:id AS uuid), '(probe)', '(probe)', cast(cast(:id AS uuid) AS text), 'id', 'event', '{}', '', 0,
  nextval('service_webhook_deliveries_position_seq'))
""")


async def probe(sessions: Sessions) -> None:
    """Insert a delivery and roll it back. Raises DBAPIError when the ledger takes none, or not within two seconds."""
    async with sessions() as session, session.begin() as transaction:
        await session.execute(_SOON)
        await session.execute(_INSERT, {"id": uuid4()})
        await transaction.rollback()
