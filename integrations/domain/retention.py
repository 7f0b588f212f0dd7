"""How long what is settled is kept. What waits for somebody is kept for longer, or for as long as it waits."""

from datetime import timedelta
from typing import Final

from integrations.domain.call import KEPT as CALLS
from integrations.domain.message import Message
from integrations.domain.refresh import RETIRED_KEPT
from integrations.domain.webhook import KEPT as WEBHOOKS

BATCH: Final = 10_000
"""Rows that are forgotten in one transaction."""


class Kept(Message):
    calls: timedelta = CALLS
    credentials: timedelta = RETIRED_KEPT
    """After they retired."""
    webhooks: timedelta = WEBHOOKS
    """Deliveries that are settled, repeats and refusals. Within it a repeat is known as one."""
    dead: timedelta = timedelta(days=90)
    """Deliveries that were given up, after they last failed: they wait for a person."""
    events: timedelta = timedelta(days=30)
    """Events that are delivered everywhere, with their ledger rows and messages. What people read of them stays."""
