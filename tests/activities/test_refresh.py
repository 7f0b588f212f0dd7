import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest
from temporalio.testing import ActivityEnvironment

from activities.reauth import ReauthActivities
from activities.refresh import RefreshActivities
from integrations.db import connections, credentials, ending, refresh, refresh_first
from integrations.db.automation_tables import WouldHaveDone
from integrations.db.ledger_tables import OutboxEvent
from integrations.db.session import Sessions
from integrations.db.tables import (
    NOT_FETCHED,
    Connection,
    ConsentSession,
    Credential,
    GrantEvent,
    OperatorTask,
    RefreshLease,
)
from integrations.db.vault import Vault
from integrations.domain.automation import Step
from integrations.domain.connection import Status
from integrations.domain.errors import NotReadyError, TryAgainError
from integrations.domain.reauth import OpenLifecycle
from integrations.domain.refresh import Refresh, Refreshed, RefreshStep
from integrations.domain.verdict import Meaning
from integrations.providers.entry import RefreshBy, Variable
from integrations.providers.oauth import Providers
from simulator.fingerprint import fingerprint
from tests.activities.connected import altered, connected
from tests.activities.test_reauth import soon
from tests.factories import add_connection, add_credential, every, stored, tokens
from tests.providers.person import BASE, Person
from tests.shielded import lift, put_up


@pytest.fixture
def steps(sessions: Sessions, vault: Vault, providers: Providers) -> RefreshActivities:
    return RefreshActivities(sessions, vault, providers)


@pytest.fixture
async def connection(sessions: Sessions, vault: Vault, providers: Providers, person: Person) -> Connection:
    return await connected(sessions, vault, providers, person)


async def refreshed(steps: RefreshActivities, connection_id: UUID, known: int | None = None) -> Refreshed:
    step = RefreshStep(connection_id=connection_id, known_version=known)
    return await ActivityEnvironment().run(steps.refresh, step)


async def confirmed(steps: RefreshActivities, connection_id: UUID, known: int | None = 1) -> Refreshed:
    step = RefreshStep(connection_id=connection_id, known_version=known)
    return await ActivityEnvironment().run(steps.confirm, step)


async def versions(sessions: Sessions) -> dict[int, str]:
    return {row.version: row.state for row in await every(sessions, Credential)}


async def status(sessions: Sessions, connection: Connection) -> str:
    return (await stored(sessions, Connection, connection.id)).status


class Gate:
    """Holds the next request before it is sent, until it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened = asyncio.Event(), asyncio.Event()

    async def __call__(self, _request: httpx.Request) -> None:
        self.reached.set()
        await self.opened.wait()


@pytest.fixture
async def gate() -> Gate:
    return Gate()


@pytest.fixture
async def gated(sessions: Sessions, vault: Vault, providers: Providers, gate: Gate) -> AsyncIterator[RefreshActivities]:
    async with httpx.AsyncClient(event_hooks={"request": [gate]}, trust_env=False) as http:
        yield RefreshActivities(sessions, vault, altered(providers, http=http))


class TestARefresh:
    async def test_stores_the_new_version(
        self, steps: RefreshActivities, sessions: Sessions, vault: Vault, connection: Connection, person: Person
    ) -> None:
        result = await refreshed(steps, connection.id)

        assert (result.refresh, result.version) == (Refresh.REFRESHED, 2)
        assert await versions(sessions) == {1: "retired", 2: "active"}
        assert await person.refreshes() == 1
        lease = await stored(sessions, RefreshLease, connection.id)
        assert (lease.sent_version, lease.until < datetime.now(UTC)) == (None, True)
        assert (await refreshed(steps, connection.id)).version == 3

    async def test_keeps_the_refresh_token_of_a_provider_that_returns_none(
        self,
        sessions: Sessions,
        vault: Vault,
        providers: Providers,
        connection: Connection,
        person: Person,
    ) -> None:
        await person.settings(rotate=False)
        steps = RefreshActivities(sessions, vault, altered(providers, rotates_refresh_token=False))

        for _ in range(2):
            assert (await refreshed(steps, connection.id)).refresh is Refresh.REFRESHED

        first, _, last = sorted(await every(sessions, Credential), key=lambda row: row.version)
        assert credentials.opened(vault, last).refresh_token == credentials.opened(vault, first).refresh_token
        assert credentials.opened(vault, last).access_token != credentials.opened(vault, first).access_token

    async def test_of_what_is_not_connected_sends_nothing(
        self, steps: RefreshActivities, sessions: Sessions, vault: Vault
    ) -> None:
        connection = await add_connection(sessions, status=Status.DISCONNECTED)
        await add_credential(sessions, vault, connection.id)

        result = await refreshed(steps, connection.id)

        assert result.refresh is Refresh.NOT_CONNECTED
        assert await every(sessions, RefreshLease) == []

    async def test_without_a_credential_says_so(self, steps: RefreshActivities, sessions: Sessions) -> None:
        connection = await add_connection(sessions)

        assert (await refreshed(steps, connection.id)).refresh is Refresh.NOT_CONNECTED

    async def test_without_a_refresh_token_says_so(
        self, steps: RefreshActivities, sessions: Sessions, vault: Vault
    ) -> None:
        connection = await add_connection(sessions)
        await add_credential(sessions, vault, connection.id, tokens().model_copy(update={"refresh_token": None}))

        result = await refreshed(steps, connection.id)

        assert (result.refresh, result.why) == (Refresh.NOT_CONNECTED, "Simulator gave no refresh token")

    async def test_that_sends_nothing_gives_the_lease_back(
        self, steps: RefreshActivities, sessions: Sessions, vault: Vault
    ) -> None:
        connection = await add_connection(sessions)
        await add_credential(sessions, vault, connection.id, tokens().model_copy(update={"refresh_token": None}))

        await refreshed(steps, connection.id)

        lease = await stored(sessions, RefreshLease, connection.id)
        assert lease.until < datetime.now(UTC)

    async def test_that_lacks_the_clients_secret_says_so_each_time(
        self, sessions: Sessions, vault: Vault, providers: Providers, connection: Connection
    ) -> None:
        steps = RefreshActivities(sessions, vault, altered(providers, environment={}))

        for _ in range(2):
            with pytest.raises(NotReadyError, match="RUNBOOK_PROVIDER_SIMULATOR_CLIENT_ID is not set"):
                await refreshed(steps, connection.id)

    async def test_keeps_what_the_answer_tells_of_the_providers_addresses(
        self, sessions: Sessions, vault: Vault, providers: Providers, connection: Connection
    ) -> None:
        telling = altered(providers, variables={"kind": Variable(source="token", field="token_type")})

        await refreshed(RefreshActivities(sessions, vault, telling), connection.id)

        [fresh] = await every(sessions, Credential, version=2)
        assert fresh.variables == {"kind": "Bearer"}


class TestARefusal:
    async def test_is_believed_only_when_it_is_confirmed(
        self, steps: RefreshActivities, sessions: Sessions, connection: Connection, person: Person
    ) -> None:
        await person.revokes()

        first = await refreshed(steps, connection.id)
        before = await every(sessions, GrantEvent)
        second = await confirmed(steps, connection.id, first.version)

        assert (first.refresh, first.version, first.why) == (Refresh.REFUSED, 1, "400 invalid_grant")
        assert (first.detection_id, before) == (None, [])
        [detection] = await every(sessions, GrantEvent)
        assert second.refresh is Refresh.REFUSED
        assert second.detection_id == detection.id
        assert (detection.kind, detection.credential_version) == ("revoked", 1)
        assert (detection.evidence["answer"], detection.evidence["rule"]) == ("400 invalid_grant", "grant-dead")
        assert await status(sessions, connection) == "active"

    async def test_of_a_token_that_somebody_rotated_meanwhile_is_nothing(
        self, steps: RefreshActivities, sessions: Sessions, connection: Connection, person: Person
    ) -> None:
        await refreshed(steps, connection.id)
        sent = await person.refreshes()

        result = await confirmed(steps, connection.id, known=1)

        assert (result.refresh, result.version) == (Refresh.ROTATED_MEANWHILE, 2)
        assert await person.refreshes() == sent
        assert await every(sessions, GrantEvent) == []
        assert (await refreshed(steps, connection.id)).refresh is Refresh.REFRESHED

    async def test_that_was_a_passing_one_ends_well(
        self, steps: RefreshActivities, sessions: Sessions, connection: Connection, person: Person
    ) -> None:
        await person.breaks(kind="status", status=400, body={"error": "invalid_grant"}, count=1)

        assert (await refreshed(steps, connection.id)).refresh is Refresh.REFUSED
        assert (await confirmed(steps, connection.id)).refresh is Refresh.REFRESHED

        assert await every(sessions, GrantEvent) == []

    @pytest.mark.parametrize("code", [401, 403])
    async def test_without_an_oauth_error_is_not_the_end_of_a_grant(
        self, steps: RefreshActivities, sessions: Sessions, connection: Connection, person: Person, code: int
    ) -> None:
        await person.breaks(kind="status", path="/oauth/token", status=code, body="<html>Forbidden</html>")

        for attempt in (refreshed, confirmed):
            with pytest.raises(TryAgainError):
                await attempt(steps, connection.id)

        assert await every(sessions, GrantEvent) == []

    async def test_of_our_own_registration_is_the_operators(
        self, sessions: Sessions, vault: Vault, providers: Providers, connection: Connection
    ) -> None:
        wrong = {
            "RUNBOOK_PROVIDER_SIMULATOR_CLIENT_ID": "runbook",
            "RUNBOOK_PROVIDER_SIMULATOR_CLIENT_SECRET": "wrong",
        }
        steps = RefreshActivities(sessions, vault, altered(providers, environment=wrong))

        first = await refreshed(steps, connection.id)
        before = await status(sessions, connection)
        result = await confirmed(steps, connection.id)

        [task] = await every(sessions, OperatorTask)
        assert (first.refresh, first.why, before) == (Refresh.REFUSED, "401 invalid_client", "active")
        assert first.meaning is Meaning.OPERATOR_MUST_ACT
        assert result.refresh is Refresh.OPERATOR_MUST_ACT
        assert await status(sessions, connection) == "errored"
        assert "RUNBOOK_PROVIDER_SIMULATOR_CLIENT_SECRET" in task.way_out
        assert "wrong" not in f"{task.cause} {task.way_out} {result.why}"
        assert await every(sessions, GrantEvent) == []

    async def test_of_our_registration_that_was_a_passing_one_ends_well(
        self, steps: RefreshActivities, sessions: Sessions, connection: Connection, person: Person
    ) -> None:
        await person.breaks(kind="status", status=401, body={"error": "invalid_client"}, count=1)

        assert (await refreshed(steps, connection.id)).refresh is Refresh.REFUSED
        assert (await confirmed(steps, connection.id)).refresh is Refresh.REFRESHED

        assert await every(sessions, OperatorTask) == []

    async def test_of_our_registration_is_no_question_for_introspection(
        self, sessions: Sessions, vault: Vault, providers: Providers, connection: Connection, person: Person
    ) -> None:
        """It would call the grant alive, which nobody doubts."""
        asking = altered(providers, introspect_url=f"{person.http.base_url}/oauth/introspect")
        steps = RefreshActivities(sessions, vault, asking)
        await person.breaks(kind="status", path="/oauth/token", status=401, body={"error": "invalid_client"}, count=2)

        first = await refreshed(steps, connection.id)
        step = RefreshStep(connection_id=connection.id, known_version=1, meaning=first.meaning)
        second = await ActivityEnvironment().run(steps.confirm, step)

        assert second.refresh is Refresh.OPERATOR_MUST_ACT
        assert await person.requests("/oauth/introspect") == []


class TestIntrospection:
    """Of a provider that offers it: a refused grant is asked about, which sends its token nowhere to be used up."""

    @pytest.fixture
    def asking(self, sessions: Sessions, vault: Vault, providers: Providers, simulator_url: str) -> RefreshActivities:
        url = f"{simulator_url}/oauth/introspect"
        return RefreshActivities(sessions, vault, altered(providers, introspect_url=url))

    async def test_confirms_a_dead_grant_without_a_second_refresh(
        self, asking: RefreshActivities, sessions: Sessions, connection: Connection, person: Person
    ) -> None:
        await person.revokes()

        first = await refreshed(asking, connection.id)
        second = await confirmed(asking, connection.id, first.version)

        [detection] = await every(sessions, GrantEvent)
        assert (second.refresh, second.detection_id) == (Refresh.REFUSED, detection.id)
        assert (detection.kind, detection.evidence["confirmed_by"]) == ("revoked", "introspection")
        assert (await person.refreshes(), len(await person.requests("/oauth/introspect"))) == (1, 1)

    async def test_that_says_alive_demotes_nothing_and_calls_a_person(
        self, asking: RefreshActivities, sessions: Sessions, connection: Connection, person: Person
    ) -> None:
        await person.breaks(kind="status", path="/oauth/token", status=400, body={"error": "invalid_grant"}, count=1)

        first = await refreshed(asking, connection.id)
        second = await confirmed(asking, connection.id, first.version)

        [task] = await every(sessions, OperatorTask)
        assert second.refresh is Refresh.UNCONFIRMED
        assert await every(sessions, GrantEvent) == []
        assert (await status(sessions, connection), task.kind, task.status) == ("active", "contested", "open")
        assert await person.refreshes() == 1

    async def test_that_is_over_closes_its_task(
        self, asking: RefreshActivities, sessions: Sessions, connection: Connection, person: Person
    ) -> None:
        await person.breaks(kind="status", path="/oauth/token", status=400, body={"error": "invalid_grant"}, count=1)
        await refreshed(asking, connection.id)
        await confirmed(asking, connection.id)

        assert (await refreshed(asking, connection.id)).refresh is Refresh.REFRESHED

        assert [task.status for task in await every(sessions, OperatorTask)] == ["closed"]

    @pytest.mark.parametrize(
        "order", [{"kind": "status", "status": 503}, {"kind": "html"}, {"kind": "status", "status": 200, "body": {}}]
    )
    async def test_that_says_nothing_clear_leaves_it_to_a_second_refresh(
        self,
        asking: RefreshActivities,
        sessions: Sessions,
        connection: Connection,
        person: Person,
        order: dict[str, object],
    ) -> None:
        await person.revokes()
        await refreshed(asking, connection.id)
        await person.breaks(path="/oauth/introspect", **order)

        assert (await confirmed(asking, connection.id)).refresh is Refresh.REFUSED

        [detection] = await every(sessions, GrantEvent)
        assert detection.evidence["confirmed_by"] == "a second refresh with the newest credential"
        assert await person.refreshes() == 2


class TestGrantsThatChanged:
    async def test_to_fewer_block_what_needs_them_and_ask_the_owner(
        self, steps: RefreshActivities, sessions: Sessions, connection: Connection, person: Person
    ) -> None:
        await person.allows("profile", "notes.read")

        result = await refreshed(steps, connection.id)

        [detection] = await every(sessions, GrantEvent)
        row = await stored(sessions, Connection, connection.id)
        assert (result.refresh, result.detection_id) == (Refresh.REFRESHED, detection.id)
        assert (detection.kind, detection.handled_at) == ("downgraded", None)
        assert detection.evidence["missing"] == ["notes.write"]
        assert (row.grants, row.missing_grants) == (["notes.read", "profile"], ["notes.write"])
        assert "lost notes.write" in result.why

    async def test_to_fewer_are_noticed_once(
        self, steps: RefreshActivities, sessions: Sessions, connection: Connection, person: Person
    ) -> None:
        await person.allows("profile", "notes.read")

        results = [await refreshed(steps, connection.id) for _ in range(3)]

        assert [result.detection_id is not None for result in results] == [True, False, False]
        assert len(await every(sessions, GrantEvent)) == 1

    async def test_to_fewer_optional_ones_block_nothing(
        self, sessions: Sessions, vault: Vault, providers: Providers, connection: Connection, person: Person
    ) -> None:
        capabilities = dict(providers.catalog.provider("simulator").capabilities)
        writing = capabilities.pop("notes.write")
        capabilities["profile.read"] = capabilities["profile.read"].model_copy(update={"optional": writing.requires})
        steps = RefreshActivities(sessions, vault, altered(providers, capabilities=capabilities))
        await person.allows("profile", "notes.read")

        result = await refreshed(steps, connection.id)

        [event] = await every(sessions, GrantEvent)
        row = await stored(sessions, Connection, connection.id)
        assert result.detection_id is None
        assert (event.kind, event.handled_at is not None) == ("downgraded", True)
        assert (row.grants, row.missing_grants) == (["notes.read", "profile"], [])

    async def test_to_more_are_there_at_once(
        self, steps: RefreshActivities, sessions: Sessions, vault: Vault, providers: Providers, person: Person
    ) -> None:
        connection = await connected(sessions, vault, providers, person, grants=["profile"])

        result = await refreshed(steps, connection.id)

        [event] = await every(sessions, GrantEvent)
        assert (result.detection_id, event.kind) == (None, "expanded")
        assert event.evidence["gained"] == ["notes.read", "notes.write"]
        assert (await stored(sessions, Connection, connection.id)).grants == ["notes.read", "notes.write", "profile"]

    async def test_that_the_answer_does_not_tell_are_as_they_were(
        self, steps: RefreshActivities, sessions: Sessions, connection: Connection, person: Person
    ) -> None:
        await person.settings(echo_scope=False)

        assert (await refreshed(steps, connection.id)).refresh is Refresh.REFRESHED

        assert await every(sessions, GrantEvent) == []
        assert (await stored(sessions, Connection, connection.id)).grants == ["notes.read", "notes.write", "profile"]

    async def test_tell_the_host_application(
        self, steps: RefreshActivities, sessions: Sessions, connection: Connection, person: Person
    ) -> None:
        await person.allows("profile")

        await refreshed(steps, connection.id)

        [event] = await every(sessions, OutboxEvent)
        assert (event.name, event.payload["lost"]) == ("connection.grants_downgraded", ["notes.read", "notes.write"])


class TestAProviderThatRenewsByTheAccessToken:
    async def test_is_sent_that_one(
        self, sessions: Sessions, vault: Vault, providers: Providers, connection: Connection, person: Person
    ) -> None:
        by = RefreshBy(grant_type="refresh_token", parameter="refresh_token", sends="access_token")
        steps = RefreshActivities(sessions, vault, altered(providers, refresh_by=by))

        assert (await refreshed(steps, connection.id)).refresh is Refresh.REFUSED

        token = credentials.opened(vault, (await every(sessions, Credential))[0]).access_token.get_secret_value()
        # The simulator knows no such refresh token, and so no account that it could be of.
        asked = (await person.http.get("/admin/requests", params={"path": "/oauth/token"})).json()[-1]
        assert asked["detail"]["token_fp"] == fingerprint(token)


class TestAnOutage:
    async def test_changes_no_status_however_long_it_lasts(
        self, steps: RefreshActivities, sessions: Sessions, connection: Connection, person: Person
    ) -> None:
        await person.breaks(kind="status", status=503, retry_after=7, body={"error": "invalid_grant"})

        for attempt in (refreshed, refreshed, refreshed, confirmed):
            with pytest.raises(TryAgainError) as trouble:
                await attempt(steps, connection.id)
            assert trouble.value.after == timedelta(seconds=7)

        assert await status(sessions, connection) == "active"
        assert await every(sessions, GrantEvent) == []
        await person.heals()
        assert (await refreshed(steps, connection.id)).refresh is Refresh.REFRESHED

    async def test_before_anything_was_sent_leaves_nothing_ambiguous(
        self, sessions: Sessions, vault: Vault, providers: Providers, connection: Connection
    ) -> None:
        unreachable = altered(providers, token_url="http://127.0.0.1:9/token", rotation_grace=timedelta(0))
        strict = RefreshActivities(sessions, vault, altered(providers, rotation_grace=timedelta(0)))

        with pytest.raises(TryAgainError):
            await refreshed(RefreshActivities(sessions, vault, unreachable), connection.id)

        assert (await refreshed(strict, connection.id)).refresh is Refresh.REFRESHED


class TestALostRotation:
    async def test_within_the_grace_is_survived(
        self, steps: RefreshActivities, sessions: Sessions, connection: Connection, person: Person
    ) -> None:
        await person.breaks(kind="drop", path="/oauth/token", count=1)

        with pytest.raises(TryAgainError):
            await refreshed(steps, connection.id)
        marked = await stored(sessions, RefreshLease, connection.id)
        result = await refreshed(steps, connection.id)

        assert marked.sent_version == 1
        assert result.refresh is Refresh.REFRESHED
        assert [row["detail"].get("refresh") for row in await person.requests("/oauth/token")][-1] == "grace"
        assert (await stored(sessions, RefreshLease, connection.id)).sent_version is None

    async def test_beyond_the_grace_is_never_sent_again(
        self, sessions: Sessions, vault: Vault, providers: Providers, connection: Connection, person: Person
    ) -> None:
        steps = RefreshActivities(sessions, vault, altered(providers, rotation_grace=timedelta(0)))
        await person.breaks(kind="drop", path="/oauth/token", count=1)
        with pytest.raises(TryAgainError):
            await refreshed(steps, connection.id)
        sent = await person.refreshes()

        result = await refreshed(steps, connection.id)

        [detection] = await every(sessions, GrantEvent)
        assert (result.refresh, result.detection_id) == (Refresh.AMBIGUOUS, detection.id)
        assert (detection.kind, detection.credential_version) == ("requested", 1)
        assert await status(sessions, connection) == "active"
        assert (await refreshed(steps, connection.id)).refresh is Refresh.AMBIGUOUS
        assert await person.refreshes() == sent == 1

    async def test_asks_the_owner_with_the_truth_and_demotes_nothing(
        self, sessions: Sessions, vault: Vault, providers: Providers, connection: Connection, person: Person
    ) -> None:
        """Nobody called the grant dead: the invitation says what happened, and what works goes on working."""
        strict = altered(providers, rotation_grace=timedelta(0))
        steps = RefreshActivities(sessions, vault, strict)
        await person.breaks(kind="drop", path="/oauth/token", count=1)
        with pytest.raises(TryAgainError):
            await refreshed(steps, connection.id)
        await refreshed(steps, connection.id)

        wanted = OpenLifecycle(connection_id=connection.id, lifecycle_id=uuid4(), deadline=soon())
        opened = await ActivityEnvironment().run(ReauthActivities(sessions, vault, strict, BASE).open, wanted)

        [invitation], [task] = await every(sessions, ConsentSession), await every(sessions, OperatorTask)
        assert opened.session_id == invitation.id
        assert invitation.why == task.cause
        assert "Simulator's answer to a routine renewal of the access was lost" in invitation.why
        assert "nobody has revoked anything" in invitation.why
        assert await status(sessions, connection) == "active"
        assert await person.refreshes() == 1

    async def test_stays_ambiguous_through_a_refusal_that_follows(
        self, steps: RefreshActivities, sessions: Sessions, connection: Connection, person: Person
    ) -> None:
        await person.breaks(kind="drop", path="/oauth/token", count=1)
        await person.breaks(kind="status", path="/oauth/token", status=400, body={"error": "invalid_grant"}, count=1)
        with pytest.raises(TryAgainError):
            await refreshed(steps, connection.id)

        assert (await refreshed(steps, connection.id)).refresh is Refresh.REFUSED

        assert (await stored(sessions, RefreshLease, connection.id)).sent_version == 1

    async def test_is_nothing_to_a_provider_that_does_not_rotate_any_more(
        self, sessions: Sessions, vault: Vault, providers: Providers, connection: Connection, person: Person
    ) -> None:
        """Its entry was corrected after an answer was lost: its refresh tokens are never used up."""
        rotating = altered(providers, rotation_grace=timedelta(0))
        await person.breaks(kind="drop", path="/oauth/token", count=1)
        with pytest.raises(TryAgainError):
            await refreshed(RefreshActivities(sessions, vault, rotating), connection.id)

        corrected = altered(providers, rotation_grace=timedelta(0), rotates_refresh_token=False)
        result = await refreshed(RefreshActivities(sessions, vault, corrected), connection.id)

        assert result.refresh is Refresh.REFRESHED

    async def test_stays_ambiguous_through_an_outage_that_follows(
        self, steps: RefreshActivities, sessions: Sessions, connection: Connection, person: Person
    ) -> None:
        await person.breaks(kind="drop", path="/oauth/token", count=1)
        await person.breaks(kind="status", path="/oauth/token", status=503, count=1)

        for _ in range(2):
            with pytest.raises(TryAgainError):
                await refreshed(steps, connection.id)

        assert (await stored(sessions, RefreshLease, connection.id)).sent_version == 1

    async def test_is_forgiven_from_its_own_time_and_not_from_an_earlier_versions(
        self, steps: RefreshActivities, sessions: Sessions, connection: Connection, person: Person
    ) -> None:
        await refreshed(steps, connection.id)
        async with sessions.begin() as session:  # version 1's answer was lost days ago; its owner has consented since
            lease = await session.get_one(RefreshLease, connection.id)
            lease.sent_version, lease.sent_at = 1, datetime.now(UTC) - timedelta(days=2)
        await person.breaks(kind="drop", path="/oauth/token", count=1)
        with pytest.raises(TryAgainError):
            await refreshed(steps, connection.id)

        result = await refreshed(steps, connection.id)

        assert result.refresh is Refresh.REFRESHED
        assert await every(sessions, GrantEvent) == []


class TestTwoRefreshesAtOnce:
    async def test_are_one_for_the_provider(
        self,
        steps: RefreshActivities,
        gated: RefreshActivities,
        gate: Gate,
        sessions: Sessions,
        connection: Connection,
        person: Person,
    ) -> None:
        first = asyncio.create_task(refreshed(gated, connection.id))
        await gate.reached.wait()

        with pytest.raises(TryAgainError, match="another refresh of this connection is under way") as busy:
            await refreshed(steps, connection.id)
        gate.opened.set()

        assert (await first).refresh is Refresh.REFRESHED
        assert busy.value.after is not None
        assert await person.refreshes() == 1
        assert await versions(sessions) == {1: "retired", 2: "active"}

    async def test_void_the_one_whose_lease_ran_out(
        self,
        steps: RefreshActivities,
        gated: RefreshActivities,
        gate: Gate,
        sessions: Sessions,
        connection: Connection,
        person: Person,
    ) -> None:
        late = asyncio.create_task(refreshed(gated, connection.id))
        await gate.reached.wait()
        async with sessions.begin() as session:
            (await session.get_one(RefreshLease, connection.id)).until = datetime.now(UTC) - timedelta(seconds=1)
        winner = await refreshed(steps, connection.id)

        gate.opened.set()

        assert (winner.refresh, winner.version) == (Refresh.REFRESHED, 2)
        assert (await late).refresh is Refresh.NOT_CONNECTED
        assert await versions(sessions) == {1: "retired", 2: "active"}

    async def test_send_nothing_with_a_lease_that_ran_out_before(
        self,
        sessions: Sessions,
        vault: Vault,
        providers: Providers,
        gate: Gate,
        connection: Connection,
        person: Person,
    ) -> None:
        """The introspection before the second refresh took so long that somebody else has claimed meanwhile."""
        async with httpx.AsyncClient(event_hooks={"request": [gate]}, trust_env=False) as http:
            asking = altered(providers, http=http, introspect_url=f"{person.http.base_url}/oauth/nowhere")
            late = asyncio.create_task(confirmed(RefreshActivities(sessions, vault, asking), connection.id))
            await gate.reached.wait()
            async with sessions.begin() as session:
                (await session.get_one(RefreshLease, connection.id)).token += 1
            gate.opened.set()

            with pytest.raises(TryAgainError, match="ran out before it was sent"):
                await late

        assert await person.refreshes() == 0
        assert (await stored(sessions, RefreshLease, connection.id)).sent_version is None


class TestABlockedConnection:
    @pytest.fixture
    async def blocked(self, sessions: Sessions, connection: Connection) -> Connection:
        async with sessions.begin() as session:
            row = await connections.lock(session, connection.id)
            row.status, row.grants, row.missing_grants = Status.PENDING_REAUTH, [], list(row.grants)
        return connection

    async def test_is_repaired_by_a_refresh_that_works(
        self, steps: RefreshActivities, sessions: Sessions, blocked: Connection
    ) -> None:
        result = await refreshed(steps, blocked.id)

        assert (result.refresh, result.version, result.repaired) == (Refresh.REFRESHED, 2, True)
        assert await status(sessions, blocked) == "active"

    async def test_still_refused_stays_as_it_is_and_needs_no_second_look(
        self, steps: RefreshActivities, sessions: Sessions, blocked: Connection, person: Person
    ) -> None:
        await person.revokes()

        result = await refreshed(steps, blocked.id)

        assert result.refresh is Refresh.NOT_CONNECTED
        assert "the owner has to consent again: 400 invalid_grant" in result.why
        assert await person.refreshes() == 1
        assert await status(sessions, blocked) == "pending_reauth"
        assert await every(sessions, GrantEvent) == []


class TestADisconnectDuringARefresh:
    async def test_wins(
        self, gated: RefreshActivities, gate: Gate, sessions: Sessions, connection: Connection, person: Person
    ) -> None:
        running = asyncio.create_task(refreshed(gated, connection.id))
        await gate.reached.wait()
        async with sessions.begin() as session:
            row = await connections.lock(session, connection.id)
            await ending.give_up(session, row, among=refresh.REFRESHABLE, reason="r", actor="ada", ended="expired")

        gate.opened.set()
        result = await running

        assert result.refresh is Refresh.NOT_CONNECTED
        assert await person.refreshes() == 1
        assert await status(sessions, connection) == "disconnected"
        assert await versions(sessions) == {1: "retired"}


class TestClientCredentials:
    """Nobody consented: we have a token in our own name, and ask for another one (W28)."""

    @pytest.fixture
    def own(self, sessions: Sessions, vault: Vault, providers: Providers) -> RefreshActivities:
        return RefreshActivities(sessions, vault, altered(providers, flow="client_credentials"))

    async def test_the_first_token_connects(
        self, own: RefreshActivities, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        row = await add_connection(sessions, status=Status.ERRORED, grants=[], account_id=None)

        result = await refreshed(own, row.id)

        assert (result.refresh, result.version) == (Refresh.REFRESHED, 1)
        assert await status(sessions, row) == Status.ACTIVE
        [kept] = await every(sessions, Credential)
        assert kept.refresh_at is not None
        assert credentials.opened(vault, kept).refresh_token is None
        [event] = await every(sessions, OutboxEvent)
        assert event.name == "connection.connected"

    async def test_another_one_replaces_it(self, own: RefreshActivities, sessions: Sessions, person: Person) -> None:
        row = await add_connection(sessions, status=Status.ERRORED, grants=[], account_id=None)
        await refreshed(own, row.id)

        assert (await refreshed(own, row.id)).version == 2
        assert await versions(sessions) == {1: "retired", 2: "active"}

    async def test_a_wrong_secret_is_a_task_and_the_right_one_a_repair(
        self, own: RefreshActivities, sessions: Sessions, person: Person
    ) -> None:
        row = await add_connection(sessions, status=Status.ERRORED, grants=[], account_id=None)
        fault = {"kind": "status", "status": 401, "body": {"error": "invalid_client"}, "path": "/oauth/token"}
        (await person.http.post("/admin/faults", json=fault)).raise_for_status()

        assert (await refreshed(own, row.id)).refresh is Refresh.OPERATOR_MUST_ACT

        [task] = await every(sessions, OperatorTask)
        assert (task.kind, task.status) == ("errored", "open")
        assert "RUNBOOK_PROVIDER_SIMULATOR_CLIENT_SECRET" in task.way_out
        await person.heals()
        assert (await refreshed(own, row.id)).refresh is Refresh.REFRESHED
        assert [task.status for task in await every(sessions, OperatorTask)] == ["closed"]

    async def test_a_refusal_under_a_shield_is_no_task_and_asked_again_by_reconcile(
        self, own: RefreshActivities, sessions: Sessions, person: Person
    ) -> None:
        minute = datetime.now(UTC) - timedelta(minutes=1)
        row = await add_connection(
            sessions, status=Status.ERRORED, status_reason=NOT_FETCHED, grants=[], account_id=None, created_at=minute
        )
        fault = {"kind": "status", "status": 401, "body": {"error": "invalid_client"}, "path": "/oauth/token"}
        (await person.http.post("/admin/faults", json=fault)).raise_for_status()
        outage_id = await put_up(sessions)

        refused = await refreshed(own, row.id)

        assert refused.refresh is Refresh.SET_ASIDE
        assert "set aside, shielded: outage of simulator since" in refused.why
        assert await every(sessions, OperatorTask) == []
        assert [noted.step for noted in await every(sessions, WouldHaveDone)] == [Step.ERRORED]
        async with sessions.begin() as session:
            assert [each.id for each in await refresh_first.unfetched(session)] == [row.id]
        await lift(sessions, outage_id)
        assert (await refreshed(own, row.id)).refresh is Refresh.OPERATOR_MUST_ACT
        assert len(await every(sessions, OperatorTask)) == 1

    async def test_trouble_is_waited_for(self, own: RefreshActivities, sessions: Sessions, person: Person) -> None:
        row = await add_connection(sessions, status=Status.ERRORED, grants=[], account_id=None)
        fault = {"kind": "status", "status": 503, "path": "/oauth/token"}
        (await person.http.post("/admin/faults", json=fault)).raise_for_status()

        with pytest.raises(TryAgainError):
            await refreshed(own, row.id)

        await person.heals()
        assert (await refreshed(own, row.id)).refresh is Refresh.REFRESHED

    async def test_one_that_was_given_up_stays_so(self, own: RefreshActivities, sessions: Sessions) -> None:
        row = await add_connection(sessions, status=Status.DISCONNECTED, grants=[], account_id=None)

        assert (await refreshed(own, row.id)).refresh is Refresh.NOT_CONNECTED
        assert await every(sessions, Credential) == []

    async def test_a_refusal_is_never_an_owners(
        self, own: RefreshActivities, sessions: Sessions, person: Person
    ) -> None:
        row = await add_connection(sessions, status=Status.ERRORED, grants=[], account_id=None)
        await refreshed(own, row.id)
        fault = {"kind": "status", "status": 400, "body": {"error": "invalid_grant"}, "path": "/oauth/token"}
        (await person.http.post("/admin/faults", json=fault)).raise_for_status()

        first = await refreshed(own, row.id)

        assert (first.refresh, first.meaning) == (Refresh.REFUSED, Meaning.OPERATOR_MUST_ACT)
        assert (await confirmed(own, row.id)).refresh is Refresh.OPERATOR_MUST_ACT
        assert await status(sessions, row) == "errored"
        assert await every(sessions, GrantEvent) == []
