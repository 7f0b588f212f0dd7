"""What is said of a wrong file of ours: the key, what is wrong with it, and the nearest right one."""

import re
from collections.abc import Iterator
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from integrations.domain.errors import StopError
from integrations.domain.nearest import nearest

_SHAPES: Final = {
    "url": '"https://..."',
    "call": '{ method = "GET", url = "https://..." }',
    "probe": '{ method = "GET", url = "https://..." }, a call without an effect that proves the capability',
    "identity": '{ url = "https://...", field = "id" }',
    "access": '"read" or "write"',
    "events": '["reauth.invited"]',
    "audience": '"owner", "operators.primary" or "list.NAME"',
    "channels": '["email", "webhook"]',
    "for": '"3d"',
    "subject": '"{{ provider }} works again"',
    "capabilities": 'a table [providers.ID.capabilities."NAME"] for each thing that a connection can do',
}
"""What a missing key looks like, by the last word of its name."""


class CatalogError(StopError):
    """A catalog file is wrong. The message names the file, each wrong key and the nearest right one."""


def mistakes(error: ValidationError, model: type[BaseModel], prefix: tuple[str, ...]) -> list[str]:
    """A line for each mistake. A key that is missing because it is misspelt is told once, as the misspelt one."""
    found = error.errors(include_url=False)
    unknown = [each for each in found if each["type"] == "extra_forbidden"]
    hints = {tuple(each["loc"]): nearest(str(each["loc"][-1]), _fields_at(model, each["loc"])) for each in unknown}
    meant = {(*place[:-1], hint.split("'")[1]) for place, hint in hints.items() if "did you mean" in hint}
    return [
        f"{_place(prefix, each['loc'])}: {_said(each, hints)}"
        for each in found
        if not (each["type"] == "missing" and tuple(each["loc"]) in meant)
    ]


def _said(mistake: ErrorDetails, hints: dict[tuple[int | str, ...], str]) -> str:
    if mistake["type"] == "extra_forbidden":
        return f"unknown key{hints[tuple(mistake['loc'])]}"
    if mistake["type"] == "missing":
        name = str(mistake["loc"][-1])
        shape = _SHAPES.get(name.rpartition("_")[2])
        return f"is missing; it looks like {name} = {shape}" if shape else "is missing"
    if mistake["type"] in {"literal_error", "enum"}:
        allowed = re.findall(r"'([^']+)'", str(mistake["ctx"]["expected"]))
        return f"{mistake['input']!r} is not known{nearest(str(mistake['input']), allowed)}"
    return mistake["msg"].removeprefix("Value error, ")


def _place(prefix: tuple[str, ...], location: tuple[int | str, ...]) -> str:
    parts = [str(part) for part in (*prefix, *location) if part != "[key]"]
    return ".".join(f'"{part}"' if "." in part else part for part in parts)


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the model at this place knows."""
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = next(_models(field.annotation), model)
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
