"""A worker whose handler of events ends the process at one of them: python -m tests.chaos.deadly_worker."""

import os
import signal
from collections.abc import Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.webhook_events import RECEIVED, tell
from integrations.db.webhook_handlers import Handling, Outcome
from integrations.domain.webhook import Reaction
from worker import wiring

DEADLY: Final = "ends the process"


async def deadly(session: AsyncSession, rows: Sequence[Any], replayed: bool) -> dict[UUID, Outcome]:
    """As the platform's own; not one statement more of a set that holds the deadly one."""
    if any(row.event == DEADLY for row in rows):
        os.kill(os.getpid(), signal.SIGKILL)
    told = await tell(session, rows, RECEIVED, replayed=replayed)
    return {id_: Outcome(words) for id_, words in told.words.items()}


if __name__ == "__main__":
    vars(wiring)["Handling"] = partial(Handling, handlers={Reaction.EVENT: deadly})
    wiring.main()
