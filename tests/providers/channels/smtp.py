"""A mail server on a real socket (aiosmtpd), which keeps what it is given or answers what a test wants."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USER, PASSWORD = "runbook", "hunter2/with@signs#"


@dataclass
class Mailbox:
    """What arrived, and what to answer to a command in place of taking it."""

    answers: Mapping[str, str] = field(default_factory=dict)
    letters: list[EmailMessage] = field(default_factory=list)
    envelopes: list[Envelope] = field(default_factory=list)
    port: int = 0

    async def handle_MAIL(  # noqa: N802 - aiosmtpd finds its hooks by these names
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return self.answers.get("MAIL", "250 OK")

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self.answers.get("RCPT", "250 OK")

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        if "DATA" in self.answers:
            return self.answers["DATA"]
        letter = message_from_bytes(envelope.content.replace(b"\r\n", b"\n"), policy=policy.default)
        assert isinstance(letter, EmailMessage)
        self.letters.append(letter)
        self.envelopes.append(envelope)
        return "250 taken"

    async def handle_QUIT(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802
        if "QUIT" in self.answers:
            await asyncio.sleep(float(self.answers["QUIT"]))
        return "221 Bye"


def knows(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: Any) -> AuthResult:
    known = LoginPassword(USER.encode(), PASSWORD.encode())
    return AuthResult(success=given == known, handled=False)


@asynccontextmanager
async def mail_server(
    *, answers: Mapping[str, str] | None = None, tls: ssl.SSLContext | None = None, smtps: bool = False, **options: Any
) -> AsyncIterator[Mailbox]:
    """`tls` is offered by STARTTLS, or with `smtps` spoken from the first byte."""
    mailbox = Mailbox(answers or {})

    def protocol() -> SMTP:
        return SMTP(mailbox, hostname="mail.test", tls_context=None if smtps else tls, **options)

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, ssl=tls if smtps else None)
    async with server:
        mailbox.port = server.sockets[0].getsockname()[1]
        yield mailbox
