"""What a verified delivery says of itself: its id, what it tells of whom, and since when, by its provider's entry."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from integrations.domain.webhook import GRAVEST, Identity, Notice, Reaction
from integrations.providers.entry import Webhook
from integrations.providers.webhooks.arrived import Arrived, Told
from integrations.providers.webhooks.place import Words, kept

_MOST: Final = 1000
"""Different notices of one delivery. What is cut off are the least grave."""
_MILLISECONDS: Final = 10**11
"""As seconds that is the year 5138: larger numbers count milliseconds."""


def read(webhook: Webhook, arrived: Arrived, sent_at: datetime | None) -> Told:
    """Never raises, whatever the body holds: a provider may have signed anything."""
    words = Words(arrived)
    items = words.items(webhook.each)
    own = _own_id(webhook, items)
    found = dict.fromkeys(_notice(webhook, item) for item in items)
    notices = sorted(found, key=lambda notice: GRAVEST.index(notice.reaction))[:_MOST]
    first, alone = notices[0], len(notices) == 1
    return Told(
        delivery_id=own or f"body:{sha256(arrived.body).hexdigest()}",
        identity=Identity.ID if own else Identity.DIGEST,
        event=first.event,
        resource=_resource(webhook, words) if alone and first.reaction is Reaction.EVENT else "",
        account=first.account,
        sent_at=sent_at,
        reaction=first.reaction,
        notices=() if alone else tuple(notices),
        occurred_at=min(filter(None, (_moment(item.first(webhook.occurred)) for item in items)), default=None),
    )


def _own_id(webhook: Webhook, items: Sequence[Words]) -> str:
    """Of several notifications all ids together: the same ones in another delivery are another one."""
    for place in webhook.delivery_id:
        said = [item.at(place) for item in (items if "item:" in place else items[:1])]
        if all(said):
            return said[0] if len(said) == 1 else kept(json.dumps(said))
    return ""


def _notice(webhook: Webhook, item: Words) -> Notice:
    event = item.first(webhook.event)
    return Notice(webhook.reaction(event), event, item.first(webhook.accounts.get(event, webhook.account)))


def _resource(webhook: Webhook, words: Words) -> str:
    said = [words.at(place) for place in webhook.resource]
    if not said or not all(said):
        return ""
    # As a list: no two resources are written alike, whatever their parts hold.
    return said[0] if len(said) == 1 else kept(json.dumps(said))


def _moment(told: str) -> datetime | None:
    """None for what is no time, or one without an offset."""
    try:
        if told.isascii() and told.isdigit():
            number = int(told)
            return datetime.fromtimestamp(number / 1000 if number >= _MILLISECONDS else number, UTC)
        found = datetime.fromisoformat(told)
        return found.astimezone(UTC) if found.tzinfo else None
    except (ValueError, OverflowError, OSError):
        return None
