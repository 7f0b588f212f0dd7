"""What a channel is: it carries one message to one address, and says what came of it.

Another channel is one class beside these and one line in `registry.py`.
"""

from datetime import timedelta
from typing import Final, Protocol

from integrations.domain.notification import Answer, Outgoing

TIMEOUT: Final = timedelta(seconds=10)
"""For one sending in all. A claim's lease is longer, so that nobody else sends what is still on its way."""


class Channel(Protocol):
    name: str
    """As in `domain.notification.CHANNELS`."""

    def ready(self) -> str:
        """Nothing when it can send, else what is missing and how it is given."""

    def check(self, address: str) -> str:
        """The address as it is kept. Raises ValueError with what is wrong and how it is written."""

    def origin(self, address: str) -> str:
        """What fails as a whole with it, as a server. Of a checked address; never a secret."""

    def masked(self, address: str) -> str:
        """The address for people: enough to know it again."""

    async def send(self, outgoing: Outgoing) -> Answer:
        """Never raises for what the network or the other side does."""
