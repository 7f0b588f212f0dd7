"""A TOML file that people extend us with: read whole, or said why not."""

import re
import tomllib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

_TABLE: Final = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?")


def parsed(file: Path, known: Collection[str], example: str) -> dict[str, dict[str, Any]]:
    """What stands under each of the `known` keys; nothing under those that are not there.

    Raises ValueError, with the file's name, for one that cannot be read, and for any other key: `example` is how an
    entry starts.
    """
    text = ""
    try:
        text = file.read_bytes().decode()
        content = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        twice = [
            f"{file}: {name} stands in line {first} and again in line {second}: give one of them another id"
            for name, first, second in _declared_twice(text)
        ]
        raise ValueError("\n".join(twice) or f"{file}: {error}") from None
    unknown = set(content) - set(known)
    if unknown:
        raise ValueError(f"{file}: unknown key {min(unknown)!r}; an entry starts with {example}")
    for key in known:
        if not isinstance(content.setdefault(key, {}), dict):
            raise ValueError(f"{file}: {key} must hold tables")  # noqa: TRY004 - the file's mistake, not the program's
    return content


def tables(file: Path, key: str, entries: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The same entries. Raises ValueError unless each of them is a table."""
    if not all(isinstance(entry, dict) for entry in entries.values()):
        raise ValueError(f"{file}: {key} must hold a table for each one: [{key}.ID]")
    return entries


def _declared_twice(text: str) -> Iterator[tuple[str, int, int]]:
    """Each table that a TOML text declares again: its name and the numbers of both lines, from 1."""
    first: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        match = _TABLE.fullmatch(line)
        if match is None:
            continue
        name = re.sub(r"\s*\.\s*", ".", match[1])
        if name in first:
            yield name, first[name], number
        else:
            first[name] = number
