"""What a re-encryption decides, with scripted steps; and its real steps, told to stop in the middle."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHandle
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities import keys as activities
from activities.keys import KeysActivities
from integrations import temporal
from integrations.db import sealed
from integrations.db.credentials import opened
from integrations.db.session import Sessions
from integrations.db.tables import Connection, Credential
from integrations.db.vault import Vault
from integrations.domain.keys import Pass, Reencrypted, ReencryptRequest, ReencryptStep, Unopened
from integrations.keyring import GivenKeys, KeysFile
from tests.factories import add_connection, add_credential, every, keys_file, tokens
from tests.workflows.fakes import OUTAGE, FakeKeys, workers

WANTED = ReencryptRequest(key_id="k2", by="ada", reason="yearly")
LOST = Unopened(count=1, named=["credential … does not open with key 'k1'"])


async def outcome(env: WorkflowEnvironment, fake: FakeKeys) -> tuple[WorkflowHandle[Any, Any], Reencrypted]:
    async with workers(env.client, keys=fake):
        handle = await temporal.start_reencryption(env.client, WANTED)
        return handle, await asyncio.wait_for(handle.result(), 30)


class TestAReencryption:
    async def test_goes_on_from_where_a_step_ended_and_looks_once_more(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        half = Pass(what="credentials", after="10000", moved=10_000)
        fake = FakeKeys(counts=[12_000, 0], steps=[half, Pass(done=True, moved=12_000)])

        _, result = await outcome(time_skipping, fake)

        assert [step.at for step in fake.steps] == [Pass(), half, Pass()]
        assert {step.key_id for step in fake.steps} == {"k2"}
        assert (result.moved, result.left, result.complete) == (12_000, 0, True)

    async def test_with_nothing_to_do_is_one_pass(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeKeys()

        _, result = await outcome(time_skipping, fake)

        assert len(fake.steps) == 1
        assert (result.moved, result.complete) == (0, True)

    async def test_says_what_it_left_and_does_not_try_it_for_ever(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeKeys(counts=[3, 1], steps=[Pass(done=True, moved=2, unopened=LOST), Pass(done=True, unopened=LOST)])

        _, result = await outcome(time_skipping, fake)

        assert (result.moved, result.left, result.complete) == (2, 1, False)
        assert result.unopened == LOST

    async def test_does_not_chase_a_process_that_goes_on_sealing_with_an_old_key(
        self, time_skipping: WorkflowEnvironment
    ) -> None:
        fake = FakeKeys(counts=[9, 2], steps=[Pass(done=True, moved=2)] * 9)

        _, result = await outcome(time_skipping, fake)

        assert len(fake.steps) == 3
        assert (result.moved, result.left, result.complete) == (6, 2, False)

    async def test_waits_for_a_database_that_is_down(self, time_skipping: WorkflowEnvironment) -> None:
        fake = FakeKeys(counts=[1, 0], steps=[*[OUTAGE] * 5, Pass(done=True, moved=1)])

        _, result = await outcome(time_skipping, fake)

        assert len(fake.steps) == 7
        assert result.complete

    async def test_is_joined_and_not_started_twice(self, time_skipping: WorkflowEnvironment) -> None:
        first = await temporal.start_reencryption(time_skipping.client, WANTED)
        second = await temporal.start_reencryption(time_skipping.client, WANTED)
        await first.terminate()

        assert first.first_execution_run_id == second.first_execution_run_id

    async def test_tells_its_story_in_the_web_ui(self, time_skipping: WorkflowEnvironment) -> None:
        half = Pass(what="credentials", after="10000", moved=10_000)
        fake = FakeKeys(counts=[12_000, 0], steps=[half, Pass(done=True, moved=12_000)])

        handle, _ = await outcome(time_skipping, fake)
        events = (await handle.fetch_history()).events

        kind = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        said = [event.user_metadata.summary.data.decode() for event in events if event.event_type == kind]
        assert said[1:3] == ['"0 of 12,000, pass 1"', '"10,000 of 12,000, pass 1"']


@pytest.fixture
def file(tmp_path: Path) -> KeysFile:
    return keys_file(tmp_path, "k1", "k2")


async def sealed_with_k1(sessions: Sessions, file: KeysFile, count: int) -> Connection:
    connection, vault = await add_connection(sessions), Vault(file)
    for _ in range(count):
        await add_credential(sessions, vault, connection.id, state="retired")
    return connection


class TestAStep:
    async def test_is_bounded_and_says_how_far_it_is_after_each_batch(
        self, sessions: Sessions, file: KeysFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sealed, "BATCH", 2)
        monkeypatch.setattr(activities, "BATCHES", 3)
        await sealed_with_k1(sessions, file, 10)
        environment, beats = ActivityEnvironment(), list[Pass]()
        environment.on_heartbeat = beats.append

        at = await environment.run(
            KeysActivities(sessions, Vault(file)).reencrypt, ReencryptStep(key_id="k2", at=Pass())
        )

        assert [beat.moved for beat in beats] == [2, 4, 6]
        assert (at, at.done) == (beats[-1], False)
        assert len(await every(sessions, Credential, key_id="k1")) == 4

    async def test_goes_on_from_the_last_heartbeat_of_a_worker_that_died(
        self, sessions: Sessions, file: KeysFile
    ) -> None:
        await sealed_with_k1(sessions, file, 6)
        third = sorted(row.id for row in await every(sessions, Credential))[2]
        beaten = Pass(what="credentials", after=str(third), moved=3)
        environment = ActivityEnvironment()
        environment.info = replace(environment.info, heartbeat_details=[beaten.model_dump(mode="json")], attempt=2)

        at = await environment.run(
            KeysActivities(sessions, Vault(file)).reencrypt, ReencryptStep(key_id="k2", at=Pass())
        )

        assert at.moved == 6
        assert {row.id for row in await every(sessions, Credential, key_id="k1")} == {
            row.id for row in await every(sessions, Credential) if row.id <= third
        }

    async def test_of_two_workers_at_once_moves_every_row_once(self, sessions: Sessions, file: KeysFile) -> None:
        """As after a heartbeat that came too late: the first worker is not dead, only slow."""
        await sealed_with_k1(sessions, file, 50)
        steps = KeysActivities(sessions, Vault(file))

        both = await asyncio.gather(
            *(ActivityEnvironment().run(steps.reencrypt, ReencryptStep(key_id="k2", at=Pass())) for _ in range(2))
        )

        only = Vault(GivenKeys(file.reread().activated("k2").without("k1")))
        assert sum(at.moved for at in both) == 50
        assert [opened(only, row) for row in await every(sessions, Credential)] == [tokens()] * 50
