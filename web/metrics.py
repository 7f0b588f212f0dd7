"""What Prometheus reads of this process. No tenant, connection or channel is a label: there are too many of them."""

from enum import StrEnum
from typing import Final

from prometheus_client import Counter


class Outcome(StrEnum):
    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    GREETED = "greeted"
    """A handshake."""
    UNAVAILABLE = "unavailable"
    """The ledger could not be written: the provider was asked to send it again."""


WEBHOOKS: Final = Counter("services_webhook", "Requests of providers.", ("provider", "outcome"))
"""`services_webhook_total{provider,outcome}`"""
