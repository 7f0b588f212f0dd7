"""Traffic that goes on whatever happens, a provider that breaks under it, and what the provider saw of it."""

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import select, text, update
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError

from integrations import task_queues, temporal
from integrations.db import calls
from integrations.db.call_tables import ProviderCall as Call
from integrations.db.outage_tables import Mitigation, Outage, OutageNote, ParkedJob
from integrations.db.session import Sessions
from integrations.db.tables import Connection, Credential
from integrations.domain.call import Caller, ProviderCall
from integrations.domain.gate import Purpose
from integrations.domain.job import JobRequest, JobResult
from integrations.domain.outage import Brake, OutageResult, Step, outage_id
from integrations.domain.refresh import SweepRequest
from integrations.domain.verdict import Meaning
from integrations.settings import Settings
from integrations.task_queues import provider_queue

_BEFORE = text("""
INSERT INTO service_provider_calls
  (at, id, provider_id, endpoint, purpose, tenant, connection_id, outcome, rule, status, attempt, duration_ms)
SELECT now() - each * make_interval(secs => 1 / cast(:rate AS float)), each, :provider,
  (ARRAY['notes.read', 'token'])[1 + each % 2], (ARRAY['use', 'refresh'])[1 + each % 2], 'org:acme-0',
  gen_random_uuid(), 'ok', 'success', 200, 1, 20
FROM generate_series(1, cast(600 * :rate AS int)) AS each
""")
_OWN = ("/api/", "/oauth/token")


@dataclass
class Jobs:
    """What was started while traffic went on."""

    handles: list[WorkflowHandle[Any, JobResult]] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    """The keys of the jobs that write."""

    async def results(self, within: float = 90) -> list[JobResult]:
        return await asyncio.wait_for(asyncio.gather(*(each.result() for each in self.handles)), within)


@dataclass
class Ground:
    client: Client
    sessions: Sessions
    http: httpx.AsyncClient
    settings: Settings

    @asynccontextmanager
    async def traffic(
        self,
        ids: Sequence[UUID],
        *,
        provider_id: str = "simulator",
        jobs: float = 8,
        refreshes: float = 8,
        capabilities: Sequence[str] = ("notes.read", "notes.write"),
        patience: timedelta | None = None,
    ) -> AsyncIterator[Jobs]:
        """So many a second of each, until the end of the block: what is under way then goes on by itself."""
        made = Jobs()
        doing = [asyncio.create_task(self._jobs(made, ids, provider_id, jobs, capabilities, patience))] if jobs else []
        if refreshes:
            doing.append(asyncio.create_task(self._refreshes(ids, provider_id, refreshes)))
        try:
            yield made
        finally:
            for each in doing:
                each.cancel()
            for end in await asyncio.gather(*doing, return_exceptions=True):
                if not isinstance(end, asyncio.CancelledError):
                    raise end

    async def _jobs(
        self,
        made: Jobs,
        ids: Sequence[UUID],
        provider_id: str,
        rate: float,
        capabilities: Sequence[str],
        patience: timedelta | None,
    ) -> None:
        async with self.sessions.begin() as session:
            rows = (await session.scalars(select(Connection).where(Connection.id.in_(ids)))).all()
        number = 0
        async for _ in _each(1 / rate):
            row, key, number = random.choice(rows), secrets.token_hex(8), number + 1  # noqa: S311 - of a test
            capability = capabilities[number % len(capabilities)]
            request = JobRequest(
                connection_id=row.id,
                provider_id=provider_id,
                tenant=row.tenant,
                capability=capability,
                idempotency_key=key,
                payload={"text": key} if capability == "notes.write" else {},
                by="a test",
                reason="traffic",
                patience=patience,
            )
            # Started, and heard of: a cancellation in between would leave one that nobody waits for.
            started = await asyncio.shield(temporal.start_job(self.client, request))
            made.handles.append(self.client.get_workflow_handle(started.id, result_type=JobResult))
            made.written += [key] if capability == "notes.write" else []

    async def _refreshes(self, ids: Sequence[UUID], provider_id: str, rate: float) -> None:
        async for _ in _each(1.0):
            due = random.sample(list(ids), min(round(rate), len(ids)))
            await self.due(due)
            await temporal.start_sweep(self.client, SweepRequest(provider_id=provider_id))

    async def catches_up(self, provider_id: str = "simulator") -> None:
        """Sweeps, as the schedule starts them, until nothing is late for the provider's trouble."""
        late = select(Credential.id).where(
            Credential.provider_id == provider_id, Credential.state == "active", Credential.failing_since.is_not(None)
        )

        async def is_done() -> bool:
            await temporal.start_sweep(self.client, SweepRequest(provider_id=provider_id))
            await asyncio.sleep(1)
            async with self.sessions.begin() as session:
                return not (await session.scalars(late)).all()

        await until(is_done, "what was put off is refreshed", 90)

    async def went_on_before(self, rate: float, provider_id: str = "simulator") -> None:
        """As if the traffic had gone on for ten minutes: what was called before is told by whole minutes."""
        async with self.sessions.begin() as session:
            await session.execute(_BEFORE, {"provider": provider_id, "rate": rate})

    async def called_seldom(self, ids: Sequence[UUID], *, every: timedelta, outcomes: Sequence[str]) -> None:
        """Calls as the worker's recorder has written them down, the last one just now."""
        now = datetime.now(UTC)
        async with self.sessions.begin() as session:
            await calls.add(
                session,
                [
                    (
                        number,
                        ProviderCall(
                            caller=Caller("org:acme-0", ids[0], Purpose.USE, 1),
                            provider_id="simulator",
                            endpoint="notes.read",
                            outcome=Meaning(outcome),
                            rule="a test",
                            status=503,
                            duration_ms=10,
                            at=now - every * (len(outcomes) - 1 - number),
                        ),
                    )
                    for number, outcome in enumerate(outcomes)
                ],
            )

    async def probes(self) -> list[datetime]:
        """When the provider was probed, as the recorder has it."""
        query = select(Call.at).where(Call.purpose == Purpose.PROBE).order_by(Call.at)
        async with self.sessions.begin() as session:
            return list(await session.scalars(query))

    async def runs(self, workflow_type: str) -> list[str]:
        """Of this test: the server is the session's."""
        query = f"WorkflowType = '{workflow_type}' AND ExecutionStatus = 'Running'"
        return [each.id async for each in self.client.list_workflows(query)]

    async def due(self, ids: Sequence[UUID]) -> None:
        async with self.sessions.begin() as session:
            past = datetime.now(UTC) - timedelta(seconds=1)
            await session.execute(
                update(Credential)
                .where(Credential.connection_id.in_(ids), Credential.state == "active")
                .values(refresh_at=past)
            )

    async def breaks(self, **order: Any) -> str:
        answer = (await self.http.post("/admin/faults", json=order)).raise_for_status()
        return str(answer.json()["id"])

    async def heals(self) -> None:
        (await self.http.delete("/admin/faults")).raise_for_status()

    async def requests(self) -> list[tuple[float, dict[str, Any]]]:
        """What the simulator saw of calls, each with its time."""
        rows = (await self.http.get("/admin/requests", params={"limit": 100_000})).json()
        return [(datetime.fromisoformat(row["at"]).timestamp(), row) for row in rows if row["path"].startswith(_OWN)]

    async def calls(self, since: float, until: float) -> int:
        return sum(since <= at < until for at, _ in await self.requests())

    async def notes_written(self, keys: Sequence[str]) -> int:
        """Notes that the provider wrote down for these: a repeated key is answered 200 and writes none."""
        wanted = set(keys)
        return sum(
            row["status"] == 201 and row["detail"].get("idempotency_key") in wanted
            for _, row in await self.requests()
            if row["method"] == "POST"
        )

    async def outages(self) -> list[Outage]:
        async with self.sessions.begin() as session:
            return list(await session.scalars(select(Outage).order_by(Outage.opened_at)))

    async def notes(self) -> list[OutageNote]:
        async with self.sessions.begin() as session:
            return list(await session.scalars(select(OutageNote).order_by(OutageNote.id)))

    async def story(self) -> str:
        """The timelines, for whoever reads why a test failed."""
        return "\n".join(f"{note.at:%H:%M:%S} {note.step}: {note.what}" for note in await self.notes())

    async def parked(self) -> list[ParkedJob]:
        async with self.sessions.begin() as session:
            return list(await session.scalars(select(ParkedJob)))

    async def journal(self) -> list[Mitigation]:
        async with self.sessions.begin() as session:
            return list(await session.scalars(select(Mitigation).order_by(Mitigation.id)))

    async def is_contained(self, provider_id: str = "simulator") -> bool:
        return any(each.provider_id == provider_id and each.brake == Brake.QUEUE for each in await self.journal())

    async def is_ramped(self, provider_id: str = "simulator") -> bool:
        over = {Step.REPLAY, Step.VALIDATE, Step.CLOSE}
        return any(each.provider_id == provider_id and each.step in over for each in await self.outages())

    async def queue_rate(self, provider_id: str = "simulator") -> float | None:
        """As the server has it."""
        found = await task_queues.config(self.client, provider_queue(provider_id))
        limit = found.queue_rate_limit.rate_limit
        return limit.requests_per_second if found.queue_rate_limit.HasField("rate_limit") else None

    def outage(self, provider_id: str = "simulator") -> WorkflowHandle[Any, OutageResult]:
        return self.client.get_workflow_handle(outage_id(provider_id), result_type=OutageResult)

    async def ends(self, *workflow_ids: str) -> None:
        for each in workflow_ids:
            try:
                await self.client.get_workflow_handle(each).terminate()
            except RPCError:
                continue


async def _each(seconds: float) -> AsyncIterator[None]:
    begun = time.monotonic()
    turn = 0
    while True:
        yield
        turn += 1
        await asyncio.sleep(max(0.0, begun + turn * seconds - time.monotonic()))


async def until(true: Callable[[], Awaitable[object]], what: str, within: float = 60) -> float:
    """How long it took, in seconds, until an awaitable's answer was true."""
    start = time.monotonic()
    while not await true():
        assert time.monotonic() - start < within, f"not within {within:g} s: {what}"
        await asyncio.sleep(0.1)
    return time.monotonic() - start
