from integrations.db import connections, contacts
from integrations.db.session import Sessions
from integrations.db.tables import Connection, Contact
from integrations.domain.quiet_hours import QuietHours
from integrations.domain.reauth import Detected
from tests.factories import every

BERLIN = QuietHours(zone="Europe/Berlin", starts=22, ends=7)


class TestAnOwner:
    async def test_is_put_down_once_however_often_it_is_said(self, sessions: Sessions) -> None:
        for quiet in (QuietHours(), BERLIN):
            async with sessions.begin() as session:
                await contacts.put(session, "org", "acme", quiet, by="ada")

        [row] = await every(sessions, Contact)
        assert contacts.quiet_hours_of(row) == BERLIN

    async def test_is_found_with_what_was_detected_of_their_connection(
        self, sessions: Sessions, connection: Connection
    ) -> None:
        async with sessions.begin() as session:
            detection = await connections.detect(
                session, connection.id, Detected.REVOKED, cause="revoked", actor="test", version=None
            )
            _, _, unknown = await connections.detected(session, detection)
            await contacts.put(session, "org", "acme", BERLIN, by="ada")
            await contacts.put(session, "user", "acme", QuietHours(), by="ada")

        async with sessions.begin() as session:
            event, found, quiet = await connections.detected(session, detection)

        assert unknown is None
        assert (event.id, found.id, quiet) == (detection, connection.id, BERLIN)
