"""W17: writes that look the same are not the same. The caller says which are, by a key of their own choice."""

import asyncio

import pytest

from integrations.domain.errors import KeyTakenError
from tests.job.conftest import Jobs


class TestTwoWrites:
    async def test_of_the_same_payload_by_two_keys_are_two(self, jobs: Jobs) -> None:
        first = await jobs.done("notes.write", key="monday", text="standup at nine")
        second = await jobs.done("notes.write", key="tuesday", text="standup at nine")

        assert (first.status, second.status) == (201, 201)
        assert first.body["id"] != second.body["id"]
        assert await jobs.written() == 2

    async def test_by_one_key_are_one_with_the_same_answer(self, jobs: Jobs) -> None:
        results = await asyncio.gather(*(jobs.done("notes.write", key="monday", text="standup") for _ in range(10)))

        assert len({result.body["id"] for result in results}) == 1
        assert len(await jobs.person.requests("/api/notes", "POST")) == 1

    async def test_of_two_payloads_by_one_key_are_refused_by_name(self, jobs: Jobs) -> None:
        await jobs.done("notes.write", key="monday", text="standup at nine")

        with pytest.raises(KeyTakenError, match=r"the idempotency key 'monday' of connection .* its payload had") as no:
            await jobs.start("notes.write", key="monday", text="standup at ten")

        assert "standup" not in str(no.value)
        assert await jobs.written() == 1
