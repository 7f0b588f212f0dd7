"""Before a call: does a circuit hold its endpoint back? Asked where the call's first rows are read or locked.

What is let through is written before the call and nothing of it after one: a completed call is never made again because
this could not be stored.
"""

import random
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import mitigations
from integrations.domain.errors import TryAgainError
from integrations.domain.outage import comes_back

TOKEN: Final = "token"  # noqa: S105 - an endpoint's name
INTROSPECT: Final = "introspect"


async def ask(session: AsyncSession, provider_id: str, *endpoints: str) -> None:
    """Let one call of each of these endpoints through, by the names that calls are recorded by.

    Raises TryAgainError when a circuit is not to let another one through yet: then none of them is.
    """
    # In one order everywhere: each that is let through is locked until the commit.
    for endpoint in sorted(set(endpoints)):
        held = await mitigations.circuit(session, provider_id, endpoint)
        if held is None or await mitigations.admitted(session, held):
            continue
        by = (await mitigations.holder(session, held)).provider_id
        rate = held.rate or 0.0
        soonest, latest = comes_back(rate)
        raise TryAgainError(
            f"{endpoint} at {provider_id} is held back to {rate:g} calls/s, {held.reason}: runbook outage explain {by}",
            # Those that wait together must not come back together.
            after=soonest + (latest - soonest) * random.random(),  # noqa: S311
        )
