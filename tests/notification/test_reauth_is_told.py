"""A re-consent lifecycle, from its rows to a mail server: it invites, reminds, escalates, and says that it is over."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from uuid import uuid4

import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db import ending, reauth, waiting
from integrations.db.dedicated import dedicated
from integrations.db.outbox_flow import Flow
from integrations.db.projectors import PROJECTORS, notifying
from integrations.db.tables import Connection, ConsentSession, GrantEvent
from integrations.db.vault import Vault
from integrations.domain.ledger import PARTITIONS
from integrations.domain.mail import MailServer, Sender
from integrations.domain.reauth import Candidate, Detected, OpenLifecycle, Order
from integrations.providers import definitions
from integrations.providers.channels.email import EmailChannel
from tests.factories import add_connection, add_credential, every, soon
from tests.notification.ground import IDLE, Ground
from tests.providers.channels.smtp import Mailbox, mail_server

LIFE = uuid4()


class Lifecycle:
    """Whose steps are taken one by one, and what arrives meanwhile."""

    def __init__(self, told: Ground, mailbox: Mailbox, connection: Connection) -> None:
        self.told = told
        self.mailbox = mailbox
        self.connection = connection

    async def opens(self) -> None:
        async with self.told.sessions.begin() as session:
            session.add(
                GrantEvent(
                    connection_id=self.connection.id, kind=Detected.REVOKED, cause="invalid_grant", actor="the test"
                )
            )
        wanted = OpenLifecycle(
            connection_id=self.connection.id, lifecycle_id=LIFE, deadline=soon(), opened_at=datetime.now(UTC)
        )
        async with self.told.sessions.begin() as session:
            await reauth.open_lifecycle(session, self.told.vault, wanted, lambda _: [])

    def order(self, key: str) -> Order:
        return Order(connection_id=self.connection.id, lifecycle_id=LIFE, key=key, by="the clock", reason="it is time")

    async def invitation(self) -> ConsentSession:
        (row,) = await every(self.told.sessions, ConsentSession)
        return row

    async def arrived(self) -> Sequence[EmailMessage]:
        """What its events have become by now: projected, expanded, sent. Only what is new."""
        before = len(self.mailbox.letters)
        async with dedicated(self.told.url, "test outbox") as connection:
            flow = Flow({**PROJECTORS, "notification": notifying(self.told.definitions.patterns)})
            for part in range(PARTITIONS):
                await flow.batch(connection, part, 100)
        await self.told.work("email", until=IDLE)
        return self.mailbox.letters[before:]


@pytest_asyncio.fixture
async def life(engine: AsyncEngine, database_url: str, vault: Vault) -> AsyncIterator[Lifecycle]:
    async with mail_server() as mailbox:
        sender = Sender.read("Integrations <integrations@platform.example>")
        email = EmailChannel(MailServer.read(f"smtp://127.0.0.1:{mailbox.port}"), sender)
        told = Ground(engine, database_url, vault, definitions.load(), {"email": email})
        await told.add_address("ada@acme.example", "org:acme", "ada", "email")
        await told.add_address("oncall@platform.example", "operators.secondary", "", "email")
        connection = await add_connection(told.sessions)
        await add_credential(told.sessions, vault, connection.id)
        yield Lifecycle(told, mailbox, connection)


def text(letter: EmailMessage) -> str:
    body = letter.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


class TestTheOwner:
    async def test_is_invited_with_the_link_of_that_very_invitation(self, life: Lifecycle) -> None:
        await life.opens()

        (letter,) = await life.arrived()

        token = life.told.vault.link_token((await life.invitation()).id)
        assert letter["To"] == "ada <ada@acme.example>"
        assert f"https://runbook.example/reconsent/{token}" in text(letter)

    async def test_is_reminded_with_the_same_link(self, life: Lifecycle) -> None:
        await life.opens()
        await life.arrived()
        async with life.told.sessions.begin() as session:
            assert await waiting.remind(session, life.order("reminder 1"))

        (letter,) = await life.arrived()

        assert letter["To"] == "ada <ada@acme.example>"
        assert life.told.vault.link_token((await life.invitation()).id) in text(letter)

    async def test_is_told_that_it_works_again_and_not_invited_any_more(self, life: Lifecycle) -> None:
        await life.opens()
        invitation = await life.invitation()
        fresh = await add_credential(
            life.told.sessions, life.told.vault, life.connection.id, state="candidate", session_id=invitation.id
        )
        async with life.told.sessions.begin() as session:
            (await session.get_one(ConsentSession, invitation.id)).status = "exchanged"
            candidate = Candidate(
                connection_id=life.connection.id,
                lifecycle_id=LIFE,
                session_id=invitation.id,
                version=fresh.version,
                deadline=soon(),
            )
            assert await ending.activate(session, candidate)

        letters = await life.arrived()

        # The invitation had not gone out yet: by now it is old.
        assert [letter["Subject"] for letter in letters] == ["Simulator works again"]
        assert (await life.told.statuses()) == {"delivered": 1, "dropped": 1}


class TestTheSecondaryOnCall:
    async def test_is_told_of_a_task_that_nobody_acknowledged(self, life: Lifecycle) -> None:
        await life.opens()
        await life.arrived()
        async with life.told.sessions.begin() as session:
            assert await waiting.escalate(session, life.order("escalation"))

        (letter,) = await life.arrived()

        assert letter["To"] == "oncall@platform.example"
        assert f"runbook reauth status {life.connection.id}" in text(letter)
