"""Chunks of a sweep on real rows, against the real simulator; what leaves them is found at the real Temporal server."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from statistics import pstdev
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities.reconcile import ReconcileActivities
from activities.refresh import RefreshActivities
from activities.refresh_call import refresh_at
from activities.refresh_sweep import RefreshSweepActivities
from activities.retention import RetentionActivities
from integrations import temporal
from integrations.db import connections, credentials, leases, refresh, refresh_batch, refresh_due
from integrations.db.credentials import Tokens
from integrations.db.leases import LEASE
from integrations.db.refresh import Settled
from integrations.db.refresh_overdue import overdue
from integrations.db.session import Sessions
from integrations.db.surge_counts import Refusal, Watched, count
from integrations.db.surge_tables import RefreshRefusal
from integrations.db.tables import NOT_FETCHED, Connection, Credential, GrantEvent, OperatorTask, RefreshLease
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.errors import NotReadyError, TryAgainError
from integrations.domain.keyring import Ring
from integrations.domain.reauth import Terms
from integrations.domain.refresh import Chunk, ChunkStep, Refresh, RefreshRequest, RefreshStep
from integrations.domain.retention import Kept
from integrations.domain.verdict import Meaning
from integrations.keyring import GivenKeys
from integrations.providers.http import make_renewing_client
from integrations.providers.oauth import Providers
from tests.activities.connected import altered
from tests.activities.test_refresh import Gate
from tests.factories import add_connection, add_credential, every, stored, tokens
from tests.providers.person import Person
from tests.refresh.ground import active, add_due, make_due, statuses
from worker.plugin import runbook_plugin

HERE = Watched("simulator", "Simulator", "correct the secret")
WRONG_SECRET = {"kind": "status", "status": 401, "body": {"error": "invalid_client"}}


def refused(connection_id: UUID) -> Refusal:
    """What its workflow is told at its second look."""
    return Refusal(connection_id, 1, Meaning.OPERATOR_MUST_ACT, "registration-wrong", "401 invalid_client")


@pytest_asyncio.fixture
async def client(time_skipping: WorkflowEnvironment, sessions: Sessions) -> AsyncIterator[Client]:
    """Nobody polls there: what is started stays as it was started, and is gone before anybody else's worker polls."""
    address = time_skipping.client.service_client.config.target_host
    client = await Client.connect(address, plugins=[runbook_plugin()])
    yield client
    for row in await every(sessions, Connection):
        with suppress(RPCError):
            await client.get_workflow_handle(f"refresh:simulator:{row.id}").terminate()


@pytest_asyncio.fixture
async def steps(sessions: Sessions, vault: Vault, providers: Providers) -> AsyncIterator[RefreshSweepActivities]:
    """With the client that a worker gives them."""
    async with make_renewing_client() as http:
        yield RefreshSweepActivities(sessions, vault, altered(providers, http=http), Terms())


async def chunk(steps: RefreshSweepActivities, client: Client, *, attempt: int = 1) -> Chunk:
    environment = ActivityEnvironment(client=client)
    environment.info = environment.info.__class__(**{**environment.info.__dict__, "attempt": attempt})
    return await environment.run(steps.chunk, ChunkStep(provider_id="simulator"))


async def left(client: Client, connection_id: UUID) -> RefreshRequest | None:
    """What the connection's own workflow was started with; None when there is none."""
    handle = client.get_workflow_handle(f"refresh:simulator:{connection_id}")
    try:
        history = await handle.fetch_history()
    except RPCError:
        return None
    begun = history.events[0].workflow_execution_started_event_attributes
    [request] = await client.data_converter.decode(begun.input.payloads, [RefreshRequest])
    return RefreshRequest.model_validate(request)


async def due(sessions: Sessions) -> set[UUID]:
    """The connections that the next sweep finds: due, and nobody's."""
    now = datetime.now(UTC)
    taken = {row.connection_id for row in await every(sessions, RefreshLease) if row.until > now}
    rows = (await active(sessions)).values()
    return {row.connection_id for row in rows if row.refresh_at and row.refresh_at <= now} - taken


class TestAChunk:
    async def test_refreshes_at_most_fifty(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 60)

        assert await chunk(steps, client) == Chunk(taken=50, refreshed=50)

        versions = [row.version for row in (await active(sessions)).values()]
        assert sorted(versions) == [1] * 10 + [2] * 50
        assert len(await ground.asked()) == 50
        assert len(await due(sessions)) == 10
        assert await chunk(steps, client) == Chunk(taken=10, refreshed=10)
        assert await chunk(steps, client) == Chunk()
        assert set((await statuses(sessions)).values()) == {Status.ACTIVE}

    async def test_spreads_the_next_ones(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        """W32: what was connected, and refreshed, in one minute is not refreshed in one minute the next time."""
        await add_due(sessions, vault, person.http, 50)

        await chunk(steps, client)

        rows = (await active(sessions)).values()
        waits = [(row.refresh_at - datetime.now(UTC)).total_seconds() for row in rows if row.refresh_at]
        # An hour's token with a lead of 15 minutes: in the last fifth of 45 minutes.
        assert len(waits) == 50
        assert min(waits) > 36 * 60 - 60
        assert max(waits) <= 45 * 60
        assert pstdev(waits) > 60

    async def test_can_be_opened_and_refreshed_again(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        await add_due(sessions, vault, person.http, 5)
        for version in (2, 3):
            await make_due(sessions)
            assert (await chunk(steps, client)).refreshed == 5
            assert {row.version for row in (await active(sessions)).values()} == {version}

    async def test_passes_over_what_is_not_due(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 3, overdue=-timedelta(minutes=1))

        assert await chunk(steps, client) == Chunk()
        assert await ground.asked() == []

    @pytest.mark.parametrize("status", [Status.DISCONNECTED, Status.PENDING_REAUTH])
    async def test_refreshes_nothing_that_its_status_forbids(
        self,
        steps: RefreshSweepActivities,
        client: Client,
        sessions: Sessions,
        vault: Vault,
        person: Person,
        status: Status,
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 3, status=status)

        assert await chunk(steps, client) == Chunk(taken=3)

        assert await ground.asked() == []
        assert await due(sessions) == set()
        assert await chunk(steps, client) == Chunk()

    @pytest.mark.parametrize("status", [Status.ERRORED, Status.NEEDS_RECONSENT])
    async def test_keeps_the_grants_of_others_in_trouble_alive(
        self,
        steps: RefreshSweepActivities,
        client: Client,
        sessions: Sessions,
        vault: Vault,
        person: Person,
        status: Status,
    ) -> None:
        await add_due(sessions, vault, person.http, 2, status=status)

        assert (await chunk(steps, client)).refreshed == 2
        assert {row.version for row in (await active(sessions)).values()} == {2}

    async def test_takes_nothing_that_somebody_refreshes(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 3)
        async with sessions.begin() as session:
            await leases.claim(session, ground.ids[0], LEASE)

        assert (await chunk(steps, client)).taken == 2
        assert (await active(sessions))[ground.ids[0]].version == 1

    async def test_shares_the_work_with_others(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        """W10, W11, W14: whoever is at it at the same time, each connection is refreshed once."""
        ground = await add_due(sessions, vault, person.http, 120)
        other = RefreshSweepActivities(sessions, vault, steps._providers, Terms())

        await asyncio.gather(*(chunk(each, client) for each in (steps, other) * 4))

        asked = await ground.asked()
        assert len(asked) == len(set(asked)) == 120
        assert {row.version for row in (await active(sessions)).values()} == {2}

    async def test_stops_at_missing_client_credentials_and_holds_nothing(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 3)
        bare = RefreshSweepActivities(sessions, vault, altered(steps._providers, environment={}), Terms())

        with pytest.raises(NotReadyError, match="RUNBOOK_PROVIDER_SIMULATOR_CLIENT_ID"):
            await chunk(bare, client)

        assert await due(sessions) == set(ground.ids)


class TestASurge:
    async def test_is_seen_by_the_chunk_that_meets_it(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 20)
        await ground.breaks(*ground.ids[:10], **WRONG_SECRET)

        assert await chunk(steps, client) == Chunk(taken=20, refreshed=10, held=10)

        async with sessions.begin() as session:
            counted = await count(session, HERE)
        assert (counted.refused, counted.tried) == (10, 20)
        assert [await left(client, each) for each in ground.ids] == [None] * 20
        assert [task.kind for task in await every(sessions, OperatorTask)] == ["surge"]
        assert await due(sessions) == set()
        await make_due(sessions)
        assert await chunk(steps, client) == Chunk(taken=20, refreshed=10, held=10)
        assert len(await every(sessions, OperatorTask)) == 1

    async def test_is_over_when_a_chunk_works(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 10)
        await ground.breaks(**WRONG_SECRET)
        assert (await chunk(steps, client)).held == 10
        await person.heals()
        await make_due(sessions)

        assert await chunk(steps, client) == Chunk(taken=10, refreshed=10)

        assert [task.status for task in await every(sessions, OperatorTask)] == ["closed"]

    async def test_stops_at_a_missing_key_and_holds_nothing(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        """A worker with the wrong ring: not ten thousand connections in trouble."""
        ground = await add_due(sessions, vault, person.http, 3)
        wrong = Vault(GivenKeys(Ring.of_one("k9", os.urandom(32))))

        with pytest.raises(NotReadyError, match="k1"):
            await chunk(RefreshSweepActivities(sessions, wrong, steps._providers, Terms()), client)

        assert await due(sessions) == set(ground.ids)
        assert [await left(client, each) for each in ground.ids] == [None] * 3

    async def test_sends_nothing_more_once_its_worker_is_being_stopped(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 10)
        environment = ActivityEnvironment(client=client)
        environment.worker_shutdown()

        assert (await environment.run(steps.chunk, ChunkStep(provider_id="simulator"))).refreshed == 0

        assert await ground.asked() == []
        assert await due(sessions) == set(ground.ids)


class TestOneThatFails:
    async def test_leaves_to_be_confirmed_when_it_is_refused(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 10)
        dead = ground.ids[4]
        await ground.revoke(dead)

        assert await chunk(steps, client) == Chunk(taken=10, refreshed=9, left=1)

        request = await left(client, dead)
        assert request is not None
        assert request.refused is not None
        assert (request.refused.refresh, request.refused.version, request.known_version) == (Refresh.REFUSED, 1, 1)
        assert set((await statuses(sessions)).values()) == {Status.ACTIVE}
        assert await due(sessions) == set()
        lease = await stored(sessions, RefreshLease, dead)
        assert (lease.sent_version, lease.until < datetime.now(UTC)) == (None, True)
        assert await left(client, ground.ids[0]) is None

    async def test_leaves_to_be_confirmed_when_our_registration_is_refused(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 10)
        await ground.breaks(ground.ids[3], **WRONG_SECRET)

        assert await chunk(steps, client) == Chunk(taken=10, refreshed=9, left=1)

        request = await left(client, ground.ids[3])
        assert request is not None
        assert request.refused is not None
        assert request.refused.meaning is Meaning.OPERATOR_MUST_ACT

    async def test_is_let_alone_when_its_status_says_so_already(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 1, status=Status.ERRORED)
        await ground.breaks(**WRONG_SECRET)

        assert (await chunk(steps, client)).left == 0

        assert await left(client, ground.ids[0]) is None
        assert await due(sessions) == set()
        assert await every(sessions, RefreshRefusal) == []

    async def test_leaves_to_be_tried_again_when_it_meets_trouble(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 10)
        await ground.breaks(ground.ids[2], kind="status", status=503)

        assert await chunk(steps, client) == Chunk(taken=10, refreshed=9, left=1)

        request = await left(client, ground.ids[2])
        assert request is not None
        assert (request.refused, request.known_version) == (None, 1)
        assert "503" in request.reason
        assert await due(sessions) == set()

    async def test_keeps_the_mark_of_an_answer_that_was_lost(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 4)
        await ground.breaks(ground.ids[0], kind="drop")

        assert (await chunk(steps, client)).left == 1

        assert (await stored(sessions, RefreshLease, ground.ids[0])).sent_version == 1
        assert await left(client, ground.ids[0]) is not None

    async def test_is_never_sent_twice_where_that_would_kill_the_grant(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        """Its mark stands and the provider forgives nothing: its own workflow says so to the owner."""
        ground = await add_due(sessions, vault, person.http, 1)
        strict = altered(steps._providers, rotation_grace=timedelta(0))
        async with sessions.begin() as session:
            token = await leases.claim(session, ground.ids[0], LEASE)
            assert token is not None
            assert await leases.mark_sent(session, ground.ids[0], token, 1)
            await leases.release(session, ground.ids[0], token, answered=False)

        assert (await chunk(RefreshSweepActivities(sessions, vault, strict, Terms()), client)).left == 1

        assert await ground.asked() == []
        assert await left(client, ground.ids[0]) is not None


class TestOneWhoseOwnerIsAsked:
    """By its own workflow, which was told to by the chunk that it left."""

    async def test_is_never_due_while_its_token_may_be_used_up(
        self, client: Client, sessions: Sessions, vault: Vault, providers: Providers, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 1)
        single = RefreshActivities(sessions, vault, altered(providers, rotation_grace=timedelta(0)))
        await ground.breaks(kind="drop", count=1)
        with pytest.raises(TryAgainError):
            await ActivityEnvironment().run(single.refresh, RefreshStep(connection_id=ground.ids[0]))

        found = await ActivityEnvironment().run(single.refresh, RefreshStep(connection_id=ground.ids[0]))

        assert found.refresh is Refresh.AMBIGUOUS
        assert (await active(sessions))[ground.ids[0]].refresh_at is None

    async def test_is_asked_again_in_an_hour_when_nobody_acts_on_a_refusal(
        self, client: Client, sessions: Sessions, vault: Vault, providers: Providers, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 1)
        await ground.revoke(ground.ids[0])
        single = RefreshActivities(sessions, vault, providers)

        found = await ActivityEnvironment().run(
            single.confirm, RefreshStep(connection_id=ground.ids[0], known_version=1)
        )

        assert found.detection_id is not None
        at = (await active(sessions))[ground.ids[0]].refresh_at
        assert at is not None
        assert timedelta(minutes=59) < at - datetime.now(UTC) <= timedelta(hours=1)


class TestAProviderInTrouble:
    async def test_is_left_alone_and_nobody_suffers(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 50)
        await ground.breaks(kind="status", status=503, retry_after=7, body={"error": "invalid_grant"})

        with pytest.raises(TryAgainError, match="none is demoted") as raised:
            await chunk(steps, client)

        assert raised.value.after == timedelta(seconds=7)
        asked = await ground.asked()
        assert len(asked) <= 8
        assert set((await statuses(sessions)).values()) == {Status.ACTIVE}
        assert {row.version for row in (await active(sessions)).values()} == {1}
        assert await every(sessions, GrantEvent) == []
        assert [await left(client, each) for each in ground.ids] == [None] * 50
        # What was not sent is due as before; what was, when the provider asked for it.
        assert len(await due(sessions)) == 50 - len(asked)
        async with sessions.begin() as session:
            assert await overdue(session) == []
            [late] = await overdue(session, timedelta(0))
        assert (late.provider, late.connections) == ("simulator", 50)

    async def test_is_tried_with_a_few_and_others_each_time(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 12)
        await ground.breaks(kind="status", status=503)
        for _ in range(3):
            with pytest.raises(TryAgainError):
                await chunk(steps, client, attempt=2)

        asked = await ground.asked()
        assert len(asked) == len(set(asked)) == 12

        await person.heals()
        assert await chunk(steps, client, attempt=3) == Chunk(taken=4, refreshed=4)
        assert await chunk(steps, client) == Chunk(taken=8, refreshed=8)
        async with sessions.begin() as session:
            assert await overdue(session, timedelta(0)) == []

    async def test_is_not_told_by_connections_with_trouble_of_their_own(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        """Twenty that are answered what no rule has, longer due than five that are well."""
        strange = await add_due(sessions, vault, person.http, 20, overdue=timedelta(minutes=9))
        well = await add_due(sessions, vault, person.http, 5)
        await strange.breaks(*strange.ids, kind="status", status=404, body={"error": "shop_closed"})

        raised = 0
        while len(await well.asked()) < 5:
            try:
                await chunk(steps, client, attempt=raised + 1)
            except TryAgainError:
                raised += 1

        # By the policy: 2, 4, 8 and 16 s.
        assert raised <= 4
        assert await due(sessions) == set(), "what no rule has is tried again and again"

    async def test_is_not_told_by_one_connections_quota(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        one = await add_due(sessions, vault, person.http, 1, overdue=timedelta(minutes=9))
        await add_due(sessions, vault, person.http, 40)
        await one.breaks(*one.ids, kind="throttle", retry_after=3600)

        assert await chunk(steps, client, attempt=2) == Chunk(taken=4, refreshed=3, left=1)

        at = (await active(sessions))[one.ids[0]].refresh_at
        assert at is not None
        assert at > datetime.now(UTC) + timedelta(minutes=59)
        assert (await chunk(steps, client)).refreshed == 37

    async def test_is_left_alone_for_as_long_as_all_its_answers_ask(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        """And no longer for what one of them asks."""
        one = await add_due(sessions, vault, person.http, 1, overdue=timedelta(minutes=9))
        ground = await add_due(sessions, vault, person.http, 9)
        await one.breaks(*one.ids, kind="throttle", retry_after=3600)
        await ground.breaks(*ground.ids, kind="status", status=503)
        with pytest.raises(TryAgainError) as some:
            await chunk(steps, client)
        await person.heals()
        await ground.breaks(kind="throttle", retry_after=3600)
        await make_due(sessions)
        with pytest.raises(TryAgainError) as all_of_them:
            await chunk(steps, client)

        assert some.value.after is None
        assert all_of_them.value.after == timedelta(minutes=15)

    async def test_does_not_hide_whose_rotation_was_lost(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        """Their tokens may be used up: each is looked after by itself, whatever else the provider does."""
        ground = await add_due(sessions, vault, person.http, 30)
        await ground.breaks(kind="drop")

        with pytest.raises(TryAgainError):
            await chunk(steps, client)

        marked = {row.connection_id for row in await every(sessions, RefreshLease) if row.sent_version}
        assert 5 <= len(marked) <= 8
        assert {each for each in ground.ids if await left(client, each)} == marked

    async def test_that_does_not_rotate_has_lost_nothing(
        self, client: Client, sessions: Sessions, vault: Vault, providers: Providers, person: Person
    ) -> None:
        """The same token may be sent again: they wait with the others."""
        await person.settings(rotate=False)
        ground = await add_due(sessions, vault, person.http, 20)
        await ground.breaks(kind="drop")
        steps = RefreshSweepActivities(sessions, vault, altered(providers, rotates_refresh_token=False), Terms())

        with pytest.raises(TryAgainError):
            await chunk(steps, client)

        assert [await left(client, each) for each in ground.ids] == [None] * 20


class TestMeanwhile:
    @pytest_asyncio.fixture
    async def gate(self) -> Gate:
        return Gate()

    @pytest_asyncio.fixture
    async def gated(
        self, sessions: Sessions, vault: Vault, providers: Providers, gate: Gate
    ) -> AsyncIterator[RefreshSweepActivities]:
        async with httpx.AsyncClient(event_hooks={"request": [gate]}, trust_env=False) as http:
            yield RefreshSweepActivities(sessions, vault, altered(providers, http=http), Terms())

    async def test_a_connection_that_is_given_up_stays_so(
        self,
        gated: RefreshSweepActivities,
        gate: Gate,
        client: Client,
        sessions: Sessions,
        vault: Vault,
        person: Person,
    ) -> None:
        """W9: what a refresh brings back is nobody's."""
        ground = await add_due(sessions, vault, person.http, 3)
        under_way = asyncio.create_task(chunk(gated, client))
        await gate.reached.wait()
        async with sessions.begin() as session:
            row = await connections.lock(session, ground.ids[1])
            row.status = Status.DISCONNECTED
        gate.opened.set()

        assert await under_way == Chunk(taken=3, refreshed=2)

        assert (await statuses(sessions))[ground.ids[1]] == Status.DISCONNECTED
        assert (await active(sessions))[ground.ids[1]].version == 1

    async def test_a_candidate_keeps_its_number(
        self,
        gated: RefreshSweepActivities,
        gate: Gate,
        client: Client,
        sessions: Sessions,
        vault: Vault,
        person: Person,
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 3)
        under_way = asyncio.create_task(chunk(gated, client))
        await gate.reached.wait()
        await add_credential(sessions, vault, ground.ids[0], tokens("new"), state="candidate")
        gate.opened.set()

        assert (await under_way).refreshed == 3

        versions = {each: row.version for each, row in (await active(sessions)).items()}
        assert versions == {ground.ids[0]: 3, ground.ids[1]: 2, ground.ids[2]: 2}

    async def test_a_version_that_came_meanwhile_keeps_its_time(
        self,
        gated: RefreshSweepActivities,
        gate: Gate,
        client: Client,
        sessions: Sessions,
        vault: Vault,
        person: Person,
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 1)
        await ground.breaks(kind="status", status=503)
        under_way = asyncio.create_task(chunk(gated, client))
        await gate.reached.wait()
        async with sessions.begin() as session:
            await credentials.retire_active(session, ground.ids[0])
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        await add_credential(sessions, vault, ground.ids[0], tokens("new"), refresh_at=tomorrow)
        gate.opened.set()

        assert (await under_way).left == 1
        assert (await active(sessions))[ground.ids[0]].refresh_at == tomorrow

    async def test_a_run_that_is_ended_stores_what_is_on_its_way(
        self,
        gated: RefreshSweepActivities,
        gate: Gate,
        client: Client,
        sessions: Sessions,
        vault: Vault,
        person: Person,
    ) -> None:
        """Terminated in the Web UI, or by a Temporal that was away for longer than a heartbeat."""
        ground = await add_due(sessions, vault, person.http, 20)
        environment = ActivityEnvironment(client=client)
        under_way = asyncio.create_task(environment.run(gated.chunk, ChunkStep(provider_id="simulator")))
        await gate.reached.wait()
        environment.cancel()
        await asyncio.sleep(0.1)
        gate.opened.set()

        with pytest.raises(asyncio.CancelledError):
            await under_way

        asked = await ground.asked()
        assert 1 <= len(asked) <= 4
        versions = {each: row.version for each, row in (await active(sessions)).items()}
        assert sorted(versions.values()) == [1] * (20 - len(asked)) + [2] * len(asked)
        assert [row for row in await every(sessions, RefreshLease) if row.sent_version] == []
        assert len(await due(sessions)) == 20 - len(asked)

    async def test_a_temporal_that_is_away_makes_no_answer_a_lost_one(
        self,
        steps: RefreshSweepActivities,
        client: Client,
        sessions: Sessions,
        vault: Vault,
        person: Person,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 10)
        await ground.breaks(*ground.ids[:3], kind="status", status=503)

        async def away(*_: object) -> None:
            raise RPCError("away", RPCStatusCode.UNAVAILABLE, b"")

        monkeypatch.setattr(temporal, "start_refresh", away)
        with pytest.raises(RPCError):
            await chunk(steps, client)

        assert [row for row in await every(sessions, RefreshLease) if row.sent_version] == []

    async def test_an_earlier_lost_answer_stays_lost_through_an_outage(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 1)
        async with sessions.begin() as session:
            token = await leases.claim(session, ground.ids[0], LEASE)
            assert token is not None
            await leases.mark_sent(session, ground.ids[0], token, 1)
            await leases.release(session, ground.ids[0], token, answered=False)
        await ground.breaks(kind="status", status=503)

        assert (await chunk(steps, client)).left == 1

        assert (await stored(sessions, RefreshLease, ground.ids[0])).sent_version == 1

    async def test_a_database_connection_that_breaks_loses_no_token(
        self,
        steps: RefreshSweepActivities,
        client: Client,
        sessions: Sessions,
        vault: Vault,
        person: Person,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        await add_due(sessions, vault, person.http, 20)
        store, settle, broken = refresh_batch.store, refresh.settle, [3, 2]

        async def breaking_store(*given: Any) -> set[UUID]:
            broken[0] -= 1
            if broken[0] >= 0:
                raise OperationalError("COMMIT", {}, Exception("the connection is closed"))
            return await store(*given)

        async def breaking_settle(*given: Any, **more: Any) -> Settled | None:
            broken[1] -= 1
            if broken[1] >= 0 and broken[1] % 2:
                raise OperationalError("COMMIT", {}, Exception("the connection is closed"))
            return await settle(*given, **more)

        monkeypatch.setattr(refresh_batch, "store", breaking_store)
        monkeypatch.setattr(refresh, "settle", breaking_settle)

        assert (await chunk(steps, client)).refreshed == 20
        assert {row.version for row in (await active(sessions)).values()} == {2}

    async def test_a_consent_that_is_faster_keeps_its_credential(
        self,
        gated: RefreshSweepActivities,
        gate: Gate,
        client: Client,
        sessions: Sessions,
        vault: Vault,
        person: Person,
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 2)
        under_way = asyncio.create_task(chunk(gated, client))
        await gate.reached.wait()
        async with sessions.begin() as session:
            await credentials.retire_active(session, ground.ids[0])
        consented = await add_credential(sessions, vault, ground.ids[0], tokens("consented"))
        gate.opened.set()

        assert (await under_way).refreshed == 1
        assert (await active(sessions))[ground.ids[0]].id == consented.id

    async def test_nothing_is_sent_once_the_lease_has_run_out(
        self, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 3)
        async with sessions.begin() as session:
            claims, _ = await refresh_due.claim_due(session, "simulator", 3)
        lost, held = claims[0], claims[1:]
        async with sessions.begin() as session:
            lease = await session.get_one(RefreshLease, lost.connection.id)
            lease.until = datetime.now(UTC) - timedelta(seconds=1)

        async with sessions.begin() as session:
            assert await refresh_due.mark_sent(session, claims) == {each.connection.id for each in held}
            assert not await leases.mark_sent(session, lost.connection.id, lost.token, 1)
        for each in ground.ids:
            lasts = (await stored(sessions, RefreshLease, each)).until - datetime.now(UTC)
            assert (lasts > LEASE - timedelta(seconds=5)) == (each != lost.connection.id)

    async def test_whoever_lost_the_lease_stores_nothing(
        self,
        gated: RefreshSweepActivities,
        gate: Gate,
        client: Client,
        sessions: Sessions,
        vault: Vault,
        person: Person,
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 2)
        under_way = asyncio.create_task(chunk(gated, client))
        await gate.reached.wait()
        async with sessions.begin() as session:
            lease = await session.get_one(RefreshLease, ground.ids[0])
            lease.token += 1
        gate.opened.set()

        assert (await under_way).refreshed == 1
        assert (await active(sessions))[ground.ids[0]].version == 1


class TestMoreThanTokens:
    async def test_missing_grants_reach_the_owner(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 3)
        grants = (await person.http.get("/admin/grants")).json()
        [grant] = [each for each in grants if each["account_id"] == ground.accounts[ground.ids[0]]]
        order = {"grant_id": grant["grant_id"], "scopes": ["profile", "notes.read"]}
        (await person.http.post("/admin/grants/scopes", json=order)).raise_for_status()

        assert (await chunk(steps, client)).refreshed == 3

        [event] = await every(sessions, GrantEvent)
        assert (event.connection_id, event.evidence["missing"]) == (ground.ids[0], ["notes.write"])
        assert (await client.get_workflow_handle(f"reauth:simulator:{ground.ids[0]}").describe()).id
        assert (await stored(sessions, Connection, ground.ids[1])).missing_grants == []

    async def test_an_errored_connection_works_again(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        await add_due(sessions, vault, person.http, 1, status=Status.ERRORED)

        await chunk(steps, client)

        assert set((await statuses(sessions)).values()) == {Status.ACTIVE}


class TestClientCredentials:
    async def test_are_renewed_by_the_sweep(
        self, client: Client, sessions: Sessions, vault: Vault, providers: Providers, person: Person
    ) -> None:
        """W28."""
        own = RefreshSweepActivities(sessions, vault, altered(providers, flow="client_credentials"), Terms())
        await add_due(sessions, vault, person.http, 4)

        assert await chunk(own, client) == Chunk(taken=4, refreshed=4)

        rows = (await active(sessions)).values()
        assert {row.version for row in rows} == {2}
        assert all(row.refresh_at and row.refresh_at > datetime.now(UTC) for row in rows)


class TestNothingToRefreshWith:
    async def test_is_never_due_again(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        """Its provider gave an access token and nothing else."""
        ground = await add_due(sessions, vault, person.http, 1)
        alone = Tokens(access_token=SecretStr("access"))
        async with sessions.begin() as session:
            row = (await session.scalars(select(Credential))).one()
            row.sealed = alone.sealed(vault, row.connection_id, 1)

        assert await chunk(steps, client) == Chunk(taken=1)

        assert (await active(sessions))[ground.ids[0]].refresh_at is None
        assert await ground.asked() == []
        provider = steps._providers.catalog.provider("simulator")
        assert refresh_at(provider, alone, datetime.now(UTC)) is None
        own = provider.model_copy(update={"flow": "client_credentials"})
        assert refresh_at(own, alone, datetime.now(UTC)) is not None


class TestRetiredCredentials:
    async def test_are_forgotten_after_their_time(
        self, steps: RefreshSweepActivities, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        """W29: each refresh leaves one behind."""
        await add_due(sessions, vault, person.http, 6)
        await chunk(steps, client)
        some = list(await active(sessions))[:4]
        async with sessions.begin() as session:
            await session.execute(
                update(Credential)
                .where(Credential.state == "retired", Credential.connection_id.in_(some))
                .values(retired_at=datetime.now(UTC) - timedelta(days=3))
            )
        retention = RetentionActivities(sessions, Kept(credentials=timedelta(days=2)))

        found = await ActivityEnvironment().run(retention.old)

        assert found.credentials == 4
        left = await every(sessions, Credential)
        assert sorted((row.state, row.connection_id in some) for row in left) == [
            *[("active", False)] * 2,
            *[("active", True)] * 4,
            *[("retired", False)] * 2,
        ]


class TestAFirstToken:
    async def test_that_nobody_asked_for_is_asked_for_by_reconcile(
        self, client: Client, sessions: Sessions, person: Person
    ) -> None:
        """Whoever added the connection died between its row and its workflow."""
        given = {"status": Status.ERRORED, "status_reason": NOT_FETCHED, "grants": [], "account_id": None}
        late, fresh = await add_connection(sessions, **given), await add_connection(sessions, **given)
        async with sessions.begin() as session:
            row = await session.get_one(Connection, late.id)
            row.created_at = datetime.now(UTC) - timedelta(minutes=1)

        reconciled = await ActivityEnvironment(client=client).run(ReconcileActivities(sessions, Terms()).reauth)

        assert reconciled.first_tokens == 1
        assert await left(client, late.id) is not None
        assert await left(client, fresh.id) is None
