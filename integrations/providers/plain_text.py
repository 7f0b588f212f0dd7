"""A message's plain text, read by the conventions of plain-text mail, for a layout that looks better.

Paragraphs have an empty line between them. One whose lines begin with four spaces is a command; one that ends with
the link is a button, labelled by the line before; what follows a line `-- ` is small print.
"""

from dataclasses import dataclass
from typing import Final

from integrations.domain.notification import LINK

_INDENT: Final = "    "
_SIGNATURE: Final = "\n-- \n"


@dataclass(frozen=True, slots=True)
class Paragraph:
    kind: str
    """`words`, `command`, `button`, or `small`."""
    lines: tuple[str, ...]


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
    return Paragraph("words", tuple(lines))
