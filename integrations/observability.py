"""Logs: structlog over the standard library, so that the SDK's own lines come out in the same shape.

Logs go to stderr: stdout belongs to a command's answer. Events are `noun.past_verb` with fields. Whatever looks like
a token in a field is cut out before it is written: the last of several nets, not the first.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

_WORD: Final = re.compile(r"[A-Za-z0-9_\-.~+/=]{24,}")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_RUN: Final = re.compile(r"[A-Za-z0-9]{20,}")
_KINDS: Final = (re.compile("[a-z]"), re.compile("[A-Z]"), re.compile("[0-9]"))
_READ_LIMIT: Final = 20_000
_TEXT_LIMIT: Final = 2000


def scrubbed(text: str) -> str:
    """Text without anything that could be a secret: query strings of URLs, and long opaque words.

    UUIDs, names in words and lower-case paths stay readable.
    """
    if len(text) > _READ_LIMIT:
        text = f"{text[: _READ_LIMIT // 2]} … {text[-_READ_LIMIT // 2 :]}"
    without_query = re.sub(r"\?[^\s\"']+=[^\s\"']*", "?…", text)
    cut = _WORD.sub(_cut, without_query)
    if len(cut) <= _TEXT_LIMIT:
        return cut
    # The end of a traceback says what went wrong, its beginning where.
    return f"{cut[: _TEXT_LIMIT // 4]} … {cut[-_TEXT_LIMIT // 2 :]}"


def _cut(word: re.Match[str]) -> str:
    plain = _UUID.sub("", word[0])
    opaque = _RUN.search(plain) or all(kind.search(plain) for kind in _KINDS)
    return f"{word[0][:4]}…" if opaque else word[0]


def _scrub(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: scrubbed(value) if isinstance(value, str) else value for key, value in event.items()}


def _flatten_temporal(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The SDK's loggers carry a dict of context: lift what a reader searches for."""
    record = event.get("_record")
    for source in ("temporal_workflow", "temporal_activity"):
        context = getattr(record, source, None)
        if isinstance(context, dict):
            event.update(
                {name: context[name] for name in ("workflow_id", "activity_type", "attempt") if name in context}
            )
    return event


def configure(*, as_json: bool = False, level: str = "INFO") -> None:
    """Set the logging of this process up. Once, at its start."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(allow=["connection_id", "why"]), _flatten_temporal],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _scrub,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Its lines at INFO hold every URL with its query.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
