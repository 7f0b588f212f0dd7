"""How a bad request is told: one sentence per field, with its name, and never with the value (it may be a secret)."""

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.responses import JSONResponse

UNTOLD = {"body", "query", "path"}
"""FastAPI's first word for where a field was; the name says enough."""


def refusal(errors: Iterable[Mapping[str, Any]] | str, status: int = 422) -> JSONResponse:
    return JSONResponse({"error": errors if isinstance(errors, str) else told(errors)}, status)


def told(errors: Iterable[Mapping[str, Any]]) -> str:
    return "; ".join(map(_told, errors))


def _told(error: Mapping[str, Any]) -> str:
    where = error["loc"]
    named = where[1:] if len(where) > 1 and where[0] in UNTOLD else where
    return f"{'.'.join(map(str, named)) or 'body'}: {error['msg'].removeprefix('Value error, ')}"
