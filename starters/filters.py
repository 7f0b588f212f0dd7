"""FILTERS: the options that say which items of a ledger are meant, the same for every ledger, and some of its own."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import typer

from integrations.domain.connection import owner_of
from integrations.domain.errors import WrongUsageError
from integrations.domain.filters import Filters
from integrations.domain.ledger import ItemStatus
from integrations.domain.nearest import nearest
from integrations.domain.notification import CHANNELS
from starters.shell import past

_Option = inspect.Parameter
_SHARED: Final[dict[str, tuple[Any, Any]]] = {
    "status": (
        Annotated[list[str], typer.Option(help="dead, retrying, held or delivered. Repeat it for more.")],
        [],
    ),
    "since": (Annotated[str, typer.Option(help="Occurred then or later: a time, or how long ago, as 2h.")], ""),
    "until": (Annotated[str, typer.Option(help="Occurred before: a time, or how long ago, as 30m.")], ""),
    "event_type": (Annotated[str, typer.Option(help="The event's name; * stands for anything.")], ""),
    "provider": (Annotated[str, typer.Option(help="A provider's id.")], ""),
    "connection": (Annotated[UUID | None, typer.Option(help="A connection's id.")], None),
    "tenant": (Annotated[str, typer.Option(help="user:ID or org:ID.")], ""),
    "cause": (Annotated[str, typer.Option(help="How the cause begins, or its fingerprint.")], ""),
}
_OWN: Final[dict[str, tuple[Any, Any]]] = {
    "projector": (Annotated[str, typer.Option(help="The projector.")], ""),
    "channel": (Annotated[str, typer.Option(help=f"One of {', '.join(CHANNELS)}.")], ""),
    "definition": (Annotated[str, typer.Option(help="A definition's id.")], ""),
    "recipient": (Annotated[str, typer.Option(help="As org:acme/ada, or operators.primary.")], ""),
}
"""Those that only some ledgers have."""
_LIMIT: Final = {"limit": (Annotated[int | None, typer.Option(help="Of the oldest, so many.")], None)}


def filtered(*own: str) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., Awaitable[None]]]:
    """Give a command the options of FILTERS in the place of its parameter `filters`: None when none was given.

    `own`: which of those that only some ledgers have.
    """
    options = _SHARED | {name: _OWN[name] for name in own} | _LIMIT

    def with_options(run: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        @functools.wraps(run)
        def wrapped(**given: Any) -> Awaitable[None]:
            words = {name: given.pop(name) for name in options}
            some = any(words[name] != default for name, (_, default) in options.items())
            return run(**given, filters=filters_of(**words) if some else None)

        kept = [each for each in inspect.signature(run).parameters.values() if each.name != "filters"]
        added = [
            _Option(name, _Option.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in options.items()
        ]
        told = [*(each.replace(kind=_Option.KEYWORD_ONLY) for each in kept), *added]
        # What Typer reads, and what it hands on to whatever wraps this once more.
        wrapped.__dict__["__signature__"] = inspect.Signature(told)
        wrapped.__annotations__ = {each.name: each.annotation for each in told}
        return wrapped

    return with_options


def filters_of(
    *, status: Sequence[str] = (), since: str = "", until: str = "", tenant: str = "", channel: str = "", **others: Any
) -> Filters:
    """What the options mean. Raises WrongUsageError for what cannot be meant."""
    if tenant:
        owner_of(tenant)
    if channel and channel not in CHANNELS:
        raise WrongUsageError(f"{channel[:40]!r} is no channel{nearest(channel, CHANNELS)}")
    filters = Filters(
        statuses=tuple(dict.fromkeys(_status(word) for word in status or ["dead"])),
        since=_time(since),
        until=_time(until),
        tenant=tenant or None,
        channel=channel or None,
        **{name: None if value == "" else value for name, value in others.items()},
    )
    filters.check()
    return filters


def _status(word: str) -> ItemStatus:
    try:
        return ItemStatus(word)
    except ValueError:
        raise WrongUsageError(f"{word[:40]!r} is no status: dead, retrying, held or delivered") from None


def _time(text: str) -> datetime | None:
    return past(text) if text else None
