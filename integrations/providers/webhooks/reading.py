"""What a verified delivery says of itself: its id, event, account and resource, by its provider's entry."""

import json
from datetime import datetime
from hashlib import sha256

from integrations.domain.webhook import Identity, Reaction
from integrations.providers.entry import Webhook
from integrations.providers.webhooks.arrived import Arrived, Told
from integrations.providers.webhooks.place import Words, kept


def read(webhook: Webhook, arrived: Arrived, sent_at: datetime | None) -> Told:
    """Never raises, whatever the body holds: a provider may have signed anything."""
    words = Words(arrived)
    own = words.first(webhook.delivery_id)
    event = words.first(webhook.event)
    return Told(
        delivery_id=own or f"body:{sha256(arrived.body).hexdigest()}",
        identity=Identity.ID if own else Identity.DIGEST,
        event=event,
        resource=_resource(webhook, words) if webhook.reaction(event) is Reaction.EVENT else "",
        account=words.first(webhook.account),
        sent_at=sent_at,
    )


def _resource(webhook: Webhook, words: Words) -> str:
    said = [words.at(place) for place in webhook.resource]
    if not said or not all(said):
        return ""
    # As a list: no two resources are written alike, whatever their parts hold.
    return said[0] if len(said) == 1 else kept(json.dumps(said))
