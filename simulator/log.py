"""The request log: what other systems asked of this provider, told without a single secret."""

import json
import re
import time
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simulator.clock import iso
from simulator.store import Store

KEPT = 200_000
TRIM_EVERY = 1_000
"""Requests between two trims, so that a request pays for deleting its share only once in a while."""

TOKENS_IN_PATHS = re.compile(r"sim_(at|rt|ac)_[^/]*")
OWN_PAGES = ("/admin", "/break")
OWN_PATHS = frozenset({"/", "/healthz", "/favicon.ico"})


def is_own(path: str) -> bool:
    """Is this for the people who operate the simulator? Such requests are neither logged nor broken."""
    return path in OWN_PATHS or any(path == page or path.startswith(f"{page}/") for page in OWN_PAGES)


@dataclass(slots=True)
class Entry:
    """One request while it is being handled; the handlers add what they find out."""

    method: str
    path: str
    at: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)
    account_id: str | None = None
    grant_id: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    written: bool = False

    def belongs_to(self, account_id: str | None, grant_id: str | None) -> None:
        self.account_id, self.grant_id = account_id, grant_id


class RequestLog:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._until_trim = 0

    def write(self, entry: Entry, status: int | None) -> None:
        """Write a request down once; a status of None means that nobody was answered."""
        if entry.written:
            return
        entry.written = True
        duration = None if status is None else round((time.perf_counter() - entry.started) * 1000, 3)
        self._store.run(
            "INSERT INTO requests (at, method, path, status, account_id, grant_id, duration_ms, detail)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entry.at,
                entry.method,
                TOKENS_IN_PATHS.sub("***", entry.path),
                status,
                entry.account_id,
                entry.grant_id,
                duration,
                json.dumps(entry.detail),
            ),
        )
        self._trim_now_and_then()

    def _trim_now_and_then(self) -> None:
        self._until_trim -= 1
        if self._until_trim < 0:
            self._until_trim = TRIM_EVERY
            self._store.run("DELETE FROM requests WHERE seq <= (SELECT max(seq) FROM requests) - ?", (KEPT,))

    def read(self, *, since_seq: int | None = None, path: str = "", limit: int = 1_000) -> list[dict[str, Any]]:
        """Newest last. With since_seq: the oldest after it, to page forward; without: the newest there are."""
        order = "DESC" if since_seq is None else "ASC"
        rows = self._store.rows(
            f"SELECT * FROM requests WHERE seq > ? AND substr(path, 1, ?) = ? ORDER BY seq {order} LIMIT ?",  # noqa: S608 one of two words
            (since_seq or 0, len(path), path, limit),
        )
        entries = [{**dict(row), "at": iso(row["at"]), "detail": json.loads(row["detail"])} for row in rows]
        return entries[::-1] if since_seq is None else entries


class RequestLogMiddleware:
    """Writes the row before the answer leaves, so whoever has an answer finds it in the log."""

    def __init__(self, app: ASGIApp, log: RequestLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_own(scope["path"]):
            await self._app(scope, receive, send)
            return
        entry = scope["simulator.entry"] = Entry(scope["method"], scope["path"])

        async def send_logged(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._log.write(entry, message["status"])
            await send(message)

        try:
            await self._app(scope, receive, send_logged)
        except Exception:
            self._log.write(entry, 500)
            raise
        self._log.write(entry, None)


def entry_of(request: Request) -> Entry:
    entry = request.scope["simulator.entry"]
    assert isinstance(entry, Entry)
    return entry
