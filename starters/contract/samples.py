"""Invented values for an entry's variables: a shop, a company, an instance, each of the pattern that it gives."""

import importlib
import random
import re
import string
from collections.abc import Iterable, Mapping
from typing import Any, Final

from integrations.domain.errors import StopError
from integrations.providers.entry import Variable

# How a pattern reads is known to `re` alone. Its parser has no public name, and has been there since Python 2.
_PARSER: Final = importlib.import_module("re._parser")
_CHARACTERS: Final = string.ascii_letters + string.digits + "-._~"
"""What stands in an address without being encoded; another character is drawn only where the pattern names it."""
_MORE: Final = 5
"""How much longer than it must be something repeated may get: long values say nothing more."""
_DRAWS: Final = 500


class NoSampleError(StopError):
    """No value of a variable's pattern could be invented. The message names the variable."""


def samples(variables: Mapping[str, Variable]) -> dict[str, str]:
    """What a source would tell for each variable: no two alike, so that one is never taken for another."""
    found: dict[str, str] = {}
    for name, variable in variables.items():
        if variable.default is not None:
            found[name] = variable.default
            continue
        chance = random.Random(name)  # noqa: S311 - the same value in every run, and no secret
        drawn = (_drawn(_PARSER.parse(variable.pattern), chance) for _ in range(_DRAWS))
        sample = next((text for text in drawn if variable.read(text) and text not in found.values()), None)
        if sample is None:
            raise NoSampleError(f"variables.{name}.pattern: no value of {variable.pattern!r} could be invented")
        found[name] = sample
    return found


def _drawn(parts: Iterable[tuple[Any, Any]], chance: random.Random) -> str:
    return "".join(_part(str(kind), said, chance) for kind, said in parts)


def _part(kind: str, said: Any, chance: random.Random) -> str:
    text = ""  # positions and conditions add nothing; whether they hold is seen when the whole value is read
    match kind:
        case "LITERAL":
            text = chr(said)
        case "ANY" | "NOT_LITERAL":
            text = chance.choice(string.ascii_letters)
        case "IN":
            fitting = [character for character in _CHARACTERS if _is_in(said, ord(character))]
            text = chance.choice(fitting or [chr(code) for item, code in said if str(item) == "LITERAL"] or [""])
        case "BRANCH":
            text = _drawn(chance.choice(said[1]), chance)
        case "SUBPATTERN":
            text = _drawn(said[-1], chance)
        case "ATOMIC_GROUP":
            text = _drawn(said, chance)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, repeated = said
            times = chance.randint(least, min(most, least + _MORE))
            text = "".join(_drawn(repeated, chance) for _ in range(times))
    return text


def _is_in(items: Iterable[tuple[Any, Any]], code: int) -> bool:
    held, negated = False, False
    for kind, said in items:
        match str(kind):
            case "NEGATE":
                negated = True
            case "LITERAL":
                held |= said == code
            case "RANGE":
                held |= said[0] <= code <= said[1]
            case "CATEGORY":
                held |= re.fullmatch(_CATEGORIES.get(str(said), "(?!)"), chr(code)) is not None
    return held is not negated


_CATEGORIES: Final = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
}
