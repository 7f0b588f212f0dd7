"""A message's plain text, read by the conventions of plain-text mail, for a layout that looks better.

Paragraphs have an empty line between them. One whose lines begin with four spaces is a command; one that ends with
the link is a button, labelled by the line before; one of several lines `What: so` is a list of facts; what follows a
line `-- ` is small print.
"""

import re
from typing import Final, NamedTuple

from integrations.domain.notification import LINK

_INDENT: Final = "    "
_SIGNATURE: Final = "\n-- \n"
_FACT: Final = re.compile(r"[A-Z][^:]{0,40}: .+")


class Paragraph(NamedTuple):
    """A tuple, since templates take those apart many times faster than they look at attributes."""

    kind: str
    """`words`, `facts`, `command`, `button`, or `small`."""
    lines: tuple[str, ...]
    facts: tuple[tuple[str, str], ...] = ()
    """What each is about, and what it is."""


def paragraphs(text: str) -> list[Paragraph]:
    """What a layout shows, from top to bottom."""
    said, _, small = text.partition(_SIGNATURE)
    return [*map(_read, _parts(said)), *(Paragraph("small", tuple(part.splitlines())) for part in _parts(small))]


def _parts(text: str) -> list[str]:
    return [part.strip("\n") for part in text.split("\n\n") if part.strip()]


def _read(part: str) -> Paragraph:
    lines = part.split("\n")
    if lines[-1] == LINK:
        return Paragraph("button", tuple(line.removesuffix(":") for line in lines[:-1]) or ("Open the link",))
    if all(line.startswith(_INDENT) for line in lines):
        return Paragraph("command", tuple(line.removeprefix(_INDENT) for line in lines))
    if len(lines) > 1 and all(map(_FACT.fullmatch, lines)):
        return Paragraph(
            "facts", (), tuple((about, fact) for about, _, fact in (line.partition(": ") for line in lines))
        )
    return Paragraph("words", tuple(lines))
