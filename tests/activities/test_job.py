from typing import Any

import pytest
from pydantic import ValidationError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import ActivityEnvironment

from activities.job import JobActivities
from integrations.db.session import Sessions
from integrations.db.tables import Connection
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.errors import RunbookError, TryAgainError
from integrations.domain.gate import Answer
from integrations.domain.job import JobRequest, JobResult
from integrations.domain.verdict import Meaning
from integrations.providers.oauth import Providers
from tests.activities.connected import connected
from tests.factories import add_connection
from tests.providers.person import Person


@pytest.fixture
def steps(sessions: Sessions, vault: Vault, providers: Providers) -> JobActivities:
    return JobActivities(sessions, vault, providers)


@pytest.fixture
async def connection(sessions: Sessions, vault: Vault, providers: Providers, person: Person) -> Connection:
    return await connected(sessions, vault, providers, person)


def job(connection: Connection, **changes: Any) -> JobRequest:
    given = {
        "connection_id": connection.id,
        "provider_id": "simulator",
        "tenant": "org:acme",
        "capability": "notes.write",
        "idempotency_key": f"key-{connection.id}",
        "payload": {"text": "hi"},
        "by": "ada",
        "reason": "a test",
    }
    return JobRequest(**(given | changes))


async def called(steps: JobActivities, wanted: JobRequest) -> JobResult:
    return await ActivityEnvironment().run(steps.call, wanted)


async def changed(sessions: Sessions, connection: Connection, **values: Any) -> None:
    async with sessions.begin() as session:
        row = await session.get_one(Connection, connection.id)
        for name, value in values.items():
            setattr(row, name, value)


class TestAJob:
    async def test_reaches_the_provider_with_its_idempotency_key_and_is_done_once(
        self, steps: JobActivities, connection: Connection, person: Person
    ) -> None:
        first = await called(steps, job(connection))
        second = await called(steps, job(connection))

        assert first.done
        assert (first.decision.answer, first.status, first.body["text"]) == (Answer.ALLOWED, 201, "hi")
        assert second.body == first.body
        seen = await person.requests("/api/notes", "POST")
        assert {row["detail"]["idempotency_key"] for row in seen} == {f"key-{connection.id}"}

    async def test_that_is_blocked_names_the_grant_and_reaches_nobody(
        self, steps: JobActivities, sessions: Sessions, connection: Connection, person: Person
    ) -> None:
        await changed(sessions, connection, status=Status.PENDING_REAUTH, grants=[])

        result = await called(steps, job(connection))

        assert not result.done
        assert (result.decision.answer, result.decision.missing) == (Answer.BLOCKED, ("notes.write",))
        assert "notes.write" in result.because
        assert (result.meaning, result.status) == (None, None)
        assert await person.requests("/api/") == []

    async def test_that_reads_goes_on_while_the_owner_is_awaited(
        self, steps: JobActivities, sessions: Sessions, connection: Connection
    ) -> None:
        await changed(sessions, connection, status=Status.PENDING_REAUTH, grants=[])

        result = await called(steps, job(connection, capability="notes.read"))

        assert result.done
        assert (result.decision.answer, result.decision.missing) == (Answer.DEGRADED, ("notes.read",))

    async def test_without_a_credential_is_blocked(self, steps: JobActivities, sessions: Sessions) -> None:
        result = await called(steps, job(await add_connection(sessions)))

        assert (result.decision.answer, result.because) == (Answer.BLOCKED, "there is no active credential")

    @pytest.mark.parametrize("status", [503, 429])
    async def test_in_trouble_is_tried_again_when_the_provider_says(
        self, steps: JobActivities, connection: Connection, person: Person, status: int
    ) -> None:
        await person.breaks(kind="status", path="/api/notes", status=status, retry_after=5)

        with pytest.raises(TryAgainError, match=r"notes\.write at Simulator") as trouble:
            await called(steps, job(connection))

        assert trouble.value.after is not None
        assert trouble.value.after.total_seconds() == 5

    async def test_that_is_refused_says_what_the_provider_said_and_keeps_no_body(
        self, steps: JobActivities, connection: Connection
    ) -> None:
        result = await called(steps, job(connection, payload={"words": "hi"}))

        assert not result.done
        assert (result.meaning, result.body) == (Meaning.UNKNOWN, None)
        assert result.status in {400, 422}

    async def test_that_brings_too_much_keeps_its_size_only(self, steps: JobActivities, connection: Connection) -> None:
        result = await called(steps, job(connection, payload={"text": "a" * 9_000}))

        assert result.done
        assert list(result.body) == ["left_out"]

    async def test_cannot_take_one_providers_token_to_another(
        self, steps: JobActivities, sessions: Sessions, connection: Connection, person: Person
    ) -> None:
        await changed(sessions, connection, provider_id="github")

        with pytest.raises(RunbookError):
            await called(steps, job(connection))

        assert await person.requests("/api/") == []

    async def test_cannot_use_another_tenants_connection(
        self, steps: JobActivities, connection: Connection, person: Person
    ) -> None:
        with pytest.raises(RunbookError):
            await called(steps, job(connection, tenant="org:other"))

        assert await person.requests("/api/") == []

    async def test_whose_answer_holds_half_a_character_can_be_told(
        self, steps: JobActivities, connection: Connection, person: Person
    ) -> None:
        await person.breaks(kind="status", path="/api/notes", status=200, body='{"text": "\\ud83d"}')

        result = await called(steps, job(connection))

        assert pydantic_data_converter.payload_converter.to_payloads([result])


class TestAnIdempotencyKey:
    @pytest.mark.parametrize("key", ["schlüssel", "two\nlines", "a\x00b"])
    async def test_that_no_header_can_carry_is_refused(self, sessions: Sessions, key: str) -> None:
        connection = await add_connection(sessions)

        with pytest.raises(ValidationError):
            job(connection, idempotency_key=key)
