"""Outages in each way that they go, for the histories that CI replays."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

from temporalio.client import Client, WorkflowHandle

from integrations import temporal
from integrations.domain.outage import Isolate, Limits, OutageRequest, Pin, Sample, Scope, Word
from integrations.domain.outage_steps import Scoped
from tests.workflows.fake_outage import CIRCUIT, QUEUE, SHIELD, FakeOutage
from tests.workflows.fakes import workers
from workflows.outage import ProviderOutageWorkflow

_SOON: Final = timedelta(milliseconds=50)
_HURRY: Final = Limits(every=_SOON, probe_first=_SOON, probe_most=_SOON, step=_SOON, lease=_SOON * 6)
_ADA: Final = Word(by="ada", reason="their status page says that it is over")
Said = Callable[[WorkflowHandle[Any, Any], FakeOutage], Awaitable[object]]


async def _outage(
    client: Client, fake: FakeOutage, says: Said | None = None, **changes: Any
) -> WorkflowHandle[Any, Any]:
    request = OutageRequest(
        **({"provider_id": "simulator", "by": "outage-detector", "reason": "24 of 30 calls failed"} | changes)
    )
    async with workers(client, outage=fake):
        handle = await temporal.start_outage(client, request)
        if says is not None:
            while fake.probes < 2:
                await asyncio.sleep(0.02)
            await says(handle, fake)
        await handle.result()
    return handle


async def healed(client: Client) -> WorkflowHandle[Any, Any]:
    samples = [Sample(calls=20)] * 2 + [Sample(calls=20, failing=5)]
    return await _outage(client, FakeOutage(parked=3, samples=samples, validated=[False], limits=_HURRY))


async def relapsed(client: Client) -> WorkflowHandle[Any, Any]:
    return await _outage(client, FakeOutage(samples=[Sample(calls=20, failing=15)], limits=_HURRY))


async def unfounded(client: Client) -> WorkflowHandle[Any, Any]:
    unclear = Scoped(scope=Scope.PROVIDER, why="1 of 2 probes failed", clear=False)
    answered = Scoped(scope=Scope.PROVIDER, why="2 probes were answered")
    return await _outage(client, FakeOutage(scoped=[unclear, answered], limits=_HURRY))


async def reached_further(client: Client) -> WorkflowHandle[Any, Any]:
    first = Scoped(scope=Scope.ENDPOINT, names=("notes.read",), targets=(CIRCUIT,), why="notes.read fails")
    whole = Scoped(scope=Scope.PROVIDER, targets=(QUEUE, SHIELD), why="now everything fails")
    return await _outage(client, FakeOutage(scoped=[first], wider=[whole], limits=_HURRY))


async def closed_by_hand(client: Client) -> WorkflowHandle[Any, Any]:
    async def close(handle: WorkflowHandle[Any, Any], _fake: FakeOutage) -> None:
        await handle.execute_update(ProviderOutageWorkflow.close, _ADA)

    return await _outage(client, FakeOutage(down_for=10_000, limits=_HURRY), close)


async def cancelled(client: Client) -> WorkflowHandle[Any, Any]:
    async def cancel(handle: WorkflowHandle[Any, Any], _fake: FakeOutage) -> None:
        await handle.cancel()

    return await _outage(client, FakeOutage(down_for=10_000, limits=_HURRY), cancel)


async def ordered_and_pinned(client: Client) -> WorkflowHandle[Any, Any]:
    async def say(handle: WorkflowHandle[Any, Any], fake: FakeOutage) -> None:
        await handle.execute_update(ProviderOutageWorkflow.pin, Pin(by="ada", reason="a fixed quota", rate=2))
        kept = fake.kept
        while fake.kept < kept + 2:
            await asyncio.sleep(0.02)
        wish = Isolate(by="ada", reason="they say so", endpoint="notes.write")
        await handle.execute_update(ProviderOutageWorkflow.isolate, wish)
        await handle.execute_update(ProviderOutageWorkflow.unpin, _ADA)

    fake = FakeOutage(down_for=1, limits=_HURRY)
    return await _outage(client, fake, say, by="ada", hold=timedelta(seconds=1))


SCENARIOS: Final[dict[str, Callable[[Client], Awaitable[WorkflowHandle[Any, Any]]]]] = {
    "healed": healed,
    "relapsed": relapsed,
    "unfounded": unfounded,
    "reached_further": reached_further,
    "closed_by_hand": closed_by_hand,
    "cancelled": cancelled,
    "ordered_and_pinned": ordered_and_pinned,
}
