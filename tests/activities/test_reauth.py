import asyncio
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio.testing import ActivityEnvironment

from activities.reauth import ReauthActivities
from integrations.db import connections, consents, credentials, ending, presses, reauth
from integrations.db.session import Sessions
from integrations.db.tables import Connection, ConsentSession, Credential, OperatorTask, Transition
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.errors import NotReadyError, TryAgainError
from integrations.domain.keyring import Ring
from integrations.domain.reauth import (
    Activation,
    Candidate,
    Consent,
    Detected,
    Exchange,
    Exchanged,
    Expire,
    Opening,
    OpenLifecycle,
    Proof,
)
from integrations.keyring import GivenKeys
from integrations.providers.catalog import Catalog
from integrations.providers.oauth import Providers
from tests.activities.connected import altered
from tests.factories import EVERYTHING, add_connection, add_credential, add_invitation, every, soon, stored
from tests.providers.person import BASE, Person

LIFE = uuid4()


@pytest.fixture
def steps(sessions: Sessions, vault: Vault, providers: Providers) -> ReauthActivities:
    return ReauthActivities(sessions, vault, providers, BASE)


@pytest.fixture
async def connection(sessions: Sessions, vault: Vault, person: Person) -> Connection:
    """Its grant was revoked; the old version still lies there."""
    row = await add_connection(
        sessions,
        status=Status.PENDING_REAUTH,
        lifecycle_id=LIFE,
        account_id=person.id,
        account_name=person.email,
        grants=[],
        missing_grants=EVERYTHING,
    )
    await add_credential(sessions, vault, row.id)
    return row


async def received(
    sessions: Sessions,
    vault: Vault,
    providers: Providers,
    person: Person,
    connection: Connection,
    *,
    only: Collection[str] = EVERYTHING,
    asked: list[str] | None = None,
) -> Consent:
    """The owner has consented, and the code lies sealed in the session's row."""
    code, verifier = await person.gives(providers.client("simulator"), only=only)
    row = await add_invitation(sessions, vault, connection, LIFE, asked=asked or EVERYTHING)
    state = f"state {row.id}"
    async with sessions.begin() as session:
        await presses.mint(session, vault, row.id, state=state, verifier=verifier, browser="b")
    async with sessions.begin() as session:
        found = await presses.by_state(session, state)
        assert found is not None
        row, press, _ = found
        assert await presses.receive(session, vault, row, press, code, {})
    return Consent(connection_id=connection.id, lifecycle_id=LIFE, session_id=row.id, deadline=soon())


@pytest.fixture
async def consent(
    sessions: Sessions, vault: Vault, providers: Providers, person: Person, connection: Connection
) -> Consent:
    return await received(sessions, vault, providers, person, connection)


async def exchanged(steps: ReauthActivities, consent: Consent) -> Exchanged:
    return await ActivityEnvironment().run(steps.exchange, consent)


async def proven(steps: ReauthActivities, candidate: Candidate) -> Proof:
    return await ActivityEnvironment().run(steps.prove, candidate)


async def activated(steps: ReauthActivities, candidate: Candidate) -> Activation:
    return await ActivityEnvironment().run(steps.activate, candidate)


def candidate_of(consent: Consent, version: int | None) -> Candidate:
    assert version is not None
    return Candidate(**consent.model_dump(), version=version)


async def states(sessions: Sessions, connection_id: UUID) -> dict[int, str]:
    return {row.version: row.state for row in await every(sessions, Credential, connection_id=connection_id)}


async def session_status(sessions: Sessions, consent: Consent) -> str:
    return (await stored(sessions, ConsentSession, consent.session_id)).status


async def fresh_invitation(sessions: Sessions, consent: Consent) -> ConsentSession:
    """The invitation that took the consent's place; the consent's own is over and forgotten."""
    old = await stored(sessions, ConsentSession, consent.session_id)
    assert (old.status, old.sealed_code, old.sealed_verifier) == ("refused", None, None)
    [fresh] = await every(sessions, ConsentSession, status="invited")
    [task] = await every(sessions, OperatorTask)
    assert (task.status, task.session_id, task.cause) == ("open", fresh.id, fresh.why)
    return fresh


async def give_up(sessions: Sessions, connection_id: UUID) -> None:
    async with sessions.begin() as session:
        row = await connections.lock(session, connection_id)
        await ending.give_up(session, row, among=tuple(Status), reason="by hand", actor="ada", ended="expired")


class TestOpening:
    async def test_asks_a_first_connection_for_what_the_catalog_wants(
        self, steps: ReauthActivities, sessions: Sessions
    ) -> None:
        connection = await add_connection(sessions, status=Status.DISCONNECTED, grants=[], account_id=None)
        async with sessions.begin() as session:
            await connections.detect(
                session, connection.id, Detected.REQUESTED, cause="a person asks", actor="ada", version=None
            )
        wanted = OpenLifecycle(connection_id=connection.id, lifecycle_id=uuid4(), deadline=soon())

        first = await ActivityEnvironment().run(steps.open, wanted)
        second = await ActivityEnvironment().run(steps.open, wanted)

        invitation = await stored(sessions, ConsentSession, first.session_id)
        assert first.opening is second.opening is Opening.OPENED
        assert first.session_id == second.session_id
        assert (invitation.asked_grants, invitation.why) == (EVERYTHING, "a person asks")

    async def test_of_a_repair_needs_no_entry_that_is_still_there(
        self, sessions: Sessions, vault: Vault, providers: Providers, connection: Connection
    ) -> None:
        """All of its grants are gone, and its entry as well: what to ask for stands in its row."""
        steps = ReauthActivities(sessions, vault, Providers(Catalog({}, {}), providers._http), BASE)
        wanted = OpenLifecycle(connection_id=connection.id, lifecycle_id=LIFE, deadline=soon())

        opened = await ActivityEnvironment().run(steps.open, wanted)

        assert (await stored(sessions, ConsentSession, opened.session_id)).asked_grants == EVERYTHING


class TestAnExchange:
    async def test_keeps_a_candidate_and_leaves_the_old_version_alone(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent, person: Person
    ) -> None:
        answer = await exchanged(steps, consent)

        row = await stored(sessions, ConsentSession, consent.session_id)
        assert (answer.exchange, answer.version) == (Exchange.CANDIDATE, 2)
        assert await states(sessions, consent.connection_id) == {1: "active", 2: "candidate"}
        assert (row.status, row.sealed_code, row.sealed_verifier) == ("exchanged", None, None)
        assert (row.account_id, row.account_name) == (person.id, person.email)
        assert (await stored(sessions, Connection, consent.connection_id)).status == "pending_reauth"

    async def test_again_finds_the_candidate_and_sends_nothing(
        self, steps: ReauthActivities, consent: Consent, person: Person
    ) -> None:
        first = await exchanged(steps, consent)

        second = await exchanged(steps, consent)

        assert second == first
        assert len(await person.requests("/oauth/token")) == 1

    async def test_of_another_lifecycles_consent_is_stale(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent, person: Person
    ) -> None:
        answer = await exchanged(steps, consent.model_copy(update={"lifecycle_id": uuid4()}))

        assert answer.exchange is Exchange.STALE
        assert await session_status(sessions, consent) == "received"
        assert await person.requests("/oauth/token") == []

    async def test_of_an_ended_session_is_stale(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent, person: Person
    ) -> None:
        await give_up(sessions, consent.connection_id)

        answer = await exchanged(steps, consent)

        assert answer.exchange is Exchange.STALE
        assert await person.requests("/oauth/token") == []


class TestTheCode:
    async def test_is_never_sent_a_second_time(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent, person: Person
    ) -> None:
        async with sessions.begin() as session:  # a worker was killed between the mark and the answer
            assert await consents.move(session, consent.session_id, "received", "exchanging")

        answer = await exchanged(steps, consent)

        fresh = await fresh_invitation(sessions, consent)
        assert answer.exchange is Exchange.INVITED_AGAIN
        assert "was lost on its way to us" in fresh.why
        assert await person.requests("/oauth/token") == []
        assert await states(sessions, consent.connection_id) == {1: "active"}

    async def test_is_marked_before_it_goes_out_and_is_not_sent_again_when_the_answer_is_lost(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent, person: Person
    ) -> None:
        await person.breaks(kind="drop", path="/oauth/token", count=1)

        first = await exchanged(steps, consent)
        second = await exchanged(steps, consent)

        assert (first.exchange, second.exchange) == (Exchange.INVITED_AGAIN, Exchange.STALE)
        assert "was lost on its way from Simulator" in (await fresh_invitation(sessions, consent)).why
        assert len(await person.requests("/oauth/token")) == 1

    async def test_that_is_refused_leads_to_a_fresh_invitation(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent, person: Person
    ) -> None:
        await person.breaks(kind="status", path="/oauth/token", status=400, body={"error": "invalid_grant"})

        answer = await exchanged(steps, consent)

        assert answer.exchange is Exchange.INVITED_AGAIN
        assert "did not accept the consent's code" in (await fresh_invitation(sessions, consent)).why

    async def test_that_never_left_waits_for_the_next_attempt(
        self,
        steps: ReauthActivities,
        sessions: Sessions,
        vault: Vault,
        providers: Providers,
        consent: Consent,
    ) -> None:
        unreachable = altered(providers, token_url="http://127.0.0.1:9/token")

        with pytest.raises(TryAgainError, match="nothing was sent"):
            await exchanged(ReauthActivities(sessions, vault, unreachable, BASE), consent)

        assert await session_status(sessions, consent) == "received"
        assert (await exchanged(steps, consent)).exchange is Exchange.CANDIDATE

    async def test_is_sent_once_by_attempts_that_overlap(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent, person: Person
    ) -> None:
        """Temporal gave some up, which go on all the same; `tests/chaos/test_frozen.py` has each of their races."""
        answers = await asyncio.gather(*(exchanged(steps, consent) for _ in range(4)), return_exceptions=True)

        assert all(isinstance(answer, Exchanged | TryAgainError) for answer in answers)
        assert await person.exchanges() == 1

    @pytest.mark.parametrize("lacking", ["client secret", "key"])
    async def test_waits_for_what_only_a_person_can_bring(
        self,
        sessions: Sessions,
        vault: Vault,
        providers: Providers,
        consent: Consent,
        lacking: str,
    ) -> None:
        poor = altered(providers, environment={}) if lacking == "client secret" else providers
        steps = ReauthActivities(
            sessions, vault if lacking != "key" else Vault(GivenKeys(Ring.of_one("k2", b"k" * 32))), poor, BASE
        )

        for _ in range(2):
            with pytest.raises(NotReadyError):
                await exchanged(steps, consent)

        assert await session_status(sessions, consent) == "received"

    async def test_that_our_own_registration_spoilt_is_the_operators_too(
        self, sessions: Sessions, vault: Vault, providers: Providers, consent: Consent
    ) -> None:
        wrong = {
            "RUNBOOK_PROVIDER_SIMULATOR_CLIENT_ID": "runbook",
            "RUNBOOK_PROVIDER_SIMULATOR_CLIENT_SECRET": "wrong",
        }
        steps = ReauthActivities(sessions, vault, altered(providers, environment=wrong), BASE)

        answer = await exchanged(steps, consent)

        tasks = {task.kind: task for task in await every(sessions, OperatorTask)}
        assert answer.exchange is Exchange.INVITED_AGAIN
        assert "a mistake on our side" in answer.why
        assert "RUNBOOK_PROVIDER_SIMULATOR_CLIENT_SECRET" in tasks["registration"].way_out
        assert (await stored(sessions, Connection, consent.connection_id)).status == "pending_reauth"


class TestTheProofAtOnce:
    async def test_activates_in_the_same_step(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent
    ) -> None:
        answer = await exchanged(steps, consent.model_copy(update={"prove": True}))

        assert answer.proof == Proof(works=True, activation=Activation.ACTIVE)
        assert await states(sessions, consent.connection_id) == {1: "retired", 2: "active"}
        assert (await stored(sessions, Connection, consent.connection_id)).status == "active"

    async def test_again_finds_it_done_by_an_attempt_that_was_given_up(
        self, steps: ReauthActivities, consent: Consent, person: Person
    ) -> None:
        wanted = consent.model_copy(update={"prove": True})

        first, second = [await exchanged(steps, wanted) for _ in range(2)]

        assert first == second
        assert await person.exchanges() == 1

    async def test_is_left_to_a_step_of_its_own_when_the_provider_has_trouble(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent, person: Person
    ) -> None:
        await person.breaks(kind="status", path="/api/notes", status=503)

        answer = await exchanged(steps, consent.model_copy(update={"prove": True}))

        assert (answer.exchange, answer.proof) == (Exchange.CANDIDATE, None)
        assert await states(sessions, consent.connection_id) == {1: "active", 2: "candidate"}

    async def test_that_fails_is_no_repair(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent, person: Person
    ) -> None:
        await person.breaks(kind="status", path="/api/notes", status=403, body={"error": "insufficient_scope"})

        answer = await exchanged(steps, consent.model_copy(update={"prove": True}))

        assert answer.proof is not None
        assert not answer.proof.works
        assert (await fresh_invitation(sessions, consent)).why in answer.proof.why

    async def test_is_not_for_runs_that_expect_a_step_for_each(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent
    ) -> None:
        assert (await exchanged(steps, consent)).proof is None
        assert await session_status(sessions, consent) == "exchanged"


class TestTheAccount:
    async def test_has_to_be_the_connections_own(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent, person: Person
    ) -> None:
        async with sessions.begin() as session:
            row = await session.get_one(Connection, consent.connection_id)
            row.account_id, row.account_name = "acct_ada", "ada@other.example"

        answer = await exchanged(steps, consent)

        fresh = await fresh_invitation(sessions, consent)
        assert answer.exchange is Exchange.INVITED_AGAIN
        assert f"{person.email[0]}••@acme.example" in fresh.why
        assert "a••@other.example" in fresh.why
        assert person.email not in fresh.why
        assert await states(sessions, consent.connection_id) == {1: "active"}
        assert (await stored(sessions, Connection, consent.connection_id)).account_id == "acct_ada"

    @pytest.mark.parametrize("order", [{"kind": "status", "status": 503, "retry_after": 3}, {"kind": "drop"}])
    async def test_is_asked_for_again_after_an_outage_without_sending_the_code_again(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent, person: Person, order: dict[str, Any]
    ) -> None:
        await person.breaks(path="/api/me", **order)

        with pytest.raises(TryAgainError, match="asking Simulator whose account it is"):
            await exchanged(steps, consent)
        between = await states(sessions, consent.connection_id)
        await person.heals()
        answer = await exchanged(steps, consent)

        assert between == {1: "active", 2: "unchecked"}
        assert (answer.exchange, answer.version) == (Exchange.CANDIDATE, 2)
        assert len(await person.requests("/oauth/token")) == 1


class TestTheGrants:
    async def test_that_are_missing_are_named_in_the_next_invitation(
        self, steps: ReauthActivities, sessions: Sessions, vault: Vault, providers: Providers, person: Person,
        connection: Connection,
    ) -> None:  # fmt: skip
        consent = await received(sessions, vault, providers, person, connection, only=["profile", "notes.read"])

        answer = await exchanged(steps, consent)

        row = await stored(sessions, Connection, connection.id)
        fresh = await fresh_invitation(sessions, consent)
        assert answer.exchange is Exchange.INVITED_AGAIN
        assert (row.status, row.lifecycle_id) == ("needs_reconsent", LIFE)
        assert fresh.why == "these permissions were not given: notes.write"
        assert fresh.asked_grants == EVERYTHING
        assert await states(sessions, connection.id) == {1: "active"}

    async def test_that_are_only_optional_may_be_missing(
        self, sessions: Sessions, vault: Vault, providers: Providers, person: Person, connection: Connection
    ) -> None:
        consent = await received(sessions, vault, providers, person, connection, only=["profile"])
        capabilities = {
            "profile.read": providers.catalog.provider("simulator")
            .capability("profile.read")
            .model_copy(update={"optional": frozenset({"notes.read", "notes.write"})})
        }
        steps = ReauthActivities(sessions, vault, altered(providers, capabilities=capabilities), BASE)

        assert (await exchanged(steps, consent)).exchange is Exchange.CANDIDATE

    async def test_that_one_capability_requires_are_not_optional_because_another_calls_them_so(
        self, sessions: Sessions, vault: Vault, providers: Providers, person: Person, connection: Connection
    ) -> None:
        consent = await received(sessions, vault, providers, person, connection, only=["profile", "notes.read"])
        capabilities = dict(providers.catalog.provider("simulator").capabilities)
        relaxed = capabilities["profile.read"].model_copy(update={"optional": frozenset({"notes.write"})})
        changed = altered(providers, capabilities=capabilities | {"profile.read": relaxed})
        steps = ReauthActivities(sessions, vault, changed, BASE)

        assert (await exchanged(steps, consent)).exchange is Exchange.INVITED_AGAIN

    async def test_that_are_missing_demote_nothing_that_works(
        self, steps: ReauthActivities, sessions: Sessions, vault: Vault, providers: Providers, person: Person
    ) -> None:
        healthy = await add_connection(sessions, lifecycle_id=LIFE, account_id=person.id)
        await add_credential(sessions, vault, healthy.id)
        consent = await received(sessions, vault, providers, person, healthy, only=["profile"])

        await exchanged(steps, consent)

        assert (await stored(sessions, Connection, healthy.id)).status == "active"


class TestPressing:
    async def test_says_when_to_press_whom(self, steps: ReauthActivities, sessions: Sessions, vault: Vault) -> None:
        blocked = await add_connection(sessions, status=Status.PENDING_REAUTH, lifecycle_id=LIFE, grants=[])
        await add_credential(sessions, vault, blocked.id)
        noon = datetime(2026, 1, 15, 12, tzinfo=UTC)
        wanted = OpenLifecycle(
            connection_id=blocked.id, lifecycle_id=LIFE, deadline=noon + timedelta(days=14), opened_at=noon
        )

        opened = await ActivityEnvironment().run(steps.open, wanted)

        [task] = await every(sessions, OperatorTask)
        assert opened.remind_at == tuple(noon + timedelta(days=days) for days in (1, 3, 6))
        assert opened.escalate_at == task.created_at + timedelta(hours=1)

    async def test_presses_nobody_in_a_lifecycle_from_before_there_were_reminders(
        self, steps: ReauthActivities, sessions: Sessions
    ) -> None:
        blocked = await add_connection(sessions, status=Status.PENDING_REAUTH, lifecycle_id=LIFE, grants=[])

        opened = await ActivityEnvironment().run(
            steps.open, OpenLifecycle(connection_id=blocked.id, lifecycle_id=LIFE, deadline=soon())
        )

        assert (opened.remind_at, opened.escalate_at) == ((), None)


class TestTheProof:
    async def test_is_a_call_of_each_capability(
        self, steps: ReauthActivities, consent: Consent, person: Person
    ) -> None:
        candidate = candidate_of(consent, (await exchanged(steps, consent)).version)
        before = len(await person.requests("/api/"))

        proof = await proven(steps, candidate)

        assert proof.works
        calls = (await person.requests("/api/"))[before:]
        asked = sorted((row["method"], row["path"]) for row in calls)
        assert asked == [("GET", "/api/me"), ("GET", "/api/notes"), ("GET", "/api/profile")]

    async def test_that_fails_is_no_repair(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent, person: Person
    ) -> None:
        candidate = candidate_of(consent, (await exchanged(steps, consent)).version)
        await person.breaks(kind="status", path="/api/notes", status=403, body={"error": "insufficient_scope"})

        proof = await proven(steps, candidate)

        fresh = await fresh_invitation(sessions, consent)
        assert not proof.works
        assert proof.why == fresh.why
        assert "accepted the consent but not a call with it" in fresh.why
        assert await states(sessions, consent.connection_id) == {1: "active"}
        assert (await stored(sessions, Connection, consent.connection_id)).status == "pending_reauth"

    async def test_waits_for_an_outage_to_end(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent, person: Person
    ) -> None:
        candidate = candidate_of(consent, (await exchanged(steps, consent)).version)
        await person.breaks(kind="status", path="/api/notes", status=503, retry_after=4)

        with pytest.raises(TryAgainError) as trouble:
            await proven(steps, candidate)

        assert trouble.value.after == timedelta(seconds=4)
        assert await states(sessions, consent.connection_id) == {1: "active", 2: "candidate"}
        await person.heals()
        assert (await proven(steps, candidate)).works

    async def test_of_a_candidate_that_is_gone_is_none(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent
    ) -> None:
        candidate = candidate_of(consent, (await exchanged(steps, consent)).version)
        await give_up(sessions, consent.connection_id)

        assert not (await proven(steps, candidate)).works

    async def test_without_a_single_call_is_none(
        self, steps: ReauthActivities, sessions: Sessions, vault: Vault, consent: Consent
    ) -> None:
        candidate = candidate_of(consent, (await exchanged(steps, consent)).version)
        async with sessions.begin() as session:
            found = await credentials.with_connection(session, candidate.connection_id, candidate.version)
            assert found is not None
            found[1].grants = ["a grant of old that no capability wants"]

        assert not (await proven(steps, candidate)).works


class TestTheEnd:
    async def test_is_a_connection_that_works(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent
    ) -> None:
        candidate = candidate_of(consent, (await exchanged(steps, consent)).version)
        await proven(steps, candidate)

        answers = [await activated(steps, candidate) for _ in range(2)]

        row = await stored(sessions, Connection, consent.connection_id)
        assert answers == [Activation.ACTIVE, Activation.ACTIVE]
        assert (row.status, row.grants, row.lifecycle_id) == ("active", EVERYTHING, None)
        assert await states(sessions, consent.connection_id) == {1: "retired", 2: "active"}
        assert await session_status(sessions, consent) == "completed"

    async def test_of_a_candidate_that_gave_way_to_a_fresh_invitation_is_none(
        self, steps: ReauthActivities, sessions: Sessions, vault: Vault, consent: Consent
    ) -> None:
        """Another attempt's proof failed a moment ago."""
        candidate = candidate_of(consent, (await exchanged(steps, consent)).version)
        async with sessions.begin() as session:
            await reauth.invite_again(session, vault, consent, consent.session_id, why="403", deadline=soon())

        proof = await ActivityEnvironment().run(steps.prove_and_activate, candidate)

        assert (proof.works, proof.activation) == (False, None)
        assert await activated(steps, candidate) is Activation.VOID
        assert (await stored(sessions, Connection, consent.connection_id)).lifecycle_id == LIFE

    async def test_after_a_disconnect_brings_nothing_back(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent
    ) -> None:
        candidate = candidate_of(consent, (await exchanged(steps, consent)).version)
        await give_up(sessions, consent.connection_id)

        assert await activated(steps, candidate) is Activation.VOID
        assert (await stored(sessions, Connection, consent.connection_id)).status == "disconnected"

    async def test_is_proven_and_reached_in_one_step_however_often_it_is_taken(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent
    ) -> None:
        candidate = candidate_of(consent, (await exchanged(steps, consent)).version)

        first, second = [await ActivityEnvironment().run(steps.prove_and_activate, candidate) for _ in range(2)]

        assert first == second == Proof(works=True, activation=Activation.ACTIVE)
        assert await states(sessions, consent.connection_id) == {1: "retired", 2: "active"}
        [transition] = await every(sessions, Transition, connection_id=consent.connection_id)
        assert transition.run_id == ActivityEnvironment.default_info().workflow_run_id
        assert transition.evidence["answer"] == "200"
        assert transition.evidence["rule"] == "success"

    async def test_is_not_reached_by_a_proof_that_fails(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent, person: Person
    ) -> None:
        candidate = candidate_of(consent, (await exchanged(steps, consent)).version)
        await person.breaks(kind="status", path="/api/notes", status=403, body={"error": "insufficient_scope"})

        proof = await ActivityEnvironment().run(steps.prove_and_activate, candidate)

        assert (proof.works, proof.activation) == (False, None)
        assert await states(sessions, consent.connection_id) == {1: "active"}
        assert (await stored(sessions, Connection, consent.connection_id)).status == "pending_reauth"
        refused = await stored(sessions, ConsentSession, consent.session_id)
        assert refused.evidence["answer"] == "403 insufficient_scope"

    async def test_comes_at_the_deadline_when_nobody_came(
        self, steps: ReauthActivities, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        invitation = await add_invitation(sessions, vault, connection, LIFE)
        expired = Expire(connection_id=connection.id, lifecycle_id=LIFE, why="nobody came in 14 days")

        answers = [await ActivityEnvironment().run(steps.expire, expired) for _ in range(2)]

        row = await stored(sessions, Connection, connection.id)
        assert answers == [None, None]
        assert (row.status, row.status_reason) == ("disconnected", "nobody came in 14 days")
        assert await states(sessions, connection.id) == {1: "retired"}
        assert (await stored(sessions, ConsentSession, invitation.id)).status == "expired"

    async def test_does_not_come_at_the_deadline_when_somebody_came_in_time(
        self, steps: ReauthActivities, sessions: Sessions, consent: Consent
    ) -> None:
        expired = Expire(connection_id=consent.connection_id, lifecycle_id=LIFE, why="nobody came in 14 days")

        assert await ActivityEnvironment().run(steps.expire, expired) == consent.session_id

        assert (await stored(sessions, Connection, consent.connection_id)).status == "pending_reauth"
        assert await session_status(sessions, consent) == "received"
        assert (await exchanged(steps, consent)).exchange is Exchange.CANDIDATE
