"""Whatever an activity asks a provider is a row: who for, what for, at which attempt, and what came of it."""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.job import JobActivities
from activities.reauth import ReauthActivities
from activities.refresh import RefreshActivities
from activities.refresh_sweep import RefreshSweepActivities
from activities.retention import RetentionActivities
from integrations.db.call_tables import ProviderCall
from integrations.db.session import Sessions
from integrations.db.tables import Connection
from integrations.db.vault import Vault
from integrations.domain import retention
from integrations.domain.connection import Status
from integrations.domain.errors import TryAgainError
from integrations.domain.job import JobRequest
from integrations.domain.reauth import Terms
from integrations.domain.refresh import ChunkStep, RefreshStep
from integrations.domain.retention import Kept
from integrations.providers import http
from integrations.providers.oauth import Providers
from tests.activities.connected import altered, connected
from tests.activities.test_reauth import candidate_of, received
from tests.db.test_calls import many
from tests.factories import add_connection, every
from tests.providers.person import BASE, Person
from tests.refresh.ground import add_due
from worker.recorder import Recorder

Row = tuple[str, str, str, str, int | None, int]
"""Purpose, endpoint, outcome, rule, status, attempt."""


@pytest.fixture
def recorder(sessions: Sessions) -> Recorder:
    return Recorder(sessions)


@pytest.fixture
def recorded(providers: Providers, recorder: Recorder) -> Providers:
    return Providers(providers.catalog, providers._http, recorder)


@pytest.fixture
async def connection(sessions: Sessions, vault: Vault, providers: Providers, person: Person) -> Connection:
    return await connected(sessions, vault, providers, person)


async def attempted(step: Callable[[Any], Coroutine[Any, Any, Any]], argument: object, attempt: int = 1) -> Any:
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, attempt=attempt)
    return await environment.run(step, argument)


async def rows(sessions: Sessions, recorder: Recorder, connection: Connection) -> list[Row]:
    """What was written, in the order of the calls. All of it this connection's."""
    await recorder.write()
    found = sorted(await every(sessions, ProviderCall), key=lambda row: row.id)
    assert {(row.provider_id, row.tenant, row.connection_id) for row in found} == {
        ("simulator", "org:acme", connection.id)
    }
    return [(row.purpose, row.endpoint, row.outcome, row.rule, row.status, row.attempt) for row in found]


class TestARefresh:
    async def test_is_recorded_with_its_confirmation(
        self,
        sessions: Sessions,
        vault: Vault,
        recorded: Providers,
        recorder: Recorder,
        connection: Connection,
        person: Person,
    ) -> None:
        steps = RefreshActivities(sessions, vault, recorded)
        await attempted(steps.refresh, RefreshStep(connection_id=connection.id))
        await person.revokes()
        await attempted(steps.refresh, RefreshStep(connection_id=connection.id))
        await attempted(steps.confirm, RefreshStep(connection_id=connection.id, known_version=2), attempt=2)

        assert await rows(sessions, recorder, connection) == [
            ("refresh", "token", "ok", "success", 200, 1),
            ("refresh", "token", "owner_must_act", "grant-dead", 400, 1),
            ("refresh", "token", "owner_must_act", "grant-dead", 400, 2),
        ]

    @pytest.mark.parametrize(
        ("fault", "met"),
        [
            ({"kind": "status", "status": 503, "body": ""}, ("outage", "server-error", 503)),
            ({"kind": "throttle"}, ("throttled", "too-many-calls", 429)),
            ({"kind": "reset"}, ("outage", "answer-lost", None)),
            ({"kind": "hang"}, ("outage", "answer-lost", None)),
        ],
    )
    async def test_that_fails_is_recorded_although_it_raises(
        self,
        sessions: Sessions,
        vault: Vault,
        recorded: Providers,
        recorder: Recorder,
        connection: Connection,
        person: Person,
        fault: dict[str, Any],
        met: tuple[str, str, int | None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(http, "TIMEOUT", timedelta(seconds=1))
        await person.breaks(path="/oauth/token", **fault)

        steps = RefreshActivities(sessions, vault, recorded)

        with pytest.raises(TryAgainError):
            await attempted(steps.refresh, RefreshStep(connection_id=connection.id), attempt=7)

        assert await rows(sessions, recorder, connection) == [("refresh", "token", *met, 7)]

    async def test_of_the_first_token_of_all_is_recorded(
        self, sessions: Sessions, vault: Vault, recorded: Providers, recorder: Recorder, person: Person
    ) -> None:
        connection = await add_connection(sessions, status=Status.ERRORED, grants=[], account_id=None)
        steps = RefreshActivities(sessions, vault, altered(recorded, flow="client_credentials"))

        await attempted(steps.refresh, RefreshStep(connection_id=connection.id), attempt=2)

        assert await rows(sessions, recorder, connection) == [("refresh", "token", "ok", "success", 200, 2)]

    async def test_of_many_at_once_is_recorded_for_each_of_them(
        self, sessions: Sessions, vault: Vault, recorded: Providers, recorder: Recorder, person: Person
    ) -> None:
        due = await add_due(sessions, vault, person.http, 12)
        steps = RefreshSweepActivities(sessions, vault, recorded, Terms())

        await attempted(steps.chunk, ChunkStep(provider_id="simulator"))
        await recorder.write()

        found = await every(sessions, ProviderCall)
        assert sorted(row.connection_id for row in found) == sorted(due.accounts)
        assert {(row.purpose, row.endpoint, row.outcome, row.attempt) for row in found} == {
            ("refresh", "token", "ok", 1)
        }


class TestAConsent:
    async def test_is_recorded_from_its_code_to_its_proof(
        self, sessions: Sessions, vault: Vault, recorded: Providers, recorder: Recorder, person: Person
    ) -> None:
        connection = await add_connection(sessions, account_id=None)
        # As open leaves it: what waits belongs to this lifecycle.
        consent = await received(sessions, vault, recorded, person, connection)
        async with sessions.begin() as session:
            (await session.get_one(Connection, connection.id)).lifecycle_id = consent.lifecycle_id
        steps = ReauthActivities(sessions, vault, recorded, BASE)

        exchanged = await attempted(steps.exchange, consent)
        await attempted(steps.prove, candidate_of(consent, exchanged.version), attempt=3)

        found = await rows(sessions, recorder, connection)
        assert found[:2] == [
            ("exchange", "token", "ok", "success", 200, 1),
            ("exchange", "identity", "ok", "success", 200, 1),
        ]
        probes = sorted({each.probe.url for each in recorded.catalog.provider("simulator").capabilities.values()})
        assert len(found[2:]) == len(probes)
        assert {row[0] for row in found[2:]} == {"probe"}
        assert {row[1] for row in found[2:]} <= set(recorded.catalog.provider("simulator").capabilities)
        assert {row[2:] for row in found[2:]} == {("ok", "success", 200, 3)}


class TestAJob:
    async def test_is_recorded_under_its_capability(
        self, sessions: Sessions, vault: Vault, recorded: Providers, recorder: Recorder, connection: Connection
    ) -> None:
        job = JobRequest(
            connection_id=connection.id,
            provider_id="simulator",
            tenant="org:acme",
            capability="notes.write",
            idempotency_key=f"key-{connection.id}",
            payload={"text": "hi"},
            by="ada",
            reason="a test",
        )

        await attempted(JobActivities(sessions, vault, recorded).call, job)

        assert await rows(sessions, recorder, connection) == [("use", "notes.write", "ok", "success", 201, 1)]


class TestReconcile:
    async def test_forgets_what_is_too_old_batch_after_batch(
        self, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retention, "BATCH", 3)
        await many(sessions, 7, timedelta(days=3))
        await many(sessions, 2, timedelta(days=1))
        steps = RetentionActivities(sessions, Kept(calls=timedelta(days=2)))

        found = await ActivityEnvironment().run(steps.old)

        assert found.calls == 7
        assert len(await every(sessions, ProviderCall)) == 2
