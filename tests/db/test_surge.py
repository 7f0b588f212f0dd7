import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import credentials, surge, tasks
from integrations.db.ledger_tables import OutboxEvent
from integrations.db.session import Sessions
from integrations.db.surge_counts import Refusal, Watched, count
from integrations.db.surge_tables import RefreshRefusal, RefreshTries
from integrations.db.tables import Connection, OperatorTask
from integrations.db.vault import Vault
from integrations.domain.verdict import Meaning
from tests.factories import EVERYTHING, every, tokens

HERE = Watched("simulator", "Simulator", "put the right secret into RUNBOOK_PROVIDER_SIMULATOR_CLIENT_SECRET")
ELSEWHERE = Watched("github", "GitHub", "correct it")


class Adding:
    def __init__(self, sessions: Sessions, vault: Vault) -> None:
        self.sessions, self.vault = sessions, vault

    async def __call__(self, count: int, provider_id: str = "simulator") -> list[UUID]:
        """Connections with a first credential."""
        rows = [
            Connection(
                provider_id=provider_id, scope_type="org", scope_id="acme", status="active", status_reason="connected"
            )
            for _ in range(count)
        ]
        async with self.sessions.begin() as session:
            session.add_all(rows)
            await session.flush()
            for row in rows:
                await self.renewed(session, row.id)
        return [row.id for row in rows]

    async def renewed(self, session: AsyncSession, connection_id: UUID) -> None:
        await credentials.add(
            session, self.vault, connection_id, tokens(), state="active", grants=EVERYTHING, expires_at=None
        )

    async def works(self, ids: Sequence[UUID], at: Watched = HERE) -> None:
        """Their refresh works: a new credential, and it is counted."""
        async with self.sessions.begin() as session:
            for each in ids:
                await credentials.retire_active(session, each)
                await self.renewed(session, each)
            await surge.tried(session, at, worked=ids)


@pytest.fixture
def add(sessions: Sessions, vault: Vault) -> Adding:
    return Adding(sessions, vault)


def refusal(connection_id: UUID, version: int = 1, *, owner: bool = False) -> Refusal:
    if owner:
        return Refusal(connection_id, version, Meaning.OWNER_MUST_ACT, "grant-dead", "400 invalid_grant")
    return Refusal(connection_id, version, Meaning.OPERATOR_MUST_ACT, "registration-wrong", "401 invalid_client")


async def refused(sessions: Sessions, ids: Sequence[UUID], at: Watched = HERE, version: int = 1) -> frozenset[UUID]:
    """The first look at each. Those that are held back already."""
    async with sessions.begin() as session:
        return await surge.tried(session, at, refused=[refusal(each, version) for each in ids])


async def decided(sessions: Sessions, connection_id: UUID, at: Watched = HERE, version: int = 1) -> str | None:
    async with sessions.begin() as session:
        return await surge.suspected(session, at, refusal(connection_id, version))


async def aged(sessions: Sessions, minutes: int) -> None:
    """All that was noted happened so much earlier."""
    by = timedelta(minutes=minutes)
    async with sessions.begin() as session:
        for table in ("service_refresh_tries", "service_refresh_refusals"):
            await session.execute(text(f"UPDATE {table} SET at = at - cast(:by AS interval)"), {"by": by})


async def open_tasks(sessions: Sessions) -> list[OperatorTask]:
    return [row for row in await every(sessions, OperatorTask) if row.status != "closed"]


async def told(sessions: Sessions) -> list[str]:
    return [row.name for row in sorted(await every(sessions, OutboxEvent), key=lambda row: row.seq)]


class TestTheThreshold:
    async def test_of_connections_is_five(self, sessions: Sessions, add: Adding) -> None:
        few = await add(4)
        await refused(sessions, few)

        assert [await decided(sessions, each) for each in few] == [None] * 4
        [fifth] = await add(1)
        await refused(sessions, [fifth])
        assert await decided(sessions, fifth) is not None

    @pytest.mark.parametrize(("fine", "held"), [(20, True), (21, False)])
    async def test_of_their_share_is_a_fifth(self, sessions: Sessions, add: Adding, fine: int, *, held: bool) -> None:
        bad = await add(5)
        await add.works(await add(fine))
        await refused(sessions, bad)

        assert [await decided(sessions, each) is not None for each in bad] == [held] * 5

    async def test_counts_a_connection_once_however_often_it_is_tried(self, sessions: Sessions, add: Adding) -> None:
        bad, good = await add(5), await add(10)
        for _ in range(6):
            await add.works(good)
            await refused(sessions, bad)

        async with sessions.begin() as session:
            counted = await count(session, HERE)
        assert (counted.refused, counted.tried) == (5, 15)

    async def test_is_the_providers_own(self, sessions: Sessions, add: Adding) -> None:
        await refused(sessions, await add(10))
        [other] = await add(1, "github")
        await refused(sessions, [other], ELSEWHERE)

        assert await decided(sessions, other, ELSEWHERE) is None

    async def test_forgets_what_is_longer_ago_than_the_window(self, sessions: Sessions, add: Adding) -> None:
        await refused(sessions, await add(4))
        await aged(sessions, 11)
        [late] = await add(1)

        assert await decided(sessions, late) is None

    async def test_does_not_count_who_has_a_newer_credential(self, sessions: Sessions, add: Adding) -> None:
        bad = await add(5)
        await refused(sessions, bad)
        async with sessions.begin() as session:  # its owner consented again
            await credentials.retire_active(session, bad[0])
            await add.renewed(session, bad[0])

        assert await decided(sessions, bad[1]) is None

    async def test_holds_against_decisions_at_the_same_moment(self, sessions: Sessions, add: Adding) -> None:
        """Without any first look before it: what acts first is counted by what comes second."""
        bad = await add(20)

        answers = await asyncio.gather(*(decided(sessions, each) for each in bad))

        assert answers.count(None) == 4
        assert len(await open_tasks(sessions)) == 1


class TestASurge:
    async def test_calls_the_operators_once_with_counts_cause_and_way_out(
        self, sessions: Sessions, add: Adding
    ) -> None:
        bad = await add(30)
        await add.works(await add(10))
        await refused(sessions, bad)

        answers = [await decided(sessions, each) for each in bad]

        [task] = await open_tasks(sessions)
        assert None not in answers
        assert "30 of 40 connections whose refresh was answered in 10 min" in task.cause
        assert "most often 401 invalid_client (30)" in task.cause
        assert "RUNBOOK_PROVIDER_SIMULATOR_CLIENT_SECRET" in task.way_out
        assert "runbook refresh release simulator" in task.way_out
        assert (task.provider_id, task.connection_id, task.kind) == ("simulator", None, "surge")
        assert await told(sessions) == ["refresh.surge"]

    async def test_once_known_holds_back_at_the_first_look(self, sessions: Sessions, add: Adding) -> None:
        bad = await add(10)
        await refused(sessions, bad)
        await decided(sessions, bad[0])

        later = await add(3)

        assert await refused(sessions, later) == frozenset(later)
        [task] = await open_tasks(sessions)
        assert "13 of 13" in task.cause

    async def test_remembers_what_it_holds_beyond_the_window(self, sessions: Sessions, add: Adding) -> None:
        """Looked at again one by one over hours, they would each look like a single one."""
        bad = await add(10)
        await refused(sessions, bad)
        for each in bad:
            await decided(sessions, each)
        await aged(sessions, 60)

        assert await decided(sessions, bad[0]) is not None

    async def test_is_over_when_what_is_left_is_none(self, sessions: Sessions, add: Adding) -> None:
        bad = await add(10)
        await refused(sessions, bad)
        for each in bad:
            await decided(sessions, each)

        await add.works(bad[:5])
        assert len(await open_tasks(sessions)) == 1
        await add.works(bad[5:6])

        assert await open_tasks(sessions) == []
        assert await told(sessions) == ["refresh.surge", "refresh.surge_over"]
        assert await decided(sessions, bad[9]) is None

    async def test_is_raised_anew_when_it_comes_back(self, sessions: Sessions, add: Adding) -> None:
        bad = await add(6)
        await refused(sessions, bad)
        await decided(sessions, bad[0])
        await add.works(bad)
        await refused(sessions, bad, version=2)

        assert await decided(sessions, bad[0], version=2) is not None

        assert await told(sessions) == ["refresh.surge", "refresh.surge_over", "refresh.surge"]

    async def test_does_not_end_by_hand_without_a_word_on_what_it_holds(self, sessions: Sessions, add: Adding) -> None:
        bad = await add(5)
        await refused(sessions, bad)
        await decided(sessions, bad[0])
        [task] = await open_tasks(sessions)

        async with sessions.begin() as session:
            assert not await tasks.close_by_hand(session, task.id, by="ada", reason="looks fine")

        assert len(await open_tasks(sessions)) == 1


class TestEverythingAtOnce:
    async def test_waits_for_each_other_in_one_order(self, sessions: Sessions, add: Adding) -> None:
        """Chunks, single ones and a person at one provider: nobody waits for somebody who waits for them."""
        chunks = [await add(25) for _ in range(4)]
        for chunk in chunks:
            await refused(sessions, chunk)

        async def released() -> None:
            async with sessions.begin() as session:
                await surge.release(session, "simulator", HERE.limits, by="ada", reason="r")

        work = [
            step
            for chunk in chunks
            for step in (
                add.works(chunk[:10]),
                refused(sessions, list(reversed(chunk[10:]))),
                *(decided(sessions, each) for each in chunk[10:15]),
                released(),
            )
        ]
        await asyncio.wait_for(asyncio.gather(*work), 30)


class TestARelease:
    async def test_lets_what_was_held_be_acted_on(self, sessions: Sessions, add: Adding) -> None:
        bad = await add(6)
        await refused(sessions, bad)
        for each in bad:
            await decided(sessions, each)

        async with sessions.begin() as session:
            released = await surge.release(session, "simulator", HERE.limits, by="ada", reason="the owners left")

        [task] = await every(sessions, OperatorTask)
        assert (task.status, task.closed_by, task.closed_reason) == ("closed", "ada", "the owners left")
        assert sorted(row.id for row in released or []) == sorted(bad)
        assert await refused(sessions, bad) == frozenset()
        assert [await decided(sessions, each) for each in bad] == [None] * 6
        assert await open_tasks(sessions) == []

    async def test_is_of_these_versions_and_nothing_else(self, sessions: Sessions, add: Adding) -> None:
        bad = await add(6)
        await refused(sessions, bad)
        for each in bad:
            await decided(sessions, each)
        async with sessions.begin() as session:
            await surge.release(session, "simulator", HERE.limits, by="ada", reason="r")

        others = await add(5)
        await refused(sessions, others)
        assert await decided(sessions, others[0]) is not None
        assert await decided(sessions, bad[0]) is None
        await add.works(bad)
        await refused(sessions, bad, version=2)
        assert await decided(sessions, bad[0], version=2) is not None

    async def test_is_of_what_waits_for_its_second_look_too(self, sessions: Sessions, add: Adding) -> None:
        """Four were refused before it was a surge, and nobody holds them back yet."""
        bad = await add(10)
        assert await refused(sessions, bad[:4]) == frozenset()
        assert await refused(sessions, bad[4:]) == frozenset(bad[4:])

        async with sessions.begin() as session:
            released = await surge.release(session, "simulator", HERE.limits, by="ada", reason="r")

        assert {row.id for row in released or []} == set(bad[4:])
        assert [await decided(sessions, each) for each in bad] == [None] * 10

    async def test_is_not_needed_for_whom_somebody_has_acted_on(self, sessions: Sessions, add: Adding) -> None:
        """Held back, and made `errored` by a person's word: they keep no surge open when the last other one works."""
        bad = await add(6)
        assert len(await refused(sessions, bad)) == 6
        async with sessions.begin() as session:
            await session.execute(update(Connection).where(Connection.id.in_(bad[:5])).values(status="errored"))

        await add.works(bad[5:])

        assert await open_tasks(sessions) == []

    async def test_without_a_surge_changes_nothing(self, sessions: Sessions) -> None:
        async with sessions.begin() as session:
            assert await surge.release(session, "simulator", HERE.limits, by="ada", reason="r") is None
        assert await told(sessions) == []


class TestWhatIsRemembered:
    async def test_of_a_connection_is_one_row(self, sessions: Sessions, add: Adding) -> None:
        [each] = await add(1)
        for _ in range(3):
            await refused(sessions, [each])

        [row] = await every(sessions, RefreshRefusal)
        assert (row.connection_id, row.answer, row.rule) == (each, "401 invalid_client", "registration-wrong")

    async def test_of_tries_goes_with_the_window(self, sessions: Sessions, add: Adding) -> None:
        ids = await add(3)
        for _ in range(4):
            await add.works(ids)
        assert len(await every(sessions, RefreshTries)) == 4  # of three connections each
        await aged(sessions, 11)

        for _ in range(2):
            await add.works(ids)

        assert len(await every(sessions, RefreshTries)) == 2

    async def test_of_nobody_is_nothing(self, sessions: Sessions) -> None:
        async with sessions.begin() as session:
            assert await surge.tried(session, HERE) == frozenset()
        assert await every(sessions, RefreshTries) == []
