"""The definitions: the built-in ones and the file that extends them, tried with samples when they are read.

A sample is the payload of one event as it is sent. Whoever defines something about an event of their own brings one:
then a template that names a missing field is found here, and an event's name that nobody ever sends as well.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError

from integrations.domain.errors import StopError
from integrations.domain.nearest import nearest
from integrations.domain.notification import Definition, News, matches
from integrations.providers.definition_entry import Entry, identified
from integrations.providers.mistakes import mistakes
from integrations.providers.rendering import Renderer, TemplateError
from integrations.providers.toml_file import parsed, tables

BUILT_IN: Final = Path(__file__).with_name("definitions.toml")
Samples = Mapping[str, Sequence[Mapping[str, Any]]]
"""By event, each form that its payload has."""


class DefinitionsError(StopError):
    """A file of definitions is wrong. The message names the file, each wrong key and the nearest right one."""


class Definitions:
    def __init__(
        self,
        definitions: Iterable[Definition],
        samples: Samples | None = None,
        files: Mapping[str, Path] | None = None,
    ) -> None:
        """`files`: where each definition stands, by id."""
        self._files = files or {}
        self._definitions = {definition.id: definition for definition in definitions}
        self.samples: Samples = samples or {}
        self.patterns = tuple(sorted({pattern for each in self for pattern in each.events}))
        """Of all of them: what matches none of these is told to nobody."""
        # Names are whatever programs call their events: as many are kept as any platform has.
        self.about = lru_cache(maxsize=1024)(self._about)

    def __iter__(self) -> Iterator[Definition]:
        return iter(self._definitions.values())

    def get(self, definition_id: str) -> Definition:
        """Raises DefinitionsError, naming the nearest, when there is none of that id."""
        found = self._definitions.get(definition_id)
        if found is None:
            raise DefinitionsError(
                f"there is no definition {definition_id!r}{nearest(definition_id, self._definitions)}"
            )
        return found

    def file_of(self, definition_id: str) -> Path:
        """Where it stands."""
        return self._files.get(definition_id, BUILT_IN)

    def _about(self, event: str) -> tuple[Definition, ...]:
        """What is told of events of this name."""
        return tuple(definition for definition in self if definition.is_about(event))


def load(extra: Path | None = None) -> Definitions:
    """Read the built-in definitions and the file that extends them. Raises DefinitionsError."""
    definitions: dict[str, Definition] = {}
    samples: dict[str, Sequence[Mapping[str, Any]]] = {}
    renderer = Renderer()
    files: dict[str, Path] = {}
    for file in (BUILT_IN, extra):
        if file is not None:
            own, added, said = _read(file)
            samples |= added
            said += [f"notifications.{each.id}.{line}" for each in own for line in _tried(renderer, each, samples)]
            if said:
                raise DefinitionsError("\n".join(f"{file}: {line}" for line in said))
            definitions |= {each.id: each for each in own}
            files |= {each.id: file for each in own}
    return Definitions(definitions.values(), samples, files)


def sample(event: str, payload: Mapping[str, Any]) -> News:
    """An event as it might have happened."""
    return News(
        event_id=UUID(int=1),
        name=event,
        occurred_at=datetime(2026, 11, 25, 20, 5, tzinfo=UTC),
        provider_id="simulator",
        scope_type="org",
        scope_id="acme",
        connection_id=UUID(int=2),
        payload=payload,
    )


def _read(file: Path) -> tuple[list[Definition], Samples, list[str]]:
    """One file's definitions and samples, and a line for each entry that is wrong."""
    try:
        content = parsed(file, ("notifications", "samples"), "[notifications.ID]")
        entries = tables(file, "notifications", content["notifications"])
        samples = {event: _forms(file, event, value) for event, value in content["samples"].items()}
    except ValueError as error:
        raise DefinitionsError(str(error)) from None
    definitions: list[Definition] = []
    said: list[str] = []
    for name, entry in entries.items():
        try:
            definitions.append(Entry.model_validate(entry).definition(identified(name), file.parent))
        except ValidationError as error:
            said += mistakes(error, Entry, ("notifications", name))
        except ValueError as error:
            said.append(f"notifications.{name}: {error}")
    return definitions, samples, said


def _forms(file: Path, event: str, value: Any) -> Sequence[Mapping[str, Any]]:
    forms = [value] if isinstance(value, dict) else value
    try:
        # As it comes back from the database.
        read = json.loads(json.dumps(forms))
    except TypeError as error:
        raise ValueError(f"{file}: samples.{event!r}: {error}: a moment is a text in a payload") from None
    if not isinstance(read, list) or not all(isinstance(form, dict) for form in read):
        raise ValueError(f'{file}: samples must hold tables: [samples."reauth.invited"]')
    return read


def _tried(renderer: Renderer, definition: Definition, samples: Samples) -> Iterator[str]:
    """What is wrong with a definition: the key, and what it is."""
    for key in ("events", "superseded_by"):
        for pattern in getattr(definition, key):
            if not any(matches(event, (pattern,)) for event in samples):
                yield (
                    f"{key}: no event is known as {pattern!r}{nearest(pattern, samples)}; "
                    f'for one of your own add its payload: [samples."{pattern}"]'
                )
    found = list(renderer.mistakes(definition))
    if not found:
        about = [(event, form) for event, forms in samples.items() if definition.is_about(event) for form in forms]
        found = [line for event, form in about for line in _rendered(renderer, definition, sample(event, form))]
    yield from dict.fromkeys(found)


def _rendered(renderer: Renderer, definition: Definition, news: News) -> Iterator[str]:
    try:
        renderer.render(definition, news, "Ada", "Europe/Berlin", "Simulator")
    except TemplateError as error:
        yield f"{str(error).removeprefix(f'{definition.id}.')} (with {news.name})"
