"""The undo journal: what is on, for whom and how long, and what a circuit lets through."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from integrations.db import mitigations, outages
from integrations.db.outage_tables import Mitigation, Outage
from integrations.db.session import Sessions
from integrations.domain.errors import StopError
from integrations.domain.outage import OURS, Brake, Cut, Ended, Target
from tests.factories import every
from tests.outage_rows import add_outage

LEASE = timedelta(minutes=2)
QUEUE = Target(provider_id="simulator", brake=Brake.QUEUE)
CIRCUIT = Target(provider_id="simulator", brake=Brake.CIRCUIT, name="notes.read")
SHIELD = Target(provider_id="simulator", brake=Brake.SHIELD)
TENANT = Target(provider_id="simulator", brake=Brake.TENANT, name="org:acme")


async def put(sessions: Sessions, outage_id: UUID, *cuts: Cut, lease: timedelta = LEASE, **told: Any) -> list[Target]:
    async with sessions.begin() as session:
        given = {"reason": "5xx", "by": "the test"} | told
        return await mitigations.put(session, outage_id, cuts, lease, **given)


async def ran_out(sessions: Sessions, outage_id: UUID) -> None:
    async with sessions.begin() as session:
        await session.execute(
            update(Mitigation)
            .where(Mitigation.outage_id == outage_id)
            .values(lease_until=datetime.now(UTC) - timedelta(seconds=1))
        )


async def rates(sessions: Sessions) -> dict[str, float | None]:
    return {row.brake: row.rate for row in await every(sessions, Mitigation, released_at=None)}


class TestPut:
    async def test_twice_is_one_line_with_the_later_rate(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions)
        assert await put(sessions, outage_id, Cut(target=QUEUE, rate=0.5), Cut(target=SHIELD)) == []
        [before, _] = await every(sessions, Mitigation)

        assert await put(sessions, outage_id, Cut(target=QUEUE, rate=2), Cut(target=SHIELD), reason="5 %") == []

        assert await rates(sessions) == {"queue": 2, "shield": None}
        after = {row.brake: row for row in await every(sessions, Mitigation)}
        assert after["queue"].changed_at > before.changed_at
        assert after["shield"].changed_at == before.changed_at
        assert (after["queue"].put_at, after["queue"].reason) == (before.put_at, "5 %")

    async def test_at_a_place_of_another_open_outage_changes_nothing_and_says_so(self, sessions: Sessions) -> None:
        theirs = await add_outage(sessions)
        await put(sessions, theirs, Cut(target=QUEUE, rate=0.5))
        ours = await add_outage(sessions, OURS)

        passed_over = await put(sessions, ours, Cut(target=QUEUE, rate=9), Cut(target=SHIELD))

        assert passed_over == [QUEUE]
        assert await rates(sessions) == {"queue": 0.5, "shield": None}
        async with sessions.begin() as session:
            assert await mitigations.release(session, theirs, "simulator", by="the test", reason="healed") == 1
        assert await put(sessions, ours, Cut(target=QUEUE, rate=9), Cut(target=SHIELD)) == []
        assert await rates(sessions) == {"queue": 9, "shield": None}

    async def test_for_a_closed_outage_is_refused(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions)
        async with sessions.begin() as session:
            await outages.close(session, outage_id, Ended.HEALED, by="the test", reason="healed")

        with pytest.raises(StopError, match="is closed"):
            await put(sessions, outage_id, Cut(target=QUEUE, rate=0.5))

        assert await every(sessions, Mitigation) == []


class TestALease:
    async def test_is_renewed_for_all_that_an_outage_holds(self, sessions: Sessions) -> None:
        outage_id, other = await add_outage(sessions), await add_outage(sessions, "small")
        await put(sessions, outage_id, Cut(target=QUEUE, rate=0.5), Cut(target=SHIELD))
        await put(sessions, other, Cut(target=Target(provider_id="small", brake=Brake.QUEUE), rate=1))
        await ran_out(sessions, outage_id)
        await ran_out(sessions, other)

        async with sessions.begin() as session:
            assert await mitigations.renew(session, outage_id, LEASE) == 2

        async with sessions.begin() as session:
            [(found, since)] = await mitigations.lapsed(session)
        assert found.id == other
        assert since is not None
        assert since < datetime.now(UTC)

    async def test_that_ran_out_leaves_the_brake_on(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions)
        await put(sessions, outage_id, Cut(target=CIRCUIT, rate=0))
        await ran_out(sessions, outage_id)

        async with sessions.begin() as session:
            assert await mitigations.circuit(session, "simulator", "notes.read") is not None
            assert len(await mitigations.of_provider(session, "simulator")) == 1

    async def test_that_was_renewed_meanwhile_is_not_released_as_lapsed(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions)
        await put(sessions, outage_id, Cut(target=QUEUE, rate=0.5), Cut(target=SHIELD))
        await ran_out(sessions, outage_id)
        await put(sessions, outage_id, Cut(target=QUEUE, rate=0.5))

        async with sessions.begin() as session:
            told = {"by": "reconcile", "reason": "nobody looks after it"}
            assert await mitigations.release(session, outage_id, "simulator", lapsed_only=True, **told) == 1

        assert await rates(sessions) == {"queue": 0.5}


class TestAnOutageThatNobodyLooksAfter:
    async def test_is_found_without_a_brake_when_nobody_has_written_of_it_for_long(self, sessions: Sessions) -> None:
        await add_outage(sessions, "small")
        outage_id = await add_outage(sessions)
        observed = await add_outage(sessions, "large", why_not="paused")
        async with sessions.begin() as session:
            long_ago = datetime.now(UTC) - timedelta(minutes=6)
            query = update(Outage).where(Outage.id.in_([outage_id, observed])).values(seen_at=long_ago)
            await session.execute(query)

        async with sessions.begin() as session:
            [(found, since)] = await mitigations.lapsed(session)

        assert (found.id, since) == (outage_id, None)


class TestACircuit:
    async def admitted(self, sessions: Sessions, name: str = "notes.read") -> bool:
        async with sessions.begin() as session:
            row = await mitigations.circuit(session, "simulator", name)
            assert row is not None
            return await mitigations.admitted(session, row)

    async def test_lets_one_of_twenty_through_at_once(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions)
        await put(sessions, outage_id, Cut(target=CIRCUIT, rate=0.5))

        for _ in range(2):
            found = await asyncio.gather(*(self.admitted(sessions) for _ in range(20)))

            assert sum(found) == 1
            async with sessions.begin() as session:
                then = datetime.now(UTC) - timedelta(seconds=2)
                await session.execute(update(Mitigation).values(admitted_at=then))

    async def test_lets_the_next_one_through_after_its_interval(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions)
        await put(sessions, outage_id, Cut(target=CIRCUIT, rate=5))

        assert await self.admitted(sessions)
        assert not await self.admitted(sessions)
        await asyncio.sleep(0.2)
        assert await self.admitted(sessions)

    async def test_of_no_calls_lets_nobody_through(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions)
        await put(sessions, outage_id, Cut(target=CIRCUIT, rate=0))

        assert not await self.admitted(sessions)

    async def test_does_not_count_what_was_rolled_back(self, sessions: Sessions) -> None:
        outage_id = await add_outage(sessions)
        await put(sessions, outage_id, Cut(target=CIRCUIT, rate=0.5))

        async with sessions() as session:
            row = await mitigations.circuit(session, "simulator", "notes.read")
            assert row is not None
            assert await mitigations.admitted(session, row)
            await session.rollback()

        assert await self.admitted(sessions)
