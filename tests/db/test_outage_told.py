"""Who hears of an outage, by rows: the operators' task, and events that notifications are made of."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import update

from integrations.db import outage_told, outages, tasks
from integrations.db.ledger_tables import OutboxEvent
from integrations.db.outage_tables import Outage
from integrations.db.session import Sessions
from integrations.db.tables import OperatorTask
from integrations.domain.outage import DETECTOR, Ended, Scope
from integrations.providers import definitions
from tests.factories import every
from tests.outage_rows import add_outage, add_parked

SLOWED = "calls are slowed down"


async def open_told(sessions: Sessions, outage_id: UUID) -> None:
    async with sessions.begin() as session:
        await outage_told.opened(session, outage_id, name="Simulator", done=SLOWED)


async def close_told(sessions: Sessions, outage_id: UUID, ended: Ended = Ended.HEALED) -> None:
    async with sessions.begin() as session:
        await outages.close(session, outage_id, ended, by="ada", reason="calls succeed as before")
        await outage_told.closed(session, outage_id, name="Simulator", refreshes=3)


async def told(sessions: Sessions) -> list[OutboxEvent]:
    return sorted(await every(sessions, OutboxEvent), key=lambda row: row.occurred_at)


class TestAnOutageThatIsContained:
    async def test_calls_the_operators_once(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions)

        await open_told(sessions, outage_id)
        await open_told(sessions, outage_id)

        [task], [event] = await every(sessions, OperatorTask), await told(sessions)
        assert (task.kind, task.provider_id, task.status, task.title) == (
            "outage",
            "simulator",
            "open",
            "Simulator is down",
        )
        assert "runbook outage explain simulator" in task.way_out
        assert task.cause == f"48 of 50 calls failed within a minute. {SLOWED}"
        assert (event.name, event.order_key, event.scope_type, event.scope_id) == (
            "provider.outage_opened",
            "outage:simulator",
            "org",
            "operators",
        )
        assert event.payload["task"] == str(task.id)

    async def test_calls_them_once_when_two_tell_at_once(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions)

        await asyncio.gather(*(open_told(sessions, outage_id) for _ in range(8)))

        assert (len(await every(sessions, OperatorTask)), len(await told(sessions))) == (1, 1)

    async def test_is_told_again_when_it_reaches_further(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions, scope=Scope.ENDPOINT, names=("token",))
        await open_told(sessions, outage_id)
        async with sessions.begin() as session:
            [task] = await tasks.listed(session, everything=False)
            await tasks.acknowledge(session, task.id, by="ada")
            await session.execute(update(Outage).values(scope=Scope.PROVIDER, names=[]))
        await open_told(sessions, outage_id)

        titles = [row.payload["title"] for row in await told(sessions)]
        [task] = await every(sessions, OperatorTask)
        assert titles == ["Simulator is down: the endpoint token", "Simulator is down"]
        assert (task.title, task.status, task.acknowledged_by) == ("Simulator is down", "acknowledged", "ada")

    async def test_that_is_closed_already_calls_nobody(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions)
        async with sessions.begin() as session:
            await outages.close(session, outage_id, Ended.BY_HAND, by="ada", reason="a mistake")

        await open_told(sessions, outage_id)

        assert (await every(sessions, OperatorTask), await told(sessions)) == ([], [])


class TestAnOutageThatIsOver:
    async def test_closes_the_task_and_is_told_once(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions)
        await open_told(sessions, outage_id)

        await close_told(sessions, outage_id)
        await close_told(sessions, outage_id)

        [task], [_, event] = await every(sessions, OperatorTask), await told(sessions)
        assert (task.status, task.closed_by, task.closed_reason) == ("closed", "ada", "calls succeed as before")
        assert (event.name, event.order_key) == ("provider.outage_closed", "outage:simulator")
        assert event.payload["ended"] == "healed"
        assert event.payload["replayed"] == "0 jobs and 3 refreshes"

    async def test_is_told_to_each_owner_whose_jobs_waited(self, sessions: Sessions) -> None:
        now = datetime.now(UTC)
        await add_parked(
            sessions, parked_at=now - timedelta(days=1), settled_at=now - timedelta(hours=23), outcome="done"
        )
        outage_id = await add_outage(sessions)
        await open_told(sessions, outage_id)
        for outcome in ("done", "done", "owner_must_act"):
            await add_parked(sessions, settled_at=datetime.now(UTC), outcome=outcome)
        await add_parked(sessions, "user:7")
        await add_parked(sessions, "org:elsewhere", provider_id="github")

        await close_told(sessions, outage_id)

        recovered = [row for row in await told(sessions) if row.name == "provider.recovered"]
        assert {
            (row.scope_type, row.scope_id): [row.payload[name] for name in ("done", "failed", "waiting")]
            for row in recovered
        } == {("org", "acme"): [2, 1, 0], ("user", "7"): [0, 0, 1]}
        assert {row.provider_id for row in recovered} == {"simulator"}

    async def test_of_our_own_way_out_is_told_of_each_provider(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions, "ours", scope=Scope.OURS, names=("github", "simulator"))
        await open_told(sessions, outage_id)
        for provider_id in ("github", "simulator", "slack"):
            await add_parked(sessions, provider_id=provider_id)

        await close_told(sessions, outage_id)

        recovered = [row for row in await told(sessions) if row.name == "provider.recovered"]
        assert {row.provider_id for row in recovered} == {"github", "simulator"}

    async def test_that_nobody_was_told_of_is_not_told(self, sessions: Sessions) -> None:
        await close_told(sessions, await add_outage(sessions, why_not="paused", by=DETECTOR), Ended.PASSED)

        assert await told(sessions) == []


class TestWhatIsTold:
    async def test_is_what_the_definitions_are_tried_with(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions)
        await open_told(sessions, outage_id)
        await add_parked(sessions)
        await close_told(sessions, outage_id)

        samples = definitions.load().samples
        rows = await told(sessions)
        assert {row.name: set(row.payload) for row in rows} == {row.name: set(samples[row.name][0]) for row in rows}
        assert len(rows) == 3
