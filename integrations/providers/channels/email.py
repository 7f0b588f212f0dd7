"""Mail, by SMTP to one server of ours: a connection for each message, encrypted unless the server is this machine.

What the server says in words stays unread: it may quote the mailbox. Its code and what it answered to are enough.
"""

import asyncio
import ssl
from datetime import UTC, datetime
from typing import Final

import aiosmtplib
import httpx

from integrations.domain.connection import masked
from integrations.domain.mail import MailServer, Security, Sender, is_mailbox
from integrations.domain.notification import Answer, Outgoing
from integrations.domain.verdict import Meaning
from integrations.providers.channels.channel import TIMEOUT
from integrations.providers.channels.letter import written
from integrations.providers.http import causes

_FOR_GOOD: Final = 500
_CREDENTIALS: Final = frozenset({530, 534, 535, 538})
"""RFC 4954 section 6: authentication is required, too weak, wrong, or wants encryption."""
_TO: Final[dict[type[aiosmtplib.SMTPResponseException], str]] = {
    aiosmtplib.SMTPAuthenticationError: "the user and password of RUNBOOK_SMTP_URL",
    aiosmtplib.SMTPSenderRefused: "the sender, RUNBOOK_MAIL_FROM",
    aiosmtplib.SMTPRecipientRefused: "the recipient",
    aiosmtplib.SMTPDataError: "the message",
}
"""What was answered to, by what aiosmtplib raises."""
_OURS_TO_GIVE: Final = (aiosmtplib.SMTPRecipientRefused, aiosmtplib.SMTPDataError)


class EmailChannel:
    name = "email"

    def __init__(self, server: MailServer | None, sender: Sender | None) -> None:
        self._server = server
        self._sender = sender

    def ready(self) -> str:
        if self._server is None:
            return "RUNBOOK_SMTP_URL is not set: smtp://user:password@host:587, or smtps://…"
        if self._sender is None:
            return "RUNBOOK_MAIL_FROM is not set: a mailbox, as `Runbook <runbook@acme.example>`"
        return ""

    def check(self, address: str) -> str:
        mailbox = address.strip()
        if not is_mailbox(mailbox):
            raise ValueError("a mailbox is written ada@acme.example, one of them and without a name")
        local, _, domain = mailbox.rpartition("@")
        try:
            # Every server knows a domain in this form (IDNA 2008); only what stands before the @ may need SMTPUTF8.
            host = httpx.URL(scheme="https", host=domain).raw_host.decode()
        except httpx.InvalidURL:
            raise ValueError(f"{domain} is no domain that mail can be sent to") from None
        return f"{local}@{host}"

    def origin(self, address: str) -> str:
        """The server that all mail goes through, whoever it is for."""
        del address
        return self.name

    def masked(self, address: str) -> str:
        return masked(address)

    async def send(self, outgoing: Outgoing) -> Answer:
        if self._server is None or self._sender is None:
            return Answer(meaning=Meaning.OPERATOR_MUST_ACT, kind="NotReady", why=self.ready())
        try:
            letter = written(outgoing, self._sender, now=datetime.now(UTC))
        except ValueError:
            return _refused("Letter", "no mail can be made of it: its recipient's address or its text is malformed")
        client = _client(self._server, self._sender.domain)
        taken = False
        try:
            async with asyncio.timeout(TIMEOUT.total_seconds()):
                await client.connect()
                await client.send_message(letter, sender=self._sender.mailbox, recipients=[outgoing.to.address])
                # From here on it is theirs, however badly the goodbye goes.
                taken = True
                await client.quit()
        except (aiosmtplib.SMTPException, OSError) as error:
            if not taken:
                return _judged(error)
        finally:
            client.close()
        return Answer(meaning=Meaning.OK)


def _client(server: MailServer, domain: str) -> aiosmtplib.SMTP:
    return aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        username=server.user or None,
        password=server.password or None,
        use_tls=server.security is Security.TLS,
        start_tls=server.security is Security.STARTTLS,
        # In place of this machine's name, which is asked of a name server that may not answer.
        local_hostname=domain,
        # The library would bound each command; the sending is bounded as a whole.
        timeout=None,
    )


def _judged(error: Exception) -> Answer:
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        error = error.recipients[0]
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return _answered(error)
    if isinstance(error, aiosmtplib.SMTPNotSupported):
        return _refused("SMTPUTF8", "the mail server takes no mailbox with letters beyond ASCII")
    if any(isinstance(cause, ssl.SSLError) for cause in causes(error)):
        why = "no trusted encryption with the mail server: its certificate or its TLS is not accepted here"
        return Answer(meaning=Meaning.OPERATOR_MUST_ACT, kind="TlsFailure", why=why)
    if isinstance(error, TimeoutError):
        why = f"the mail server took longer than {TIMEOUT.total_seconds():g} s"
        return Answer(meaning=Meaning.OUTAGE, kind="Timeout", why=why)
    if isinstance(error, OSError):
        kind = type(error).__name__
        return Answer(meaning=Meaning.OUTAGE, kind=kind, why=f"the mail server cannot be reached ({kind})")
    why = "the mail server offers no encryption or no authentication, and RUNBOOK_SMTP_URL wants it"
    return Answer(meaning=Meaning.OPERATOR_MUST_ACT, kind="SmtpFeature", why=why)


def _answered(error: aiosmtplib.SMTPResponseException) -> Answer:
    kind = f"SMTP {error.code}"
    said = f"the mail server answered {error.code} to {_TO.get(type(error), 'our greeting')}"
    if error.code < _FOR_GOOD:
        return Answer(meaning=Meaning.RETRY, kind=kind, why=f"{said}: it may take it later")
    if isinstance(error, _OURS_TO_GIVE) and error.code not in _CREDENTIALS:
        return _refused(kind, f"{said}, for good")
    return Answer(meaning=Meaning.OPERATOR_MUST_ACT, kind=kind, why=said)


def _refused(kind: str, why: str) -> Answer:
    return Answer(meaning=Meaning.OWNER_MUST_ACT, kind=kind, why=why)
