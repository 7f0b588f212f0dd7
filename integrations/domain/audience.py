"""Audiences: the words for whom something is told, and the names of the people in them."""

import re
import shlex
from typing import Final

from integrations.domain.connection import owner_of
from integrations.domain.errors import WrongUsageError
from integrations.domain.nearest import nearest

OPERATORS: Final = ("operators.primary", "operators.secondary")
"""Who is on call, and who is when they do not answer."""
_FORMS: Final = (*OPERATORS, "org:ID", "user:ID", "list.NAME")
_OWNERS: Final = ("org:", "user:")
_LIST: Final = re.compile(r"list\.[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
_NAME_LIMIT: Final = 80


def is_owner(audience: str) -> bool:
    """Whoever connections belong to: the others work for us."""
    return audience.startswith(_OWNERS)


def read_audience(text: str) -> str:
    """An audience as a person writes it. Raises WrongUsageError, with how it is written."""
    if is_owner(text):
        owner_of(text)
        if "/" in text:
            raise WrongUsageError(f"{text[:80]!r} cannot be told from a person of another owner: its id holds a '/'")
    elif text.startswith("list."):
        if not _LIST.fullmatch(text):
            raise WrongUsageError(
                f"{text[:80]!r} is no list: write list.NAME; a NAME has at most 60 letters, digits, '-' and '_'"
            )
    elif text not in OPERATORS:
        raise WrongUsageError(f"{text[:80]!r} is no audience{nearest(text, _FORMS)}")
    return text


def read_name(text: str) -> str:
    """A person's name within an audience; empty for its only one. Raises WrongUsageError, with how it is written.

    It stands readable in rows, and in the header of a mail.
    """
    name = text.strip()
    if len(name) > _NAME_LIMIT or not name.isprintable():
        raise WrongUsageError(
            f"{name[:20]!r} is no name: write one like ada, of at most {_NAME_LIMIT} characters, without line "
            "breaks or control characters"
        )
    if "@" in name or "://" in name:
        raise WrongUsageError("the name is an address, which is kept sealed, and a name is not: write one like ada")
    return name


def recipient_of(audience: str, name: str) -> str:
    """`org:acme/ada`, or `org:acme` for its only one."""
    return f"{audience}/{name}" if name else audience


def way_to_reach(audience: str) -> str:
    """The command that ends the silence of an audience that nothing reaches."""
    return f"runbook contacts add {shlex.quote(audience)} email ADDRESS"
