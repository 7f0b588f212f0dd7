"""The channels that there are."""

from collections.abc import Mapping

import httpx

from integrations.providers.channels.apprise import AppriseChannel
from integrations.providers.channels.channel import Channel
from integrations.providers.channels.email import EmailChannel
from integrations.providers.channels.webhook import WebhookChannel
from integrations.settings import Settings


def make(settings: Settings, transport: httpx.AsyncBaseTransport) -> Mapping[str, Channel]:
    """By name. `transport` is `make_transport`'s."""
    channels: tuple[Channel, ...] = (
        WebhookChannel(transport, settings.webhook_internal),
        EmailChannel(settings.mail_server, settings.sender),
        AppriseChannel(),
    )
    return {channel.name: channel for channel in channels}
