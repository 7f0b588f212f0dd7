"""`refresh.recording`: what it costs a call of a provider that it is recorded."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import nullcontext
from statistics import median
from typing import Final
from uuid import uuid4

from sqlalchemy import text

from bench.result import Result
from bench.stage import Stage
from integrations.domain.call import Caller
from integrations.domain.gate import Purpose
from integrations.domain.verdict import Meaning
from integrations.providers import catalog
from integrations.providers.catalog import Catalog
from integrations.providers.http import make_client
from integrations.providers.oauth import Providers
from worker.recorder import recording

REQUIRED: Final = 0.97
TURNS: Final = 15
CALLS: Final = 200
"""Of one side in one turn: half a second's, and so a write or two."""
_AT_ONCE: Final = 20
"""As a worker has it, for each provider."""
_GRANTS: Final = ["notes.read"]


async def cost(stage: Stage) -> Sequence[Result]:
    """Rates are of the processor's seconds, and of neighbours in time: other programs do more to a clock than this."""
    turns = max(2, round(TURNS * stage.scale))
    settings = stage.stack.settings
    known = catalog.load(settings.providers, settings.simulator_url, stage.stack.environment)
    await _spent(stage, known, recorded=True)
    await _spent(stage, known, recorded=False)
    spent: dict[bool, list[float]] = {True: [], False: []}
    for number in range(turns):
        for recorded in (True, False) if number % 2 == 0 else (False, True):
            spent[recorded].append(await _spent(stage, known, recorded=recorded))
            stage.advance(CALLS)
    async with stage.sessions.begin() as session:
        rows = await session.scalar(text("SELECT count(*) FROM service_provider_calls WHERE outcome = 'ok'"))
    assert rows == (turns + 1) * CALLS, rows
    n, rate = turns * CALLS, CALLS / median(spent[False])
    return [
        Result(
            "refresh.recording",
            n,
            rate * median(bare / recorded for recorded, bare in zip(spent[True], spent[False], strict=True)),
            f"calls/s of processor, {_AT_ONCE} at once",
            n,
            rate,
            REQUIRED,
            "the same calls, which nobody records",
        )
    ]


async def _spent(stage: Stage, known: Catalog, *, recorded: bool) -> float:
    """The processor's seconds, until all is written where it is recorded."""
    async with make_client() as http:
        began = time.process_time()
        async with recording(stage.sessions) if recorded else nullcontext() as record:
            await _calls(Providers(known, http, record))
        return time.process_time() - began


async def _calls(providers: Providers) -> None:
    """Ask for tokens in our own name: what any number of can be made of, without a person."""
    left = iter(range(CALLS))

    async def some() -> None:
        for _ in left:
            caller = Caller(tenant="org:acme", connection_id=uuid4(), purpose=Purpose.REFRESH, attempt=1)
            answer = await providers.client("simulator", caller=caller).client_credentials(_GRANTS)
            assert answer.verdict.meaning is Meaning.OK, answer.verdict

    await asyncio.gather(*(some() for _ in range(_AT_ONCE)))
