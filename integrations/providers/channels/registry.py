"""The channels that there are."""

from collections.abc import Mapping

import httpx

from integrations.providers.channels.apprise import AppriseChannel
from integrations.providers.channels.channel import Channel
from integrations.providers.channels.email import EmailChannel
from integrations.providers.channels.webhook import WebhookChannel
from integrations.settings import Settings


def make(settings: Settings, http: httpx.AsyncClient) -> Mapping[str, Channel]:
    """By name. `http` is `make_sending_client`'s."""
    channels: tuple[Channel, ...] = (
        WebhookChannel(http, settings.webhook_internal),
        EmailChannel(settings.mail_server, settings.sender),
        AppriseChannel(),
    )
    return {channel.name: channel for channel in channels}
