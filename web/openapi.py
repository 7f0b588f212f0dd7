"""The ingress as `app.openapi()` has it: it is no route of the app, which would not know of it otherwise."""

from typing import Any, Final

from fastapi import FastAPI

from integrations.domain.webhook import Reason

_JSON: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/WebhookAnswer"}}}
_ANSWERS: Final = {
    "200": "Written down, now or before; or a handshake's answer, which is what the provider wants to read.",
    "400": f"{Reason.CUT.value}.",
    "401": "Nothing shows that the provider sent it.",
    "404": f"{Reason.UNKNOWN.value}.",
    "405": f"{Reason.METHOD.value}.",
    "413": f"{Reason.LARGE.value}.",
    "503": "Not written down: to be sent again.",
}
_PARAMETERS: Final = [
    {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": pattern}}
    for name, pattern in (
        ("provider_id", r"^[a-z0-9][a-z0-9_\-]{0,62}$"),
        ("channel", r"^[A-Za-z0-9][A-Za-z0-9._\-]{0,99}$"),
    )
]


def _operation(summary: str, **more: Any) -> dict[str, Any]:
    responses = {status: {"description": text, "content": _JSON} for status, text in _ANSWERS.items()}
    responses["200"] = {"description": _ANSWERS["200"], "content": _JSON | {"text/plain": {"schema": {}}}}
    return {"summary": summary, "parameters": _PARAMETERS, "responses": responses, **more}


_PATH: Final = {
    "post": _operation(
        "A provider's delivery, signed as its scheme says",
        requestBody={"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}},
    ),
    "get": _operation("A provider's handshake"),
}
_ANSWER: Final = {
    "type": "object",
    "properties": {"status": {"enum": ["accepted", "duplicate", "rejected", "unavailable"]}},
    "required": ["status"],
}


def document(app: FastAPI) -> None:
    """Have the app's OpenAPI tell of the ingress too."""
    of_its_own = app.openapi

    def complete() -> dict[str, Any]:
        schema = of_its_own()
        schema["paths"]["/webhooks/{provider_id}/{channel}"] = _PATH
        schema.setdefault("components", {}).setdefault("schemas", {})["WebhookAnswer"] = _ANSWER
        return schema

    # As FastAPI's documentation has it.
    app.openapi = complete  # type: ignore[method-assign]
