"""Where templates run: they see values, join them and choose among them, and can do nothing else.

No loader, no method, no global, and of Jinja's filters those that cannot make much of little. What remains is the
patience of whoever writes definitions: loops within loops over a payload's lists take as long as they are many, and
a text that a template joins to itself again and again doubles. Neither is in the reach of an event's values.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jinja2 import StrictUndefined, Undefined, pass_context
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from integrations.domain.notification import LINK
from integrations.providers.plain_text import paragraphs

ZONE: Final = "_zone"
"""Where a context keeps its recipient's time zone: for the filter `date`, out of reach of templates."""
_HARMLESS: Final = (
    *("capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "int", "items", "join", "last"),
    *("length", "list", "lower", "round", "sort", "title", "trim", "truncate", "unique", "upper"),
)
# What breaks a line, begins a header, rings a bell, or turns the order of letters round.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")
_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)


class Fields(dict[str, Any]):
    """Values of an event, by name, and what they are called in a template."""

    def __init__(self, place: str, values: Mapping[str, Any]) -> None:
        super().__init__((value_of(name, place), value_of(value, f"{place}.{name}")) for name, value in values.items())
        self.place = place


def value_of(value: Any, place: str) -> Any:
    """A value as a template may have it: one line, and without the word that stands for a link."""
    if isinstance(value, str):
        return one_line(value).replace(LINK, " ")
    if isinstance(value, Mapping):
        return Fields(place, value)
    if isinstance(value, list):
        return [value_of(each, place) for each in value]
    return value


def one_line(text: str) -> str:
    """The same with a space for whatever is not to be seen, or would begin a line or a header."""
    # Nearly every text is fine as it is, and that is seen ten times faster: none of these is printable.
    return text if text.isprintable() else _CONTROL.sub(" ", text)


class Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, *, escapes: bool) -> None:
        super().__init__(autoescape=escapes, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        self.filters = {name: FILTERS[name] for name in _HARMLESS} | {"date": _date, "paragraphs": paragraphs}

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Fields):
            return self._field(obj, attribute)
        return self._no_method(obj, attribute, super().getattr(obj, attribute))

    def getitem(self, obj: Any, argument: str | Any) -> Any:
        if isinstance(obj, Fields):
            return self._field(obj, argument)
        return self._no_method(obj, argument, super().getitem(obj, argument))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Numbers only: a text times a billion is a lot of text, and so is one that is formatted that wide."""
        if operator == "**" or not all(isinstance(each, int | float) for each in (left, right)):
            raise SecurityError(f"`{operator}` is for two numbers" if operator != "**" else "`**` is not for messages")
        return super().call_binop(context, operator, left, right)

    def _field(self, fields: Fields, name: Any) -> Any:
        """A value, and never a method that happens to be called like one."""
        if name in fields:
            return fields[name]
        hint = f"there is no `{fields.place}.{name}`; there are {', '.join(sorted(fields)) or 'none'}"
        return self.undefined(hint=hint, obj=fields, name=name)

    def _no_method(self, obj: Any, name: Any, found: Any) -> Any:
        if not callable(found) or isinstance(found, Undefined):
            return found
        hint = f"`{name}` can only be called, and here a filter does that: as in `name | upper`"
        return self.undefined(hint=hint, obj=obj, name=name)


@pass_context
def _date(context: Context, value: Any) -> str:
    """A moment as people write it: `25 November 2026, 20:05 (Europe/Berlin)`, by the recipient's clock."""
    moment = value if isinstance(value, datetime) else _read(str(value))
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no offset: nobody can say when that is")
    local = moment.astimezone(_zone(context.parent[ZONE]))
    return f"{local.day} {_MONTHS[local.month - 1]} {local.year}, {local:%H:%M} ({local.tzinfo})"


def _read(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no moment: one looks like 2026-11-25T20:05:00+00:00") from None


@lru_cache(maxsize=1000)
def _zone(name: str) -> ZoneInfo:
    """A zone nobody knows is UTC: better an hour that says where it counts than no message."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")
