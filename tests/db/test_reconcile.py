from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from integrations.db import connections, credentials, reconcile
from integrations.db.session import Sessions
from integrations.db.tables import Connection, ConsentSession, GrantEvent
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.reauth import Detected
from tests.factories import add_connection, add_credential, add_invitation, every

NOW = datetime.now(UTC)
SETTLED, FRESH = NOW - timedelta(minutes=1), NOW + timedelta(days=1)  # read at collection: a suite takes minutes


async def add_detection(sessions: Sessions, connection_id: UUID, **changes: Any) -> UUID:
    given = {"id": uuid4(), "kind": Detected.REVOKED, "cause": "revoked", "actor": "test", "noticed_at": SETTLED}
    row = GrantEvent(connection_id=connection_id, **(given | changes))
    async with sessions.begin() as session:
        session.add(row)
    return row.id


class TestUnhandledDetections:
    async def test_are_found_oldest_first_once_they_have_settled(
        self, sessions: Sessions, connection: Connection
    ) -> None:
        newer = await add_detection(sessions, connection.id)
        older = await add_detection(sessions, connection.id, noticed_at=SETTLED - timedelta(hours=1))
        await add_detection(sessions, connection.id, noticed_at=FRESH)
        await add_detection(sessions, connection.id, handled_at=NOW)

        async with sessions.begin() as session:
            found = await reconcile.unhandled_detections(session)

        assert list(found) == [older, newer]


class TestUnsignalledConsents:
    async def test_are_those_that_came_back_and_were_not_taken_up(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        rows = {
            name: await add_invitation(sessions, vault, connection, uuid4())
            for name in ("waiting", "just received", "taken up", "invited")
        }
        async with sessions.begin() as session:
            for name, status, at in (
                ("waiting", "received", SETTLED),
                ("just received", "received", FRESH),
                ("taken up", "exchanging", SETTLED),
            ):
                row = await session.get_one(ConsentSession, rows[name].id)
                row.status, row.received_at = status, at

        async with sessions.begin() as session:
            found = await reconcile.unsignalled_consents(session)

        assert [row.id for row in found] == [rows["waiting"].id]


class TestWatchedConnections:
    async def test_are_those_that_must_have_a_living_lifecycle_and_have_settled(self, sessions: Sessions) -> None:
        for status in Status:
            await add_connection(sessions, status=status, status_since=SETTLED)
        await add_connection(sessions, status=Status.PENDING_REAUTH, status_since=FRESH)
        await add_connection(sessions, status_since=SETTLED, lifecycle_id=uuid4())

        async with sessions.begin() as session:
            found = await reconcile.watched_after(session, None)

        assert sorted(row.status for row in found) == ["active", "needs_reconsent", "pending_reauth"]

    async def test_come_in_pages_that_leave_nobody_out(
        self, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reconcile, "BATCH", 2)
        added = {
            (await add_connection(sessions, status=Status.PENDING_REAUTH, status_since=SETTLED)).id for _ in range(5)
        }

        pages, last = [], None
        async with sessions.begin() as session:
            while page := await reconcile.watched_after(session, last):
                pages.append([row.id for row in page])
                last = page[-1].id

        assert [len(page) for page in pages] == [2, 2, 1]
        assert {row_id for page in pages for row_id in page} == added


class TestAnAbandonedConnection:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [(Status.PENDING_REAUTH, "revoked"), (Status.NEEDS_RECONSENT, "downgraded"), (Status.ACTIVE, "requested")],
    )
    async def test_is_detected_as_what_it_suffers_from(
        self, sessions: Sessions, vault: Vault, status: Status, kind: str
    ) -> None:
        connection = await add_connection(
            sessions, status=status, status_reason="revoked long ago", missing_grants=["notes.write"]
        )
        await add_credential(sessions, vault, connection.id)

        async with sessions.begin() as session:
            detection = await reconcile.detect_abandoned(session, connection)

        [event] = await every(sessions, GrantEvent)
        assert (event.id, event.kind, event.cause) == (detection, kind, "revoked long ago")
        assert (event.credential_version, event.evidence["missing"]) == (1, ["notes.write"])
        assert event.handled_at is None

    async def test_that_was_repaired_meanwhile_is_left_alone(self, sessions: Sessions, vault: Vault) -> None:
        connection = await add_connection(sessions, status=Status.PENDING_REAUTH)
        await add_credential(sessions, vault, connection.id)
        await add_credential(sessions, vault, connection.id, state="candidate")
        async with sessions.begin() as session:
            row = await connections.lock(session, connection.id)
            await credentials.activate(session, row.id, 2)
            await connections.transition(
                session, row, Status.ACTIVE, among=(Status.PENDING_REAUTH,), event="e", reason="repaired", actor="a"
            )

        async with sessions.begin() as session:
            await reconcile.detect_abandoned(session, connection)

        assert await every(sessions, GrantEvent) == []


class TestALifecycleThatWasNotTold:
    async def test_is_that_of_a_connection_over_which_it_has_no_say_any_more(self, sessions: Sessions) -> None:
        repaired = await add_connection(sessions, status_since=SETTLED)
        given_up = await add_connection(sessions, status=Status.DISCONNECTED, status_since=SETTLED)
        others = [
            await add_connection(sessions, status_since=SETTLED, lifecycle_id=uuid4()),
            await add_connection(sessions, status=Status.PENDING_REAUTH, status_since=SETTLED),
            await add_connection(sessions, status_since=FRESH),
            await add_connection(sessions, status_since=SETTLED),
        ]
        await add_detection(sessions, others[-1].id)
        ids = [row.id for row in (repaired, given_up, *others)]

        async with sessions.begin() as session:
            found = await reconcile.settled_elsewhere(session, ids)

        assert {row.id for row in found} == {repaired.id, given_up.id}
