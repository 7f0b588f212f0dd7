"""One definition's entry in a file of them: what people write, checked key by key."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from integrations.domain.nearest import nearest
from integrations.domain.notification import CHANNELS, OWNER, Definition, Mode
from integrations.providers.entry import Duration

LAYOUT: Final = Path(__file__).with_name("messages") / "mail.html"
"""How a text becomes a mail's HTML, unless a definition brings its own."""
_AUDIENCES: Final = (OWNER, "operators.primary", "operators.secondary")
_LIST: Final = re.compile(r"list\.[a-z0-9_-]{1,60}")
_PATTERN: Final = re.compile(r"[A-Za-z0-9_.:*-]{1,200}")
_ID: Final = re.compile(r"[a-z0-9_-]{1,60}")


def _pattern(value: str) -> str:
    if not _PATTERN.fullmatch(value):
        raise ValueError(f"{value[:60]!r} is no event's name: letters, digits, `.`, `_`, `-`, and `*` for anything")
    return value


def _audience(value: str) -> str:
    if value not in _AUDIENCES and not _LIST.fullmatch(value):
        raise ValueError(f"{value[:60]!r} is no audience{nearest(value, (*_AUDIENCES, 'list.NAME'))}")
    return value


def _channels(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError(f"there is no channel: name one of {', '.join(CHANNELS)}, or several in the order to try them")
    for channel in value:
        if channel not in CHANNELS:
            raise ValueError(f"{channel[:60]!r} is no channel{nearest(channel, CHANNELS)}")
    if len(set(value)) < len(value):
        raise ValueError("the same channel stands there twice")
    return value


def _events(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("there is no event: without one nobody is ever told")
    return value


def _words(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty: nobody reads that")
    return value


def _some_time(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("must be longer than nothing: else it is old news at once")
    return value


def identified(name: str) -> str:
    """A definition's id. Raises ValueError: it is part of workflows' ids and of commands."""
    if not _ID.fullmatch(name):
        raise ValueError(f"{name[:60]!r} cannot be an id: 1 to 60 of the characters a-z, 0-9, `_` and `-`")
    return name


Pattern = Annotated[str, AfterValidator(_pattern)]


class Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    events: Annotated[tuple[Pattern, ...], AfterValidator(_events)]
    audience: Annotated[str, AfterValidator(_audience)]
    channels: Annotated[tuple[str, ...], AfterValidator(_channels)]
    mode: Mode = Mode.FAILOVER
    relevant_for: Annotated[Duration, AfterValidator(_some_time)]
    superseded_by: tuple[Pattern, ...] = ()
    in_the_morning: bool = False
    subject: Annotated[str, AfterValidator(_words)]
    text: Annotated[str, AfterValidator(_words)] | None = None
    text_file: Path | None = None
    """In its place a file, beside the one that names it."""
    html: str | None = None
    """Without it the text is laid out; empty, and there is none."""
    html_file: Path | None = None

    @model_validator(mode="after")
    def _each_part_once(self) -> Self:
        if (self.text is None) == (self.text_file is None):
            raise ValueError("needs its words once: in `text`, or in the file that `text_file` names")
        if self.html is not None and self.html_file is not None:
            raise ValueError("has `html` and `html_file`: one of them is enough")
        return self

    def definition(self, name: str, folder: Path) -> Definition:
        """As it is used, with what stands in files. Raises ValueError, which names one that cannot be read."""
        parts: dict[str, Any] = {
            "text": _read(folder, "text_file", self.text_file) if self.text is None else self.text,
            "html": _read(folder, "html_file", self.html_file or LAYOUT) if self.html is None else self.html,
        }
        told = self.model_dump(exclude={"text", "text_file", "html", "html_file"})
        return Definition(id=name, **told, **parts)


def _read(folder: Path, key: str, file: Path | None) -> str:
    assert file is not None
    try:
        return (folder / file).read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{key}: {folder / file}: {error}") from None
