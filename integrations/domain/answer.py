"""From an HTTP answer to what can be judged and kept: status, error code, time to wait, and no secret."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from integrations.domain.message import Message
from integrations.domain.verdict import Content, Heard

IN_WORDS: Final = "error_in_words"
"""Stands for an error that is no code: it could hold what must stay here."""
LONGEST_WAIT: Final = timedelta(hours=1)
"""A Retry-After beyond this is not believed: a provider that says "in a year" is asked again in an hour."""
_ERROR_CODE: Final = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_REFUSED: Final = 400
_PAGE: Final = re.compile(rb"\s*<(!doctype html|html|head|body)\b", re.IGNORECASE)


class Reading(Message):
    """Where one provider's answers hold what we look for."""

    error_at: tuple[str, ...] = ()
    """Dotted places of the error code, the best first: `error.code`, `0.errorCode`. `error` comes last by itself."""
    quota_remaining: str | None = None
    """The header that counts the calls that are left."""
    quota_reset: str | None = None
    """The header that tells, in seconds since 1970, when there will be more."""
    wait_words: tuple[str, ...] = ()
    """What a refusal says, in any case of letters, that only asks to come back."""


def hear(
    status: int, headers: Mapping[str, str], body: bytes, reading: Reading, *, now: datetime, expects_json: bool = True
) -> tuple[Heard, Any]:
    """What was heard, and the body's JSON or None. `headers` finds names in any case, as httpx.Headers do.

    A time to come back is counted from the answer's own Date, so that a provider whose clock is off is understood.
    """
    parsed, content = _parsed(body, headers.get("content-type", ""))
    now = _moment(headers.get("date")) or now
    remaining = headers.get(reading.quota_remaining) if reading.quota_remaining else None
    exhausted = remaining is not None and remaining.strip() == "0"
    wait = retry_after(headers.get("retry-after"), now)
    if wait is None and exhausted and reading.quota_reset:
        wait = _until(headers.get(reading.quota_reset), now)
    heard = Heard(
        status=status,
        error=error_code(parsed, reading.error_at) or challenge_error(headers.get("www-authenticate")),
        retry_after=wait,
        exhausted=exhausted,
        asks_to_wait=status >= _REFUSED and _says(body, reading.wait_words),
        content=content,
        expects_json=expects_json,
    )
    return heard, parsed


def error_code(body: object, places: tuple[str, ...] = ()) -> str | None:
    """The error code of a parsed body: at the first place that holds one, and `error` as the last."""
    in_words = None
    for place in (*places, "error"):
        value = value_at(body, place)
        if not value or isinstance(value, bool):
            continue
        if isinstance(value, str | int) and _ERROR_CODE.fullmatch(str(value)):
            return str(value)
        in_words = IN_WORDS
    return in_words


def challenge_error(challenge: str | None) -> str | None:
    """The `error` attribute of a Bearer challenge (RFC 6750 section 3)."""
    _, found, rest = (challenge or "").partition('error="')
    return error_code({"error": rest.partition('"')[0]}) if found else None


def value_at(body: object, place: str) -> object:
    """What lies at a dotted place of parsed JSON, a number being a list's index; None where nothing does."""
    for step in place.split("."):
        if isinstance(body, dict):
            body = body.get(step)
        elif isinstance(body, list) and step.isascii() and step.isdigit() and int(step) < len(body):
            body = body[int(step)]
        else:
            return None
    return body


def retry_after(header: str | None, now: datetime) -> timedelta | None:
    """Retry-After in either form (RFC 9110 section 10.2.3), never negative and never beyond `LONGEST_WAIT`."""
    if not header:
        return None
    if header.isascii() and header.strip().isdigit():
        return min(timedelta(seconds=int(header.strip()[:9])), LONGEST_WAIT)
    moment = _moment(header)
    return None if moment is None else _wait(moment, now)


def _says(body: bytes, words: tuple[str, ...]) -> bool:
    text = body.decode("utf-8", "replace").lower() if words else ""
    return any(word.lower() in text for word in words)


def _until(header: str | None, now: datetime) -> timedelta | None:
    if header is None or not header.isascii() or not header.strip().isdigit():
        return None
    # More digits than a date can hold: as far away as anything is believed.
    seconds = header.strip()
    return _wait(datetime.fromtimestamp(int(seconds), UTC), now) if len(seconds) <= 11 else LONGEST_WAIT  # noqa: PLR2004


def _wait(until: datetime, now: datetime) -> timedelta:
    return min(max(until - now, timedelta(0)), LONGEST_WAIT)


def _moment(header: str | None) -> datetime | None:
    """An HTTP date; None for anything else, also for one without a zone, which cannot be compared."""
    try:
        moment = parsedate_to_datetime(header or "")
    except (ValueError, OverflowError, TypeError):
        return None
    try:
        # Close to the ends of time, a zone leads out of it.
        return None if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        return None


def _parsed(body: bytes, content_type: str) -> tuple[Any, Content]:
    if not body.strip():
        return None, Content.EMPTY
    try:
        return json.loads(body), Content.JSON
    except (ValueError, RecursionError):  # no JSON, or nested deeper than any answer of an API
        is_page = content_type.partition(";")[0].strip().lower() == "text/html" or _PAGE.match(body)
        return None, Content.HTML if is_page else Content.OTHER
