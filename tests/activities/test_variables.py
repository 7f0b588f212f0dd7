"""A provider whose addresses differ from connection to connection, from the consent to the first call."""

from uuid import uuid4

import pytest
from temporalio.testing import ActivityEnvironment

from activities.job import JobActivities
from activities.reauth import ReauthActivities
from integrations.db import presses
from integrations.db.session import Sessions
from integrations.db.tables import Connection, Credential
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.errors import NotReadyError
from integrations.domain.job import JobRequest
from integrations.domain.reauth import Activation, Candidate, Consent, Exchange
from integrations.providers.entry import Call, Variable
from integrations.providers.oauth import Providers
from tests.activities.connected import altered
from tests.activities.test_reauth import LIFE, soon
from tests.factories import EVERYTHING, add_connection, add_invitation, every, stored
from tests.providers.person import BASE, Person


@pytest.fixture
def completed(providers: Providers) -> Providers:
    """The simulator as a provider that has `api` in place of a name that each connection knows."""
    simulator = providers.catalog.provider("simulator")
    capabilities = {
        name: c.model_copy(update={"call": _with_variable(c.call), "probe": _with_variable(c.probe)})
        for name, c in simulator.capabilities.items()
    }
    variables = {
        "room": Variable(source="connection", pattern="[a-z]+"),
        "company": Variable(source="callback", field="realmId", pattern="[0-9]+"),
        "kind": Variable(source="token", field="token_type"),
        "mail": Variable(source="identity", field="email", pattern="([0-9a-f]+)@.*"),
    }
    return altered(providers, capabilities=capabilities, variables=variables)


def _with_variable(call: Call) -> Call:
    return call.model_copy(update={"url": f"{call.url.replace('/api/', '/{room}/')}?c={{company}}&m={{mail}}"})


async def test_is_consented_to_proven_and_called_with_what_each_step_told(
    sessions: Sessions, vault: Vault, completed: Providers, person: Person
) -> None:
    connection = await add_connection(
        sessions, status=Status.DISCONNECTED, lifecycle_id=LIFE, variables={"room": "api"}, account_id=None
    )
    steps = ReauthActivities(sessions, vault, completed, BASE)
    code, verifier = await person.gives(completed.client("simulator"))
    row = await add_invitation(sessions, vault, connection, LIFE, asked=EVERYTHING)
    async with sessions.begin() as session:
        await presses.mint(session, vault, row.id, state="state", verifier=verifier, browser="b")
    async with sessions.begin() as session:
        found = await presses.by_state(session, "state")
        assert found is not None
        told = completed.catalog.provider("simulator").values_of("callback", {"realmId": "4711", "room": "evil"})
        assert await presses.receive(session, vault, found[0], found[1], code, told)
    consent = Consent(connection_id=connection.id, lifecycle_id=LIFE, session_id=row.id, deadline=soon())
    run = ActivityEnvironment().run

    exchanged = await run(steps.exchange, consent)
    assert (exchanged.exchange, exchanged.version) == (Exchange.CANDIDATE, 1)
    candidate = Candidate(**consent.model_dump(), version=1)
    assert (await run(steps.prove, candidate)).works
    assert await run(steps.activate, candidate) is Activation.ACTIVE

    [kept] = await every(sessions, Credential)
    assert kept.variables == {"company": "4711", "kind": "Bearer", "mail": person.email.partition("@")[0]}
    job = JobRequest(
        connection_id=connection.id,
        provider_id="simulator",
        tenant=connection.tenant,
        capability="notes.read",
        idempotency_key=str(uuid4()),
        by="ada",
        reason="r",
    )
    assert (await run(JobActivities(sessions, vault, completed).call, job)).done
    assert (await stored(sessions, Connection, connection.id)).variables == {"room": "api"}


async def test_says_which_value_is_missing_and_where_it_comes_from(completed: Providers, person: Person) -> None:
    client = completed.client("simulator", {"room": "api"})
    granted = await person.connects(client)

    with pytest.raises(NotReadyError, match="needs 'company', which its callback answer gives: consent again"):
        await client.call(client.provider.capability("notes.read").call, granted.access_token)
