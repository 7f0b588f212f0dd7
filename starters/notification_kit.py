"""What the worker sends with, for commands that explain: the same definitions, templates and channels."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from activities.notification_kit import Kit, put_together
from integrations.db import notification_matching
from integrations.db.replay_plans import Judged
from integrations.db.vault import Vault
from integrations.domain.errors import WrongUsageError
from integrations.providers import catalog, definitions
from integrations.providers.channels.channel import Channel
from integrations.providers.definitions import DefinitionsError
from integrations.settings import Settings


@asynccontextmanager
async def channels_of(config: Settings) -> AsyncIterator[Mapping[str, Channel]]:
    """As far as the settings of this command are those of the worker."""
    from integrations.providers.channels import registry
    from integrations.providers.channels.client import make_transport

    async with make_transport(config.webhook_internal) as http:
        yield registry.make(config, http)


async def unready(config: Settings) -> dict[str, str]:
    """Channels that cannot send, with what they lack."""
    async with channels_of(config) as channels:
        return {name: why for name, channel in channels.items() if (why := channel.ready())}


@asynccontextmanager
async def kit_of(config: Settings) -> AsyncIterator[Kit]:
    """Raises WrongUsageError, with every mistake, when the file of definitions is wrong."""
    known = catalog.load(config.providers, config.simulator_url)
    async with channels_of(config) as channels:
        try:
            kit = put_together(config, Vault(config.keys), channels, known)
        except DefinitionsError as error:
            raise WrongUsageError(str(error)) from None
        yield kit


def judging(config: Settings) -> Judged:
    """What would come of each dispatch, by the definitions of now. Raises WrongUsageError as `kit_of` does."""
    try:
        told = definitions.load(config.notifications)
    except DefinitionsError as error:
        raise WrongUsageError(str(error)) from None
    return lambda found: notification_matching.judged(found, told)
