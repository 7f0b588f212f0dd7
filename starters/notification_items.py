"""Dispatches in a plan: whom each is for, and what their recipient would read now that differs from what was kept."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import select

from integrations.db import notification_claims as claims
from integrations.db.notification_claims import Claimed
from integrations.db.notification_tables import NotificationDispatch
from starters.notification_kit import kit_of
from starters.reach import Reach

_PARTS: Final = ("subject", "text")


class Told(NamedTuple):
    """An item of a plan for people."""

    what: str
    changes: list[str]


async def told(reach: Reach, ids: Sequence[UUID]) -> Mapping[UUID, Told]:
    """By id. Those whose row is gone are missing."""
    kept = select(NotificationDispatch.id, NotificationDispatch.rendered).where(NotificationDispatch.id.in_(ids))
    async with kit_of(reach.settings) as kit, reach.sessions.begin() as session:
        before = {row.id: row.rendered for row in await session.execute(kept)}
        return {
            item.id: Told(_what(item), list(_changes(before.get(item.id), kit.composer.kept(item)[0])))
            for item in await claims.seen(session, ids)
        }


def _what(item: Claimed) -> str:
    return f"{item.definition} to {item.recipient or 'nobody'}: {item.news.name} {item.news.event_id}"


def _changes(before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> Iterator[str]:
    """Nothing where the same would be sent to the same address."""
    if before is None:
        return
    if now is None:
        yield "it cannot be rendered any more"
        return
    if before.get("to") != now["to"]:
        yield f"address  {before.get('to') or 'none'} → {now['to'] or 'none'}"
    for part in _PARTS:
        lines = difflib.unified_diff(str(before.get(part, "")).splitlines(), now[part].splitlines(), n=0, lineterm="")
        changed = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
        if changed:
            yield f"{part}:"
            yield from (f"  {line[0]} {line[1:]}" for line in changed)
