"""What a token endpoint's answer brings: tokens, what they are good for, and how long (RFC 6749 section 5.1)."""

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeGuard

from pydantic import Field, SecretStr

from integrations.domain.answer import value_at
from integrations.domain.message import Message
from integrations.providers.entry import Provider

_TOKEN: Final = re.compile(r"[\x20-\x7e]+")
_LONGEST: Final = 10 * 365 * 24 * 3600
"""Ten years in seconds: a larger expires_in means "never", and would overflow a date."""


class Granted(Message):
    """What the token endpoint gave. `repr` shows no token."""

    access_token: SecretStr
    refresh_token: SecretStr | None
    grants: tuple[str, ...] | None
    """None: the answer named no scope, which means those that were asked for (RFC 6749 section 5.1)."""
    expires_at: datetime | None
    values: dict[str, str] = Field(default_factory=dict)
    """What completes the provider's addresses, as far as this answer tells it."""


def granted_by(provider: Provider, body: Any) -> Granted | None:
    """None when there is no access token in it."""
    if not isinstance(body, dict) or not _is_token(body.get("access_token")):
        return None
    refresh = body.get("refresh_token")
    lasts = _lasts(body.get("expires_in")) or provider.assumed_life
    return Granted(
        access_token=SecretStr(body["access_token"]),
        refresh_token=SecretStr(refresh) if _is_token(refresh) else None,
        grants=_granted(provider, value_at(body, provider.granted_field)),
        expires_at=datetime.now(UTC) + lasts if lasts is not None else None,
        values=provider.values_of("token", body),
    )


def _granted(provider: Provider, told: object) -> tuple[str, ...] | None:
    if isinstance(told, str):
        told = told.replace(provider.granted_separator or provider.scope_separator, " ").split()
    # An empty text is no scope (RFC 6749 section 3.3 wants one at least): some send it whatever was granted.
    if not isinstance(told, list) or not told:
        return None
    named = [str(scope) for scope in told]
    return (*named, *sorted(provider.with_implied(named) - frozenset(named)))


def storable(text: str) -> str:
    """Text without what Postgres cannot hold: NUL, and halves of surrogate pairs."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def _lasts(seconds: object) -> timedelta | None:
    """Seconds, which some providers send as text (Microsoft's first version did)."""
    if isinstance(seconds, str) and re.fullmatch(r"[0-9]{1,15}", seconds):
        seconds = int(seconds)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds) or seconds < 0:
        return None
    return timedelta(seconds=min(seconds, _LONGEST))


def _is_token(value: object) -> TypeGuard[str]:
    """RFC 6749 appendix A.12 and A.17: visible ASCII. Anything else could not go into a header."""
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None
