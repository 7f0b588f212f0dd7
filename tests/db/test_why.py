from uuid import UUID, uuid4

from integrations.db import connections, consents, ending, presses, reauth, why
from integrations.db.session import Sessions
from integrations.db.tables import Connection
from integrations.db.vault import Vault
from integrations.db.why import Turn
from integrations.domain.connection import Status
from integrations.domain.reauth import Candidate, Detected, OpenLifecycle
from integrations.domain.run import Run
from tests.factories import add_credential, soon

REFRESH, REAUTH = Run(workflow_id="refresh:1", run_id="r1"), Run(workflow_id="reauth:1", run_id="r2")
REFUSED = {"answer": "400 invalid_grant", "rule": "grant-dead", "noticed_in": REFRESH.model_dump()}


async def turns(sessions: Sessions, connection_id: UUID) -> list[Turn]:
    async with sessions.begin() as session:
        return await why.turns(session, connection_id)


async def opened(sessions: Sessions, vault: Vault, connection: Connection) -> tuple[UUID, UUID]:
    """Revoked and blocked. The lifecycle and its invitation."""
    await add_credential(sessions, vault, connection.id)
    async with sessions.begin() as session:
        await connections.detect(
            session,
            connection.id,
            Detected.REVOKED,
            cause="refused twice",
            actor="RefreshWorkflow",
            version=1,
            evidence=REFUSED,
        )
    wanted = OpenLifecycle(connection_id=connection.id, lifecycle_id=uuid4(), deadline=soon())
    async with sessions.begin() as session:
        answer = await reauth.open_lifecycle(session, vault, wanted, lambda _: [], run=REAUTH)
    assert answer.session_id is not None
    return wanted.lifecycle_id, answer.session_id


class TestWhy:
    async def test_tells_what_the_provider_said_which_rule_it_met_and_which_runs_noticed_and_acted(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        lifecycle, _ = await opened(sessions, vault, connection)

        [turn] = await turns(sessions, connection.id)

        assert (turn.what, turn.reason) == ("active → pending_reauth", "refused twice")
        assert (turn.answer, turn.rule) == ("400 invalid_grant", "grant-dead")
        assert (turn.noticed_by, turn.run, turn.lifecycle_id) == (REFRESH, REAUTH, lifecycle)
        assert turn.person == ""

    async def test_tells_who_consented_and_what_proved_it_and_what_was_no_repair_before(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        lifecycle, first = await opened(sessions, vault, connection)
        wrong = {"account": "b••@other.example", "belongs_to": "a••@acme.example"}
        given = Candidate(
            connection_id=connection.id, lifecycle_id=lifecycle, session_id=first, version=2, deadline=soon()
        )
        async with sessions.begin() as session:
            await reauth.invite_again(
                session, vault, given, first, why="another account", deadline=soon(), evidence=wrong
            )
            second = await consents.open_session(session, lifecycle)
            assert second is not None
        await add_credential(sessions, vault, connection.id, state="candidate", session_id=second.id)
        async with sessions.begin() as session:
            await ending.activate(
                session,
                given.model_copy(update={"session_id": second.id}),
                run=REAUTH,
                evidence={"answer": "200", "rule": "success"},
            )

        _, refused, repaired = await turns(sessions, connection.id)

        assert (refused.what, refused.reason) == ("invitation refused", "another account")
        assert refused.person == "b••@other.example"
        assert (repaired.what, repaired.person) == ("pending_reauth → active", "a••@acme.example")
        assert (repaired.answer, repaired.rule, repaired.run) == ("200", "success", REAUTH)

    async def test_tells_that_the_owner_declined(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        _, invited = await opened(sessions, vault, connection)
        async with sessions.begin() as session:
            await presses.mint(session, vault, invited, state="s", verifier="v", browser="b")
        async with sessions.begin() as session:
            found = await presses.by_state(session, "s")
            assert found is not None
            await presses.refuse(session, found[0], found[1], declined=True, why="you declined")

        _, declined = await turns(sessions, connection.id)

        assert declined.what == "invitation declined"

    async def test_tells_the_person_who_acted_and_no_workflow(self, sessions: Sessions, connection: Connection) -> None:
        async with sessions.begin() as session:
            row = await connections.lock(session, connection.id)
            await ending.give_up(session, row, among=tuple(Status), reason="left us", actor="ada", ended="expired")

        [turn] = await turns(sessions, connection.id)

        assert (turn.what, turn.reason, turn.person) == ("active → disconnected", "left us", "ada")
        assert turn.run is None

    async def test_tells_what_was_noticed_and_changed_nothing(self, sessions: Sessions, connection: Connection) -> None:
        async with sessions.begin() as session:
            await connections.detect(
                session, connection.id, Detected.REQUESTED, cause="a person asks", actor="ada", version=None
            )

        [turn] = await turns(sessions, connection.id)

        assert (turn.what, turn.person) == ("requested, no change of status", "ada")
