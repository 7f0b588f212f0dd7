"""Whether the platform may act by itself, and what is kept of what it may not."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from integrations.db import automation, connections
from integrations.db.automation_tables import AutomationPause, WouldHaveDone
from integrations.db.session import Sessions
from integrations.db.tables import Connection, GrantEvent
from integrations.domain.automation import Conduct, FailureMode, Step
from integrations.domain.reauth import Detected
from tests.automated import HOUR, REAUTH, conduct, let_lapse, look, pause, resume
from tests.factories import add_connection, every

LONG_AGO = datetime.now(UTC) - timedelta(hours=2)


async def may(
    sessions: Sessions, row: Connection, mode: FailureMode = REAUTH, step: Step = Step.BLOCK, cause: str = "revoked"
) -> bool:
    async with sessions.begin() as session:
        return await automation.may(session, row, mode, step, cause=cause)


async def detected(
    sessions: Sessions,
    row: Connection,
    kind: Detected = Detected.REVOKED,
    *,
    ordered: bool = False,
    cause: str = "refused",
    version: int = 1,
) -> UUID:
    async with sessions.begin() as session:
        return await connections.detect(
            session, row.id, kind, cause=cause, actor="ada", version=version, ordered=ordered
        )


class TestThePlatform:
    async def test_acts_while_nothing_is_paused_and_notes_nothing(
        self, sessions: Sessions, connection: Connection
    ) -> None:
        assert await may(sessions, connection)
        assert await every(sessions, WouldHaveDone) == []

    async def test_does_not_while_its_mode_is_paused_and_does_in_the_others(
        self, sessions: Sessions, connection: Connection
    ) -> None:
        await pause(sessions, REAUTH)

        assert not await may(sessions, connection)
        assert await may(sessions, connection, FailureMode.OUTAGE)

    async def test_acts_again_when_the_lease_is_over_though_nobody_resumed(
        self, sessions: Sessions, connection: Connection
    ) -> None:
        await pause(sessions)
        await let_lapse(sessions)

        assert await may(sessions, connection)
        assert (await look(sessions)).pauses == ()

    async def test_does_nothing_in_any_mode_while_it_observes(self, sessions: Sessions, connection: Connection) -> None:
        await conduct(sessions, Conduct.OBSERVE)
        assert not any([await may(sessions, connection, mode) for mode in FailureMode])

        await conduct(sessions, Conduct.ACT)
        assert all([await may(sessions, connection, mode) for mode in FailureMode])


class TestAPause:
    async def test_is_extended_by_the_next_one_and_never_shortened(self, sessions: Sessions) -> None:
        [first] = await pause(sessions, lease=HOUR)
        [longer] = await pause(sessions, lease=3 * HOUR, by="grace")
        [shorter] = await pause(sessions, lease=HOUR, by="linus")

        assert first.until < longer.until == shorter.until
        assert first.since == longer.since == shorter.since
        assert (longer.by, shorter.by) == ("grace", "linus")
        assert len(await every(sessions, AutomationPause)) == 1

    async def test_of_all_modes_is_one_of_each_and_ends_one_by_one(
        self, sessions: Sessions, connection: Connection
    ) -> None:
        assert {each.mode for each in await pause(sessions, *FailureMode)} == set(FailureMode)

        assert await resume(sessions, REAUTH) == [REAUTH]

        assert await may(sessions, connection)
        assert not await may(sessions, connection, FailureMode.OUTAGE)
        assert set(await resume(sessions, *FailureMode)) == set(FailureMode) - {REAUTH}

    async def test_that_is_over_keeps_who_wanted_it_and_who_ended_it(self, sessions: Sessions) -> None:
        await pause(sessions)

        assert [await resume(sessions) for _ in range(2)] == [[REAUTH], []]

        [row] = await every(sessions, AutomationPause)
        assert (row.paused_by, row.resumed_by, row.resumed_reason) == ("ada", "grace", "seen")
        [again] = await pause(sessions)
        assert again.since > row.since


class TestWhatWasHeldBack:
    async def test_is_noted_once_however_often_it_is_found(self, sessions: Sessions, connection: Connection) -> None:
        await pause(sessions)

        for number in range(3):
            await may(sessions, connection, cause=f"400 invalid_grant, request {number}")
        await may(sessions, connection, cause="introspection says no")
        await may(sessions, connection, step=Step.ERRORED, cause="invalid_client")

        found = await look(sessions)
        assert found.undone_total == 3
        assert [(each.step, each.cause, each.times) for each in found.undone] == [
            (Step.ERRORED, "invalid_client", 1),
            (Step.BLOCK, "introspection says no", 1),
            (Step.BLOCK, "400 invalid_grant, request 2", 3),
        ]
        assert {each.tenant for each in found.undone} == {"org:acme"}

    async def test_is_listed_no_longer_than_it_is_held_back(self, sessions: Sessions, connection: Connection) -> None:
        await pause(sessions)
        await may(sessions, connection)
        assert (await look(sessions)).undone_total == 1

        await resume(sessions)
        assert (await look(sessions)).undone == ()
        await pause(sessions)
        assert (await look(sessions)).undone == ()
        await may(sessions, connection)
        assert [each.times for each in (await look(sessions)).undone] == [2]

    async def test_is_cut_and_counted_when_there_is_much_of_it(self, sessions: Sessions) -> None:
        await conduct(sessions, Conduct.OBSERVE)
        for _ in range(3):
            await may(sessions, await add_connection(sessions))

        found = await look(sessions, limit=2)

        assert (len(found.undone), found.undone_total) == (2, 3)
        assert found.conduct_since is not None

    async def test_is_forgotten_after_a_month(self, sessions: Sessions, connection: Connection) -> None:
        await pause(sessions)
        await may(sessions, connection, cause="old")
        async with sessions.begin() as session:
            [row] = await every(sessions, WouldHaveDone)
            (await session.merge(row)).last_at = datetime.now(UTC) - timedelta(days=31)
        await may(sessions, connection, cause="new")

        async with sessions.begin() as session:
            await automation.forget(session)

        assert [row.cause for row in await every(sessions, WouldHaveDone)] == ["new"]


class TestADetection:
    async def test_that_waits_is_brought_up_to_date_and_not_written_again(
        self, sessions: Sessions, connection: Connection
    ) -> None:
        first = await detected(sessions, connection, cause="refused", version=1)
        second = await detected(sessions, connection, cause="refused again", version=2)

        assert first == second
        [row] = await every(sessions, GrantEvent)
        assert (row.cause, row.credential_version) == ("refused again", 2)

    async def test_of_another_kind_or_by_a_person_or_after_a_look_is_another_one(
        self, sessions: Sessions, connection: Connection
    ) -> None:
        ids = [
            await detected(sessions, connection),
            await detected(sessions, connection, Detected.REQUESTED),
            await detected(sessions, connection, ordered=True),
            await detected(sessions, connection, ordered=True),
        ]
        async with sessions.begin() as session:
            (await session.get_one(GrantEvent, ids[0])).handled_at = LONG_AGO
        ids.append(await detected(sessions, connection))

        assert len(set(ids)) == 5
