from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import tasks, waiting
from integrations.db.ledger_tables import OutboxEvent
from integrations.db.session import Sessions
from integrations.db.tables import Connection, ConsentSession, OperatorTask
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.reauth import Extend, Order
from tests.factories import EVERYTHING, add_connection, add_credential, add_invitation, every, stored

LIFE = uuid4()
LATER = datetime(2030, 1, 1, tzinfo=UTC)
Step = Callable[[AsyncSession, Any], Awaitable[bool]]
STEPS = [waiting.remind, waiting.escalate, waiting.acknowledge, waiting.extend, waiting.snooze, waiting.disconnect]


def order(connection_id: UUID, lifecycle_id: UUID = LIFE, key: str = "k") -> Extend:
    return Extend(connection_id=connection_id, lifecycle_id=lifecycle_id, key=key, by="ada", reason="r", until=LATER)


@pytest.fixture
async def blocked(sessions: Sessions, vault: Vault) -> Connection:
    """A connection that waits for its owner, with its task and its invitation."""
    row = await add_connection(sessions, status=Status.PENDING_REAUTH, lifecycle_id=LIFE, grants=[])
    await add_credential(sessions, vault, row.id)
    await add_invitation(sessions, vault, row, LIFE, asked=EVERYTHING)
    async with sessions.begin() as session:
        await tasks.open_task(session, row.id, "reauth", title="t", cause="c", way_out="w", lifecycle_id=LIFE)
    return row


async def done(sessions: Sessions, step: Step, given: Order) -> bool:
    async with sessions.begin() as session:
        return await step(session, given)


async def told(sessions: Sessions) -> list[str]:
    names = [event.name for event in sorted(await every(sessions, OutboxEvent), key=lambda event: event.seq)]
    return [name for name in names if name != "reauth.invited"]


async def the_task(sessions: Sessions) -> OperatorTask:
    [task] = await every(sessions, OperatorTask)
    return task


class TestEachStep:
    @pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
    async def test_of_another_lifecycle_does_nothing(self, sessions: Sessions, blocked: Connection, step: Step) -> None:
        assert not await done(sessions, step, order(blocked.id, uuid4()))

        assert await told(sessions) == []
        assert (await stored(sessions, Connection, blocked.id)).status == "pending_reauth"
        assert (await the_task(sessions)).status == "open"

    @pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
    async def test_is_told_once_however_often_it_is_repeated(
        self, sessions: Sessions, blocked: Connection, step: Step
    ) -> None:
        for _ in range(3):
            await done(sessions, step, order(blocked.id))

        assert len(await told(sessions)) == 1

    @pytest.mark.parametrize("step", STEPS[:-1], ids=lambda step: step.__name__)
    async def test_says_who_and_why(self, sessions: Sessions, blocked: Connection, step: Step) -> None:
        await done(sessions, step, order(blocked.id))

        [event] = [event for event in await every(sessions, OutboxEvent) if event.name != "reauth.invited"]
        assert (event.payload["by"], event.payload["reason"]) == ("ada", "r")


class TestAReminder:
    async def test_carries_the_session_and_never_the_link(
        self, sessions: Sessions, vault: Vault, blocked: Connection
    ) -> None:
        assert await done(sessions, waiting.remind, order(blocked.id))

        [event] = await every(sessions, OutboxEvent, name="reauth.reminder")
        [invitation] = await every(sessions, ConsentSession)
        assert event.payload["session_id"] == str(invitation.id)
        assert vault.link_token(invitation.id) not in str(event.payload)

    @pytest.mark.parametrize("found", ["received", "exchanging", "completed"])
    async def test_is_not_sent_to_somebody_who_has_answered(
        self, sessions: Sessions, blocked: Connection, found: str
    ) -> None:
        [invitation] = await every(sessions, ConsentSession)
        async with sessions.begin() as session:
            (await session.get_one(ConsentSession, invitation.id)).status = found

        assert not await done(sessions, waiting.remind, order(blocked.id))
        assert await told(sessions) == []


class TestAnEscalation:
    async def test_marks_the_task(self, sessions: Sessions, blocked: Connection) -> None:
        assert await done(sessions, waiting.escalate, order(blocked.id))

        assert (await the_task(sessions)).escalated_at is not None
        assert not await done(sessions, waiting.escalate, order(blocked.id, key="another"))

    async def test_spares_who_has_acknowledged(self, sessions: Sessions, blocked: Connection) -> None:
        await done(sessions, waiting.acknowledge, order(blocked.id))

        assert not await done(sessions, waiting.escalate, order(blocked.id, key="e"))
        assert (await the_task(sessions)).acknowledged_by == "ada"

    async def test_spares_who_has_put_it_off(self, sessions: Sessions, blocked: Connection) -> None:
        await done(sessions, waiting.snooze, order(blocked.id))

        assert not await done(sessions, waiting.escalate, order(blocked.id, key="e"))
        assert (await the_task(sessions)).snoozed_until == LATER

    async def test_spares_who_is_not_blocked_any_more(self, sessions: Sessions, blocked: Connection) -> None:
        async with sessions.begin() as session:
            (await session.get_one(Connection, blocked.id)).status = Status.ACTIVE

        assert not await done(sessions, waiting.escalate, order(blocked.id))


class TestMoreTime:
    async def test_keeps_the_invitation_good_for_as_long(self, sessions: Sessions, blocked: Connection) -> None:
        assert await done(sessions, waiting.extend, order(blocked.id))

        [invitation] = await every(sessions, ConsentSession)
        assert invitation.expires_at == LATER

    async def test_wakes_no_invitation_that_has_ended(self, sessions: Sessions, blocked: Connection) -> None:
        [invitation] = await every(sessions, ConsentSession)
        async with sessions.begin() as session:
            (await session.get_one(ConsentSession, invitation.id)).status = "expired"

        await done(sessions, waiting.extend, order(blocked.id))

        [after] = await every(sessions, ConsentSession)
        assert after.expires_at == invitation.expires_at < datetime.now(UTC) + timedelta(days=30)


class TestGivingUp:
    async def test_ends_everything_that_waited(self, sessions: Sessions, blocked: Connection) -> None:
        assert await done(sessions, waiting.disconnect, order(blocked.id))

        row = await stored(sessions, Connection, blocked.id)
        assert (row.status, row.lifecycle_id) == ("disconnected", None)
        assert (await the_task(sessions)).status == "closed"
        assert await told(sessions) == ["connection.disconnected"]
