"""The gate's question before a call: what a circuit holds back is not sent, and waits its turn."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from temporalio.testing import ActivityEnvironment

from activities import braked
from activities.job import JobActivities
from activities.reauth import ReauthActivities
from activities.refresh import RefreshActivities
from activities.refresh_sweep import RefreshSweepActivities
from integrations.db import mitigations
from integrations.db.outage_tables import Mitigation
from integrations.db.session import Sessions, make_engine, make_sessions
from integrations.db.tables import Connection
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.errors import TryAgainError
from integrations.domain.gate import Answer
from integrations.domain.outage import OURS, Brake, Cut, Target
from integrations.domain.reauth import Exchange, Exchanged, Proof, Terms
from integrations.domain.refresh import Chunk, ChunkStep, Refresh, Refreshed, RefreshStep
from integrations.providers.oauth import Providers
from tests.activities.connected import altered, connected
from tests.activities.test_job import called, changed, job
from tests.activities.test_reauth import LIFE, candidate_of, received
from tests.factories import EVERYTHING, add_connection
from tests.outage_rows import add_outage
from tests.providers.person import BASE, Person
from tests.refresh.ground import Due, active, add_due

Hold = Callable[..., Awaitable[None]]


@pytest.fixture
def hold(sessions: Sessions) -> Hold:
    """Put a brake on at the simulator, for an outage of its own that is open at most once."""

    async def put(brake: Brake, name: str = "", rate: float | None = 0.0, outage: str = "simulator") -> None:
        cut = Cut(target=Target(provider_id="simulator", brake=brake, name=name), rate=rate)
        outage_id = await add_outage(sessions, outage)
        async with sessions.begin() as session:
            told = {"reason": "5xx since noon", "by": "the test"}
            await mitigations.put(session, outage_id, [cut], timedelta(minutes=2), **told)

    return put


@pytest.fixture
async def connection(sessions: Sessions, vault: Vault, providers: Providers, person: Person) -> Connection:
    return await connected(sessions, vault, providers, person)


@pytest.fixture
def jobs(sessions: Sessions, vault: Vault, providers: Providers) -> JobActivities:
    return JobActivities(sessions, vault, providers)


@pytest.fixture
def sweep(sessions: Sessions, vault: Vault, providers: Providers) -> RefreshSweepActivities:
    return RefreshSweepActivities(sessions, vault, providers, Terms())


async def one_chunk(sweep: RefreshSweepActivities, **step: Any) -> Chunk:
    return await ActivityEnvironment().run(sweep.chunk, ChunkStep(provider_id="simulator", **step))


async def asked(sessions: Sessions, *endpoints: str) -> bool:
    try:
        async with sessions.begin() as session:
            await braked.ask(session, "simulator", *endpoints)
    except TryAgainError:
        return False
    return True


class TestAQuestion:
    async def test_without_a_circuit_of_that_endpoint_is_answered_yes(self, sessions: Sessions, hold: Hold) -> None:
        await hold(Brake.CIRCUIT, "notes.write")
        await hold(Brake.QUEUE)
        await hold(Brake.TENANT, "notes.read")
        await hold(Brake.SHIELD)

        assert await asked(sessions, "notes.read")
        assert not await asked(sessions, "notes.write")

    async def test_of_twenty_of_two_processes_at_once_lets_one_through(
        self, sessions: Sessions, hold: Hold, database_url: str
    ) -> None:
        await hold(Brake.CIRCUIT, "notes.read", rate=0.1)
        other = make_engine(database_url)

        both = (sessions, make_sessions(other))
        found = await asyncio.gather(*(asked(both[number % 2], "notes.read") for number in range(20)))

        assert sum(found) == 1
        await other.dispose()

    async def test_about_two_endpoints_counts_neither_when_one_is_held_back(
        self, sessions: Sessions, hold: Hold
    ) -> None:
        await hold(Brake.CIRCUIT, "introspect", rate=0.1)
        await hold(Brake.CIRCUIT, "token", rate=0)

        assert not await asked(sessions, "token", "introspect")

        assert await asked(sessions, "introspect")

    async def test_about_two_endpoints_is_asked_in_one_order_so_that_nobody_waits_for_each_other(
        self, sessions: Sessions, hold: Hold
    ) -> None:
        for endpoint in ("introspect", "token"):
            await hold(Brake.CIRCUIT, endpoint, rate=1e9)

        orders = [("introspect", "token"), ("token", "introspect")]
        found = await asyncio.gather(*(asked(sessions, *orders[number % 2]) for number in range(40)))

        # A deadlock would have been raised.
        assert any(found)

    async def test_answered_no_says_whose_word_it_is_and_when_to_come_back(
        self, sessions: Sessions, hold: Hold
    ) -> None:
        await hold(Brake.CIRCUIT, "notes.read", rate=0, outage=OURS)

        waits = set()
        for _ in range(20):
            with pytest.raises(TryAgainError) as found:
                async with sessions.begin() as session:
                    await braked.ask(session, "simulator", "notes.read")
            assert found.value.after is not None
            waits.add(found.value.after)

        told = "notes.read at simulator is held back to 0 calls/s, 5xx since noon: runbook outage explain ours"
        assert str(found.value) == told
        assert timedelta(seconds=10) <= min(waits) < max(waits) <= timedelta(seconds=30)
        assert len(waits) > 10

    async def test_is_let_through_again_once_the_brake_is_off(self, sessions: Sessions, hold: Hold) -> None:
        await hold(Brake.CIRCUIT, "notes.read")
        async with sessions.begin() as session:
            [row] = await mitigations.of_provider(session, "simulator")
            told = {"by": "the test", "reason": "healed"}
            await mitigations.release(session, row.outage_id, "simulator", **told)

        assert await asked(sessions, "notes.read")


class TestAJob:
    async def test_is_not_sent_while_its_endpoint_is_held_back(
        self, jobs: JobActivities, connection: Connection, person: Person, hold: Hold
    ) -> None:
        await hold(Brake.CIRCUIT, "notes.write")

        with pytest.raises(TryAgainError, match=r"notes\.write at simulator is held back"):
            await called(jobs, job(connection))

        assert await person.requests("/api/notes", "POST") == []
        assert (await called(jobs, job(connection, capability="notes.read"))).done

    async def test_that_the_gate_blocks_takes_nobodys_turn(
        self, jobs: JobActivities, sessions: Sessions, connection: Connection, hold: Hold
    ) -> None:
        await hold(Brake.CIRCUIT, "notes.write", rate=0.1)
        await changed(sessions, connection, status=Status.PENDING_REAUTH, grants=[])

        assert (await called(jobs, job(connection))).decision.answer is Answer.BLOCKED

        assert await asked(sessions, "notes.write")


class TestARefresh:
    @pytest.fixture
    def refresh(self, sessions: Sessions, vault: Vault, providers: Providers) -> RefreshActivities:
        return RefreshActivities(sessions, vault, providers)

    async def test_is_not_sent_and_keeps_no_lease_while_tokens_are_held_back(
        self, refresh: RefreshActivities, connection: Connection, sessions: Sessions, person: Person, hold: Hold
    ) -> None:
        step = RefreshStep(connection_id=connection.id)
        before = len(await person.requests("/oauth/token", "POST"))
        assert before
        await hold(Brake.CIRCUIT, "token")
        for attempt in (refresh.refresh, refresh.confirm):
            with pytest.raises(TryAgainError, match="token at simulator is held back"):
                await ActivityEnvironment().run(attempt, step)
        assert len(await person.requests("/oauth/token", "POST")) == before

        async with sessions.begin() as session:
            await session.execute(update(Mitigation).values(rate=1))
        found: Refreshed = await ActivityEnvironment().run(refresh.refresh, step)

        assert found.refresh is Refresh.REFRESHED

    async def test_that_would_introspect_waits_for_that_too(
        self,
        sessions: Sessions,
        vault: Vault,
        providers: Providers,
        connection: Connection,
        simulator_url: str,
        hold: Hold,
    ) -> None:
        introspects = altered(providers, introspect_url=f"{simulator_url}/oauth/introspect")
        refresh = RefreshActivities(sessions, vault, introspects)
        await hold(Brake.CIRCUIT, "introspect")

        with pytest.raises(TryAgainError, match="introspect at simulator is held back"):
            await ActivityEnvironment().run(refresh.confirm, RefreshStep(connection_id=connection.id))

        found: Refreshed = await ActivityEnvironment().run(refresh.refresh, RefreshStep(connection_id=connection.id))
        assert found.refresh is Refresh.REFRESHED

    async def test_that_fetches_the_first_token_of_all_waits_too(
        self, sessions: Sessions, vault: Vault, providers: Providers, hold: Hold
    ) -> None:
        row = await add_connection(sessions, status=Status.ERRORED, grants=[], account_id=None)
        own = RefreshActivities(sessions, vault, altered(providers, flow="client_credentials"))
        await hold(Brake.CIRCUIT, "token")

        with pytest.raises(TryAgainError, match="token at simulator is held back"):
            await ActivityEnvironment().run(own.refresh, RefreshStep(connection_id=row.id))


class TestAConsent:
    async def test_has_its_code_sent_through_every_circuit_and_its_proof_waits(
        self, sessions: Sessions, vault: Vault, providers: Providers, person: Person, hold: Hold
    ) -> None:
        waiting = await add_connection(
            sessions,
            status=Status.PENDING_REAUTH,
            lifecycle_id=LIFE,
            account_id=person.id,
            grants=[],
            missing_grants=EVERYTHING,
        )
        steps = ReauthActivities(sessions, vault, providers, BASE)
        consent = await received(sessions, vault, providers, person, waiting)
        for endpoint in ("token", "identity", "notes.read"):
            await hold(Brake.CIRCUIT, endpoint)

        found: Exchanged = await ActivityEnvironment().run(steps.exchange, consent)

        assert (found.exchange, found.proof) == (Exchange.CANDIDATE, None)
        assert await person.exchanges() == 1
        assert await person.requests("/api/notes") == []
        with pytest.raises(TryAgainError, match=r"notes\.read at simulator is held back"):
            await ActivityEnvironment().run(steps.prove_and_activate, candidate_of(consent, found.version))
        async with sessions.begin() as session:
            await session.execute(update(Mitigation).values(released_at=Mitigation.put_at))

        proof: Proof = await ActivityEnvironment().run(steps.prove_and_activate, candidate_of(consent, found.version))

        assert proof.works


class TestAChunk:
    @pytest.fixture
    async def ground(self, sessions: Sessions, vault: Vault, person: Person) -> Due:
        return await add_due(sessions, vault, person.http, 5)

    async def renewed(self, sessions: Sessions, ground: Due) -> int:
        rows = await active(sessions)
        return sum(rows[each].version == 2 for each in ground.ids)

    async def test_takes_one_connection_while_the_queue_is_held_back(
        self, sweep: RefreshSweepActivities, sessions: Sessions, ground: Due, hold: Hold
    ) -> None:
        await hold(Brake.QUEUE, rate=0.5)

        assert await one_chunk(sweep) == Chunk(taken=1, refreshed=1)

        assert await self.renewed(sessions, ground) == 1

    async def test_that_meets_trouble_meanwhile_starts_no_workflow_and_is_tried_soon(
        self, sweep: RefreshSweepActivities, sessions: Sessions, ground: Due, hold: Hold
    ) -> None:
        await hold(Brake.QUEUE, rate=0.5)
        await ground.breaks(kind="status", status=503)

        # There is no Temporal here: a workflow of its own would end this with another error.
        with pytest.raises(TryAgainError, match="none is demoted") as found:
            await one_chunk(sweep)

        assert found.value.after == timedelta(seconds=20)
        assert len(await ground.asked()) == 1

    async def test_takes_one_for_each_that_a_circuit_lets_through(
        self, sweep: RefreshSweepActivities, sessions: Sessions, ground: Due, hold: Hold
    ) -> None:
        await hold(Brake.CIRCUIT, "token", rate=0.1)
        assert await one_chunk(sweep) == Chunk(taken=1, refreshed=1)

        with pytest.raises(TryAgainError, match="token at simulator is held back"):
            await one_chunk(sweep)

        async with sessions.begin() as session:
            await session.execute(update(Mitigation).values(released_at=Mitigation.put_at))
        # No lease was left by the one that was not let through.
        assert await one_chunk(sweep) == Chunk(taken=4, refreshed=4)

    async def test_that_finds_nothing_due_asks_no_circuit(
        self, sweep: RefreshSweepActivities, sessions: Sessions, hold: Hold
    ) -> None:
        await hold(Brake.CIRCUIT, "token")

        assert await one_chunk(sweep) == Chunk()

    async def test_leaves_out_who_is_held_back_alone(
        self, sweep: RefreshSweepActivities, sessions: Sessions, ground: Due, hold: Hold
    ) -> None:
        async with sessions.begin() as session:
            few = Connection.id.in_(ground.ids[:2])
            await session.execute(update(Connection).where(few).values(scope_id="braked"))
        await hold(Brake.TENANT, "org:braked", rate=0.5)

        assert await one_chunk(sweep) == Chunk(taken=3, refreshed=3)

        rows = await active(sessions)
        assert {each for each in ground.ids if rows[each].version == 1} == set(ground.ids[:2])
