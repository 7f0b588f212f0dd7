"""Where a request says something: a header's name, or `body:` and a dotted place of its JSON.

A `*` in it is the first of a list that says something there. Several places with `+` between them are one value, their
texts joined by dots; without one of them there is none.

Some providers put several notifications into one delivery. Where they lie is a place of lists, such as
`body:entry.*.changes.*`, each `*` being every one there; `item:` and a dotted place is within one of them, or in what
it lies in.
"""

import json
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from hashlib import sha256
from itertools import islice
from typing import Any, Final

from integrations.domain.answer import value_at
from integrations.providers.webhooks.arrived import Arrived

_BODY: Final = "body:"
_ITEM: Final = "item:"
_PART: Final = re.compile(r"[A-Za-z0-9_\-]+|(body|item):([^.+\s]+\.)*(?!\*)[^.+\s]+")
_EACH: Final = re.compile(r"body:([^.+\s]+\.)*\*")
_MOST: Final = 10_000
"""Items of a delivery that are read: ten times what any vendor says it puts into one."""
_LONGEST: Final = 200


def checked(place: str) -> str:
    """The place of an entry. Raises ValueError when it is none."""
    if all(_PART.fullmatch(part) for part in place.split("+")):
        return place
    raise ValueError(
        f'{place!r} is no place: it is a header\'s name, or "body:" and a dotted place of the JSON, or several with'
        " + between them"
    )


def checked_each(place: str) -> str:
    """The place of every notification. Raises ValueError when it is none."""
    if _EACH.fullmatch(place):
        return place
    raise ValueError(f'{place!r} is no place of lists: it is "body:" and a dotted place of the JSON that ends in *')


class Words:
    """What one request says at places. Takes any body and any header; what is no text or number says nothing."""

    def __init__(self, arrived: Arrived, within: tuple[object, ...] = ()) -> None:
        """`within`: one of its notifications, and what that lies in, from the inside out."""
        self._arrived = arrived
        self._within = within

    def items(self, places: Iterable[str]) -> list["Words"]:
        """The notifications, at the first of these places where there are any; else the request as a whole."""
        for place in places:
            stretches = [stretch.strip(".") for stretch in place.removeprefix(_BODY).split("*")[:-1]]
            if found := list(islice(_items(self.json, stretches, ()), _MOST)):
                return [self._about(each) for each in found]
        return [self]

    def _about(self, within: tuple[object, ...]) -> "Words":
        item = Words(self._arrived, within)
        # Read once for all of them.
        item.__dict__["json"] = self.json
        return item

    def first(self, places: Iterable[str]) -> str:
        """At the first place that says something; empty when none does."""
        return next((said for place in places if (said := self.at(place))), "")

    def at(self, place: str) -> str:
        said = [self._part(part) for part in place.split("+")]
        return kept(".".join(said)) if all(said) else ""

    def _part(self, part: str) -> str:
        if part.startswith(_BODY):
            return _in(self.json, part.removeprefix(_BODY))
        if part.startswith(_ITEM):
            place = part.removeprefix(_ITEM)
            return next((said for each in self._within if (said := _in(each, place))), "")
        wanted = part.lower().encode()
        values = [value for name, value in self._arrived.headers if name == wanted]
        # One character for each byte: different bytes stay different. Of two headers neither is believed.
        return values[0].decode("latin-1").strip() if len(values) == 1 else ""

    @cached_property
    def json(self) -> Any:
        """The body as JSON; None for what is none, or is nested deeper than can be read."""
        return parsed(self._arrived.body)


def _in(body: object, place: str) -> str:
    of_all, star, of_each = f".{place}".partition(".*.")
    found = value_at(body, of_all[1:]) if of_all else body
    if star:
        return next((said for each in found if (said := _in(each, of_each))), "") if isinstance(found, list) else ""
    return str(found).strip() if isinstance(found, str | int) and not isinstance(found, bool) else ""


def _items(found: object, stretches: list[str], outer: tuple[object, ...]) -> Iterator[tuple[object, ...]]:
    """The innermost items there are, each with what it lies in. `stretches`: what stands before each star."""
    if not stretches:
        yield outer
        return
    listed = value_at(found, stretches[0]) if stretches[0] else found
    if isinstance(listed, list) and listed:
        for each in listed:
            yield from _items(each, stretches[1:], (each, *outer))
    elif outer:
        yield outer


def parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def kept(text: str) -> str:
    """The text as a row takes it: printable and of 200 characters at most. Anything else by its digest."""
    if len(text) <= _LONGEST and text.isprintable():
        return text
    # A lone surrogate is valid in JSON and in no encoding.
    return f"sha256:{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
