"""What telling people takes, put together from the settings: for the worker, and for commands that only explain."""

from collections.abc import Mapping
from dataclasses import dataclass

from activities.notification_message import Composer
from integrations.db.notification_expand import Rules
from integrations.db.vault import Vault
from integrations.providers import definitions
from integrations.providers.catalog import Catalog
from integrations.providers.channels.channel import Channel
from integrations.providers.definitions import Definitions
from integrations.providers.rendering import Renderer
from integrations.settings import Settings


@dataclass(frozen=True, slots=True)
class Kit:
    definitions: Definitions
    channels: Mapping[str, Channel]
    rules: Rules
    composer: Composer


def put_together(config: Settings, vault: Vault, channels: Mapping[str, Channel], catalog: Catalog) -> Kit:
    """Raises DefinitionsError when the file of definitions is wrong."""
    told = definitions.load(config.notifications)
    quiet = config.terms.reminding.quiet
    return Kit(
        told,
        channels,
        Rules(
            about=told.about,
            unready=lambda: {name: why for name, channel in channels.items() if (why := channel.ready())},
            quiet=quiet,
        ),
        Composer(told, Renderer(told), vault, catalog.name_of, web_url=config.web_url, zone=quiet.zone),
    )
