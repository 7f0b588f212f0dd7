"""A batch that fails, in halves and in order, until what fails stands alone. Within the caller's transaction."""

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from integrations.db.dedicated import savepoint
from integrations.db.outbox_trouble import brake, leave_flow
from integrations.db.trouble import failure_of, is_the_items
from integrations.domain.ledger import WHOLE_AFTER
from integrations.domain.outbox import Pair

Attempt = Callable[[Sequence[UUID]], Awaitable[int]]
"""Projects events, given in order. How many it did: those behind a hold are not among them."""


class Isolation:
    """`in_a_row` outlives it: how many failed at each projector since it last worked."""

    def __init__(self, connection: AsyncConnection, in_a_row: dict[str, int]) -> None:
        self._connection = connection
        self._in_a_row = in_a_row
        self.failed: list[Pair] = []
        """What left the flow."""

    async def project(self, projector: str, ids: Sequence[UUID], attempt: Attempt) -> None:
        """Raises DBAPIError when it is the database that has trouble, and no event."""
        if not ids:
            return
        try:
            async with savepoint(self._connection):
                done = await attempt(ids)
        except DBAPIError as error:
            if not is_the_items(error):
                raise
            if len(ids) == 1:
                await self._leave(projector, ids[0], error)
                return
            middle = len(ids) // 2
            await self.project(projector, ids[:middle], attempt)
            await self.project(projector, ids[middle:], attempt)
            return
        if done:
            self._in_a_row[projector] = 0

    async def _leave(self, projector: str, event_id: UUID, error: DBAPIError) -> None:
        pair = await leave_flow(self._connection, event_id, projector, failure_of(error))
        if pair is None:
            return
        self.failed.append(pair)
        self._in_a_row[projector] += 1
        if self._in_a_row[projector] >= WHOLE_AFTER:
            # The projector itself is broken: this one tries for all, and the others wait without a workflow each.
            await brake(self._connection, projector, event_id)
