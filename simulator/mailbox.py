"""The mails that the simulator caught, as their readers would see them."""

import time
from collections import deque
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from simulator.clock import iso

KEPT = 500


@dataclass(frozen=True, slots=True)
class Mail:
    number: int
    at: float
    recipients: tuple[str, ...]
    """Who was named to the server; the header may say something else."""
    message: EmailMessage
    size: int

    def summary(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "at": iso(self.at),
            "from": self._header("From"),
            "to": self._header("To"),
            "recipients": list(self.recipients),
            "subject": self._header("Subject"),
            "message_id": self._header("Message-ID"),
            "size": self.size,
        }

    def view(self) -> dict[str, Any]:
        headers = [[name, str(value)] for name, value in self.message.items()]
        return {**self.summary(), "headers": headers, "text": self.body("plain"), "html": self.body("html")}

    def body(self, kind: str) -> str | None:
        """The body of that kind, `plain` or `html`; None when the mail has none."""
        part = self.message.get_body((kind,))
        if part is None:
            return None
        sent = part.get_payload(decode=True)
        assert isinstance(sent, bytes)
        try:
            return sent.decode(part.get_content_charset("utf-8"), "replace")
        except LookupError:  # a character set that nobody has heard of
            return sent.decode("utf-8", "replace")

    def _header(self, name: str) -> str | None:
        value = self.message[name]
        return None if value is None else str(value)


class Mailbox:
    """In memory: what is in a mail may be a link, which must not outlive its reader."""

    def __init__(self) -> None:
        self._kept: deque[Mail] = deque(maxlen=KEPT)
        self.caught = 0
        self.address: str | None = None
        """Where the mail server listens, when there is one."""

    def catch(self, recipients: list[str], content: bytes) -> None:
        self.caught += 1
        message = message_from_bytes(content, _class=EmailMessage, policy=policy.default)
        self._kept.append(Mail(self.caught, time.time(), tuple(recipients), message, len(content)))

    def newest(self, to: str | None, limit: int) -> list[Mail]:
        """The newest first."""
        found = [mail for mail in reversed(self._kept) if to is None or to in mail.recipients]
        return found[:limit]

    def get(self, number: int) -> Mail | None:
        return next((mail for mail in self._kept if mail.number == number), None)

    def empty(self) -> int:
        forgotten = len(self._kept)
        self._kept.clear()
        return forgotten
