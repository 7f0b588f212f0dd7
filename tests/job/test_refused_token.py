"""A provider refuses a job's access token: the connection is refreshed as ever, and the job goes on or says why not."""

import asyncio

from integrations.db.tables import Connection, Credential, GrantEvent, Transition
from integrations.domain.connection import Status
from integrations.domain.refresh import Refresh
from integrations.domain.verdict import Meaning
from tests.factories import every, stored
from tests.job.conftest import Jobs


class TestAnExpiredToken:
    async def test_is_renewed_and_the_write_is_made_once(self, jobs: Jobs) -> None:
        await jobs.access_token_expires()

        result = await jobs.done("notes.write", key="invoice-7", text="hi")

        assert (result.done, result.status, result.refresh) == (True, 201, Refresh.REFRESHED)
        seen = await jobs.person.requests("/api/notes", "POST")
        assert [row["status"] for row in seen] == [401, 201]
        assert seen[1]["detail"]["idempotency_key"] == "invoice-7"
        assert await jobs.person.refreshes() == 1
        assert await jobs.status() == Status.ACTIVE

    async def test_under_twenty_jobs_at_once_costs_one_refresh(self, jobs: Jobs) -> None:
        await jobs.access_token_expires()

        results = await asyncio.gather(*(jobs.done("notes.write", key=f"k{n}", text=f"{n}") for n in range(20)))

        assert [result.done for result in results] == [True] * 20
        assert await jobs.person.refreshes() == 1
        assert await jobs.written() == 20
        versions = await every(jobs.platform.sessions, Credential, connection_id=jobs.connection.id)
        assert sorted((row.version, row.state) for row in versions) == [(1, "retired"), (2, "active")]

    async def test_that_somebody_has_renewed_meanwhile_is_not_renewed_again(self, jobs: Jobs) -> None:
        await jobs.access_token_expires()
        await jobs.person.breaks(kind="drip", path="/api/notes", bytes_per_s=50, count=1)

        slow = await jobs.start("notes.write", key="slow", text="hi")
        async with asyncio.timeout(20):
            while not await jobs.person.requests("/api/notes"):
                await asyncio.sleep(0.02)
        by_hand = await jobs.platform.refresh(jobs.connection.id, by="ada", reason="she was faster")
        assert (await by_hand.result()).version == 2
        result = await asyncio.wait_for(slow.result(), 60)

        assert (result.done, result.refresh) == (True, Refresh.ROTATED_MEANWHILE)
        assert await jobs.person.refreshes() == 1

    async def test_is_seen_after_an_outage_too(self, jobs: Jobs) -> None:
        await jobs.access_token_expires()
        await jobs.person.breaks(kind="status", path="/api/notes", status=503, retry_after=1, count=1)

        result = await jobs.done("notes.write", key="k", text="hi")

        assert result.done
        assert [row["status"] for row in await jobs.person.requests("/api/notes", "POST")] == [503, 401, 201]

    async def test_waits_for_a_token_endpoint_in_trouble_and_demotes_nobody(self, jobs: Jobs) -> None:
        await jobs.access_token_expires()
        await jobs.person.breaks(
            kind="status", path="/oauth/token", status=503, body={"error": "invalid_grant"}, count=2
        )

        result = await jobs.done("notes.write", key="k", text="hi")

        assert (result.done, result.refresh) == (True, Refresh.REFRESHED)
        assert await every(jobs.platform.sessions, Transition, connection_id=jobs.connection.id) == []


class TestATokenThatIsRefusedWhateverItsAge:
    async def test_is_told_and_demotes_nobody(self, jobs: Jobs) -> None:
        await jobs.person.breaks(kind="status", path="/api/notes", status=401, body={"error": "invalid_token"})

        result = await jobs.done("notes.write", key="k", text="hi")

        assert (result.done, result.meaning, result.refused_version) == (False, Meaning.OWNER_MUST_ACT, 2)
        assert result.because == "401 invalid_token: the access token is not accepted, not even after a refresh"
        assert len(await jobs.person.requests("/api/notes", "POST")) == 2
        assert await jobs.person.refreshes() == 1
        assert await jobs.status() == Status.ACTIVE
        assert await every(jobs.platform.sessions, GrantEvent, connection_id=jobs.connection.id) == []


class TestARightThatIsMissing:
    async def test_by_a_bare_403_costs_no_refresh(self, jobs: Jobs) -> None:
        await jobs.person.breaks(kind="status", path="/api/notes", status=403, body={"message": "not your folder"})

        result = await jobs.done("notes.write", key="k", text="hi")

        assert (result.meaning, result.refresh) == (Meaning.OWNER_MUST_ACT, None)
        assert await jobs.person.refreshes() == 0

    async def test_since_the_grant_was_narrowed_is_found_and_the_owner_asked(self, jobs: Jobs) -> None:
        await jobs.person.allows("notes.read", "profile")

        result = await jobs.done("notes.write", key="k", text="hi")

        assert (result.done, result.refresh) == (False, Refresh.REFRESHED)
        assert result.decision.missing == ("notes.write",), "the gate knows by now"
        connection = await stored(jobs.platform.sessions, Connection, jobs.connection.id)
        assert "notes.write" not in connection.grants


class TestARevokedGrant:
    async def test_is_found_confirmed_and_named_by_the_job(self, jobs: Jobs) -> None:
        await jobs.person.revokes()

        result = await jobs.done("notes.write", key="k", text="hi")

        assert (result.done, result.meaning, result.refresh) == (False, Meaning.OWNER_MUST_ACT, Refresh.REFUSED)
        assert "refused the refresh twice: 400 invalid_grant; the owner is asked to consent again" in result.because
        assert await jobs.person.refreshes() == 2, "one, and the one that confirms it"
        assert await jobs.written() == 0
        async with asyncio.timeout(20):
            while await jobs.status() != Status.PENDING_REAUTH:
                await asyncio.sleep(0.05)

    async def test_that_waits_for_its_owner_is_not_refreshed_by_a_read(self, jobs: Jobs) -> None:
        await jobs.person.revokes()
        async with jobs.platform.sessions.begin() as session:
            row = await session.get_one(Connection, jobs.connection.id)
            row.status, row.grants = Status.PENDING_REAUTH, []

        result = await jobs.done("notes.read", key="k")

        assert (result.meaning, result.status, result.refresh) == (Meaning.OWNER_MUST_ACT, 401, None)
        assert await jobs.person.refreshes() == 0
