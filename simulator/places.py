"""Dotted places in JSON: `data.user.open_id`, or `0.tenantId` where the answer is a list."""

from typing import Annotated, Any

from pydantic import Field

Place = Annotated[str, Field(pattern=r"^[^.\s]+(\.[^.\s]+)*$", max_length=200)]


def put(body: Any, place: str, value: object) -> Any:
    """The body (None: an empty one) with a value at that place. Raises ValueError where another one is in the way."""
    step, _, rest = place.partition(".")
    if step.isdecimal() and len(step) == 1:
        body, key = [] if body is None else body, int(step)
        if isinstance(body, list):
            body += [None] * (key + 1 - len(body))
            body[key] = put(body[key], rest, value) if rest else value
            return body
    else:
        body = {} if body is None else body
        if isinstance(body, dict):
            body[step] = put(body.get(step), rest, value) if rest else value
            return body
    raise ValueError(f"{place} cannot be in one answer with what else is put there")


def put_all(body: Any, members: dict[str, Any]) -> Any:
    for place, value in members.items():
        body = put(body, place, value)
    return body
