"""Parked jobs as rows, and the refreshes that were put off."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import update

from integrations.db import parked
from integrations.db.call_tables import ProviderCall
from integrations.db.outage_tables import Outage, ParkedJob
from integrations.db.session import Sessions
from integrations.db.tables import Connection, Credential
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.parked import BY_HAND, Parking, Waiting
from integrations.domain.run import Run
from tests.factories import add_connection, add_credential, every, stored

LONG_AGO = datetime.now(UTC) - timedelta(hours=1)


def run_of(number: int, run_id: str = "r1") -> Run:
    return Run(workflow_id=f"job:simulator:{number}", run_id=run_id)


async def park(sessions: Sessions, run: Run, **changes: Any) -> None:
    given = {
        "provider_id": "simulator",
        "connection_id": uuid4(),
        "tenant": "org:acme",
        "capability": "notes.write",
        "cause": "503",
        "times": 1,
    }
    async with sessions.begin() as session:
        await parked.park(session, run, Parking(**(given | changes)))


async def release(sessions: Sessions, most: int, provider_id: str = "simulator") -> list[str]:
    """As the activity does it, without the signals."""
    async with sessions.begin() as session:
        found = await parked.next_of(session, provider_id, most)
        await parked.released(session, found, by="outage")
    return [each.workflow_id for each in found]


async def settle(sessions: Sessions, run: Run, outcome: str = "done") -> bool:
    async with sessions.begin() as session:
        return await parked.settle(session, run, outcome)


async def waiting(sessions: Sessions, since: datetime = LONG_AGO) -> Waiting:
    async with sessions.begin() as session:
        return await parked.waiting(session, "simulator", since)


async def add_outage(sessions: Sessions, provider_id: str, *names: str, **changes: Any) -> None:
    async with sessions.begin() as session:
        session.add(
            Outage(
                **{
                    "provider_id": provider_id,
                    "scope": "provider",
                    "names": list(names),
                    "step": "hold",
                    "reason": "503",
                    "opened_by": "outage-detector",
                }
                | changes
            )
        )


async def age(sessions: Sessions, by: timedelta = timedelta(minutes=2)) -> None:
    async with sessions.begin() as session:
        await session.execute(
            update(ParkedJob).values(parked_at=ParkedJob.parked_at - by, released_at=ParkedJob.released_at - by)
        )


class TestAParkedJob:
    async def test_waits_goes_on_and_has_an_outcome(self, sessions: Sessions) -> None:
        for number in (1, 2, 3):
            await park(sessions, run_of(number))
        assert await waiting(sessions) == Waiting(parked=3, released=0, outcomes={})

        assert await release(sessions, 2) == ["job:simulator:1", "job:simulator:2"]
        assert await settle(sessions, run_of(1))
        assert await settle(sessions, run_of(2), "owner_must_act")

        found = await waiting(sessions)
        assert found == Waiting(parked=1, released=0, outcomes={"done": 1, "owner_must_act": 1})
        assert (found.settled, found.over) == (2, False)
        assert await release(sessions, 2) == ["job:simulator:3"]
        assert (await waiting(sessions)).released == 1

    async def test_is_written_down_once_by_a_step_that_is_repeated(self, sessions: Sessions) -> None:
        await park(sessions, run_of(1))
        await release(sessions, 1)

        await park(sessions, run_of(1))

        row = await stored(sessions, ParkedJob, run_of(1).workflow_id)
        assert (row.times, row.released_by) == (1, "outage")

    async def test_waits_anew_when_it_is_parked_again(self, sessions: Sessions) -> None:
        await park(sessions, run_of(1))
        await release(sessions, 1)

        await park(sessions, run_of(1), times=2, cause="429")

        row = await stored(sessions, ParkedJob, run_of(1).workflow_id)
        assert (row.times, row.cause, row.released_at, row.released_by) == (2, "429", None, None)
        assert await release(sessions, 1) == [run_of(1).workflow_id]

    async def test_that_is_parked_again_was_not_told_by_whom_told_it_before(self, sessions: Sessions) -> None:
        """A release that is repeated read its rows before the job was parked anew."""
        await park(sessions, run_of(1))
        async with sessions.begin() as session:
            found = await parked.next_of(session, "simulator", 1)
        await park(sessions, run_of(1), times=2)

        async with sessions.begin() as session:
            await parked.released(session, found, by="outage")

        assert (await stored(sessions, ParkedJob, run_of(1).workflow_id)).released_at is None

    async def test_of_a_run_that_has_failed_makes_room_for_the_next_one(self, sessions: Sessions) -> None:
        await park(sessions, run_of(1), times=3)
        await settle(sessions, run_of(1), "failed")

        await park(sessions, run_of(1, "r2"))

        assert not await settle(sessions, run_of(1), "done"), "what the old run says is about the old run"
        assert (await waiting(sessions)).parked == 1
        assert await settle(sessions, run_of(1, "r2"))

    async def test_is_settled_once(self, sessions: Sessions) -> None:
        await park(sessions, run_of(1))

        assert await settle(sessions, run_of(1))
        assert not await settle(sessions, run_of(1), BY_HAND)

        assert (await waiting(sessions)).outcomes == {"done": 1}

    async def test_that_was_settled_before_is_not_of_this_outage(self, sessions: Sessions) -> None:
        await park(sessions, run_of(1))
        await settle(sessions, run_of(1))

        assert (await waiting(sessions, datetime.now(UTC) + timedelta(seconds=1))).outcomes == {}

    async def test_of_another_provider_is_let_alone(self, sessions: Sessions) -> None:
        await park(sessions, run_of(1), provider_id="github")

        assert await release(sessions, 5) == []
        assert (await waiting(sessions)).parked == 0

    async def test_is_found_until_it_is_done(self, sessions: Sessions) -> None:
        await park(sessions, run_of(1))

        async with sessions.begin() as session:
            found = await parked.find(session, run_of(1).workflow_id)
        await settle(sessions, run_of(1))

        assert found is not None
        assert found.words == f"parked since {found.since:%Y-%m-%d %H:%M} UTC: 503"
        async with sessions.begin() as session:
            assert await parked.find(session, run_of(1).workflow_id) is None

    async def test_is_forgotten_a_month_after_it_was_done(self, sessions: Sessions) -> None:
        for number in (1, 2):
            await park(sessions, run_of(number))
        await settle(sessions, run_of(1))
        async with sessions.begin() as session:
            await parked.forget(session)
        assert len(await every(sessions, ParkedJob)) == 2

        async with sessions.begin() as session:
            await session.execute(update(ParkedJob).values(settled_at=ParkedJob.settled_at - timedelta(days=31)))
            await parked.forget(session)

        assert [row.workflow_id for row in await every(sessions, ParkedJob)] == [run_of(2).workflow_id]


class TestItsCause:
    async def test_is_its_connections_last_call_when_the_workflow_knows_none(
        self, sessions: Sessions, connection: Connection
    ) -> None:
        now = datetime.now(UTC)
        async with sessions.begin() as session:
            session.add_all(
                ProviderCall(
                    at=now - timedelta(seconds=number),
                    id=number,
                    provider_id="simulator",
                    endpoint="notes.write",
                    purpose="use",
                    tenant="org:acme",
                    connection_id=whose,
                    outcome="outage",
                    rule="server-error",
                    status=status,
                    attempt=number,
                    duration_ms=3,
                )
                for number, whose, status in ((3, connection.id, 503), (2, connection.id, 502), (1, uuid4(), 500))
            )

        await park(sessions, run_of(1), connection_id=connection.id, cause="")
        await park(sessions, run_of(2), cause="")

        causes = {row.workflow_id: row.cause for row in await every(sessions, ParkedJob)}
        assert causes[run_of(1).workflow_id] == "502: outage (server-error)"
        assert causes[run_of(2).workflow_id] == "no attempt of the last ten minutes reached its provider"


class TestAForgottenOne:
    @pytest.mark.parametrize(
        ("provider_id", "names", "closed", "forgotten"),
        [
            ("simulator", (), None, []),
            ("simulator", (), LONG_AGO, ["simulator"]),
            ("github", (), None, ["simulator"]),
            ("ours", ("github", "simulator"), None, []),
            ("ours", ("github", "slack"), None, ["simulator"]),
        ],
    )
    async def test_has_no_open_outage(
        self,
        sessions: Sessions,
        provider_id: str,
        names: tuple[str, ...],
        closed: datetime | None,
        forgotten: list[str],
    ) -> None:
        await park(sessions, run_of(1))
        await add_outage(sessions, provider_id, *names, closed_at=closed)
        await age(sessions)

        async with sessions.begin() as session:
            assert await parked.forgotten(session) == forgotten

    @pytest.mark.parametrize(
        ("scope", "names", "observed", "forgotten"),
        [
            ("tenant", ("org:acme",), False, []),
            ("tenant", ("org:noisy",), False, ["simulator"]),
            ("endpoint", ("notes.write",), False, []),
            ("endpoint", ("notes.read",), False, ["simulator"]),
            ("endpoint", ("token",), False, []),
            ("endpoint", ("notes.read", "org:acme"), False, []),
            ("provider", (), True, ["simulator"]),
        ],
    )
    async def test_is_not_within_an_outages_reach(
        self, sessions: Sessions, scope: str, names: tuple[str, ...], observed: bool, forgotten: list[str]
    ) -> None:
        await park(sessions, run_of(1))
        await add_outage(sessions, "simulator", *names, scope=scope, observed=observed)
        await age(sessions)

        async with sessions.begin() as session:
            assert await parked.forgotten(session) == forgotten

    async def test_goes_on_alone(self, sessions: Sessions) -> None:
        """Who waits for the outage beside it waits on."""
        await park(sessions, run_of(1), tenant="org:noisy")
        await park(sessions, run_of(2), tenant="org:other")
        await add_outage(sessions, "simulator", "org:noisy", scope="tenant")
        await age(sessions)

        async with sessions.begin() as session:
            found = await parked.next_of(session, "simulator", 10, forgotten_only=True)
        assert [each.workflow_id for each in found] == [run_of(2).workflow_id]

    async def test_is_parked_for_a_minute_and_not_told_to_go_on(self, sessions: Sessions) -> None:
        await park(sessions, run_of(1))
        async with sessions.begin() as session:
            assert await parked.forgotten(session) == []

        await age(sessions)
        await release(sessions, 1)
        async with sessions.begin() as session:
            assert await parked.forgotten(session) == []


class TestOneThatGoesOn:
    async def test_is_looked_at_when_it_has_no_outcome_for_long(self, sessions: Sessions) -> None:
        for number in (1, 2, 3):
            await park(sessions, run_of(number))
        await release(sessions, 2)
        await settle(sessions, run_of(2))
        async with sessions.begin() as session:
            assert await parked.going_on(session) == []

        await age(sessions)

        async with sessions.begin() as session:
            assert [each.workflow_id for each in await parked.going_on(session)] == [run_of(1).workflow_id]


class TestRefreshesThatWerePutOff:
    async def late(self, sessions: Sessions, vault: Vault, minutes: int, **changes: Any) -> int:
        """Failing for so long, and due in an hour. The credential's id."""
        now = datetime.now(UTC)
        row = await add_connection(sessions, **changes)
        kept = await add_credential(sessions, vault, row.id, refresh_at=now + timedelta(hours=1))
        async with sessions.begin() as session:
            (await session.get_one(Credential, kept.id)).failing_since = now - timedelta(minutes=minutes)
        return kept.id

    async def to_go(self, sessions: Sessions, since: datetime | None = None) -> int:
        """How many a replay waits for that began then, or just now."""
        async with sessions.begin() as session:
            return (await parked.replaying(session, "simulator", since or datetime.now(UTC))).refreshes

    async def due(self, sessions: Sessions, key: int) -> float | None:
        """Seconds from now."""
        at = (await stored(sessions, Credential, key)).refresh_at
        return None if at is None else (at - datetime.now(UTC)).total_seconds()

    async def test_are_due_at_the_pace_those_first_that_wait_longest(self, sessions: Sessions, vault: Vault) -> None:
        late = [await self.late(sessions, vault, minutes) for minutes in (10, 30, 20)]
        fine = await add_credential(
            sessions, vault, (await add_connection(sessions)).id, refresh_at=LONG_AGO + timedelta(days=1)
        )
        elsewhere = await self.late(sessions, vault, 10, provider_id="github")

        async with sessions.begin() as session:
            assert await parked.refreshes_due(session, "simulator", 0.1) == 3

        seconds = [await self.due(sessions, key) for key in late]
        assert [round((each or 0) / 10) for each in seconds] == [2, 0, 1]
        assert (await self.due(sessions, fine.id) or 0) > 3_600
        assert (await self.due(sessions, elsewhere) or 0) > 3_000

    async def test_are_due_no_later_than_they_were(self, sessions: Sessions, vault: Vault) -> None:
        late = [await self.late(sessions, vault, minutes) for minutes in (30, 20)]

        async with sessions.begin() as session:
            await parked.refreshes_due(session, "simulator", 0.0001)

        assert 3_500 < (await self.due(sessions, late[1]) or 0) < 3_601

    async def test_never_are_of_what_can_not_be_refreshed(self, sessions: Sessions, vault: Vault) -> None:
        key = await self.late(sessions, vault, 10)
        async with sessions.begin() as session:
            (await session.get_one(Credential, key)).refresh_at = None

        async with sessions.begin() as session:
            assert await parked.refreshes_due(session, "simulator", 1) == 0

        assert await self.due(sessions, key) is None

    async def test_are_not_counted_where_the_owner_has_to_come_first(self, sessions: Sessions, vault: Vault) -> None:
        await self.late(sessions, vault, 10, status=Status.PENDING_REAUTH)

        assert await self.to_go(sessions) == 0

    async def test_are_waited_for_until_they_were_tried_again(self, sessions: Sessions, vault: Vault) -> None:
        late = [await self.late(sessions, vault, minutes) for minutes in (10, 20, 30)]
        await self.late(sessions, vault, 10, provider_id="github")
        began = datetime.now(UTC) - timedelta(minutes=2)
        assert await self.to_go(sessions, began) == 3

        # It fails again, or it works: either way its outcome is in. A capability's call says nothing of it.
        again, works, third = [await stored(sessions, Credential, key) for key in late]
        async with sessions.begin() as session:
            session.add_all(
                ProviderCall(
                    at=datetime.now(UTC) - timedelta(minutes=1),
                    id=number,
                    provider_id="simulator",
                    endpoint="token",
                    purpose=purpose,
                    tenant="org:acme",
                    connection_id=each.connection_id,
                    outcome="outage",
                    rule="server-error",
                    status=503,
                    attempt=1,
                    duration_ms=3,
                )
                for number, each, purpose in ((1, again, "refresh"), (2, third, "use"))
            )
            (await session.get_one(Credential, works.id)).failing_since = None
        assert await self.to_go(sessions, began) == 1

        # What was called before the replay says nothing of it.
        assert await self.to_go(sessions) == 2

    async def test_are_not_waited_for_when_nobody_tries_them(self, sessions: Sessions, vault: Vault) -> None:
        key = await self.late(sessions, vault, 90)
        began = datetime.now(UTC) - timedelta(minutes=12)

        for minutes, count in ((9, 1), (11, 0)):
            async with sessions.begin() as session:
                kept = await session.get_one(Credential, key)
                kept.refresh_at = datetime.now(UTC) - timedelta(minutes=minutes)
            assert await self.to_go(sessions, began) == count

    async def test_that_began_to_fail_in_the_replay_are_not_waited_for(self, sessions: Sessions, vault: Vault) -> None:
        await self.late(sessions, vault, 1)

        assert await self.to_go(sessions, datetime.now(UTC) - timedelta(minutes=2)) == 0
