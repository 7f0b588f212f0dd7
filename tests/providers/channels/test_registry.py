from integrations.domain.notification import CHANNELS
from integrations.providers.channels.client import make_transport
from integrations.providers.channels.registry import make
from integrations.settings import Settings


async def test_every_channel_there_is_has_its_class(base64_key: str) -> None:
    settings = Settings(database_url="postgresql://x@127.0.0.1/x", key=base64_key)

    async with make_transport() as transport:
        channels = make(settings, transport)

    assert set(channels) == set(CHANNELS)
    assert [name for name, channel in channels.items() if channel.name != name or channel.ready()] == ["email"]
