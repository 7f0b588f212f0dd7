"""Mail: how a mail server, a sender and a mailbox are written. What is wrong is said without showing any of it."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

THIS_MACHINE: Final = frozenset({"127.0.0.1", "localhost", "::1"})
"""Where nobody listens in between."""
_SERVER: Final = "smtp://user:password@host:587 or smtps://user:password@host:465"
_LONGEST: Final = 254
"""RFC 5321 section 4.5.3.1.3, without the angle brackets."""
_ATOM: Final = r"""[^\s"(),.:;<>@\[\\\]\x00-\x1f\x7f]+"""
_LABEL: Final = r"[^\W_](?:[\w-]{0,61}[^\W_])?"
_MAILBOX: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")
_NAMED: Final = re.compile(r'"?(?P<name>[^"<>,@\x00-\x1f\x7f]*?)"?\s*<(?P<mailbox>[^<>]*)>')


class Security(StrEnum):
    TLS = "tls"
    """From the first byte."""
    STARTTLS = "starttls"
    """Demanded: a server that offers none gets neither password nor mail."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class MailServer:
    host: str
    port: int
    security: Security
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def read(cls, url: str) -> "MailServer":
        """Of `smtp://…` or `smtps://…`. Plain smtp is STARTTLS, except on this machine; `?tls=` says otherwise."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            # Its words would quote the part of a password that was taken for a port.
            raise ValueError(f"must be {_SERVER}; in the password, / is %2F, @ is %40, # is %23") from None
        if parts.scheme not in {"smtp", "smtps"} or not host or parts.path.strip("/") or parts.fragment:
            raise ValueError(f"must be {_SERVER}; in the password, / is %2F, @ is %40, # is %23")
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if bool(user) != bool(password):
            raise ValueError(f"has a user without a password, or the other way round: {_SERVER}")
        security = _security(parts.scheme, parts.query, host)
        if user and security is Security.NONE and host not in THIS_MACHINE:
            raise ValueError("would send the password readable for anybody: take smtps://, or ?tls=starttls")
        return cls(host, port or (465 if security is Security.TLS else 587), security, user, password)


def _security(scheme: str, query: str, host: str) -> Security:
    options = parse_qsl(query, keep_blank_values=True)
    if scheme == "smtps" and not options:
        return Security.TLS
    if scheme == "smtp" and not options:
        return Security.NONE if host in THIS_MACHINE else Security.STARTTLS
    if scheme == "smtp" and options in ([("tls", "starttls")], [("tls", "none")]):
        return Security(options[0][1])
    raise ValueError("takes one option, and only behind smtp://: ?tls=starttls or ?tls=none")


@dataclass(frozen=True, slots=True)
class Sender:
    """Whom a message is from."""

    name: str
    mailbox: str

    @classmethod
    def read(cls, text: str) -> "Sender":
        """Of `Name <mailbox>`, or of the mailbox alone."""
        named = _NAMED.fullmatch(text.strip())
        name, mailbox = (named["name"].strip(), named["mailbox"]) if named else ("", text.strip())
        if not mailbox.isascii() or not is_mailbox(mailbox):
            raise ValueError("must be a mailbox in ASCII, as `Runbook <runbook@acme.example>`")
        return cls(name, mailbox)

    @property
    def domain(self) -> str:
        return self.mailbox.rpartition("@")[2]


def is_mailbox(text: str) -> bool:
    """RFC 5321's mailbox without quotes and address literals; letters beyond ASCII may be in it (RFC 6531)."""
    return len(text.encode()) <= _LONGEST and _MAILBOX.fullmatch(text) is not None
