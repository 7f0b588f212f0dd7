"""What no command line may hold, because others can read that: one line of a file, of stdin, or typed unseen."""

import sys
from pathlib import Path
from typing import Final

import typer

from integrations.domain.errors import WrongUsageError

_MOST: Final = 2000
"""Bytes: more is another file."""


def typed(what: str) -> str:
    """The line on stdin; from a terminal it is asked for, without an echo. Raises WrongUsageError, without the line."""
    return str(typer.prompt(what, hide_input=True)).strip() if sys.stdin.isatty() else from_stdin()


def from_stdin() -> str:
    """Raises WrongUsageError, without the line, for what is too long, empty or no text."""
    return _text(sys.stdin.buffer.read(_MOST + 1))


def from_file(path: Path) -> str:
    """Raises OSError, and WrongUsageError as `from_stdin` does."""
    with path.open("rb") as file:
        return _text(file.read(_MOST + 1))


def _text(raw: bytes) -> str:
    try:
        text = raw.decode().strip()
    except UnicodeDecodeError:
        text = ""
    if not text or len(raw) > _MOST:
        raise WrongUsageError(f"what was read is empty, no text, or longer than {_MOST:,} bytes: give one line")
    return text
