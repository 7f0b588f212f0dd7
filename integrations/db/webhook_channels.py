"""Channels: the addresses that providers send webhooks to, each with whose deliveries come there."""

import re
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import webhook_secrets
from integrations.db.webhook_tables import WebhookChannel
from integrations.domain.errors import StopError, WrongUsageError

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,99}")
"""What needs no escaping in an address."""


def is_channel(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def read_channel(name: str) -> str:
    """A channel's name. Raises WrongUsageError for one that an address could not hold as it is."""
    if not is_channel(name):
        raise WrongUsageError(
            f"{name[:80]!r} is no channel's name: up to 100 letters, digits, dots, dashes and underscores, and the "
            "first is a letter or a digit"
        )
    return name


async def make(
    session: AsyncSession, provider_id: str, channel: str, *, connection_id: UUID | None, by: str, reason: str
) -> bool:
    """Open a channel, or open it again: of one connection, or with None of all of the provider's. False: it is open.

    Raises WrongUsageError when it is somebody else's: their deliveries would be taken for this connection's.
    """
    made = (
        insert(WebhookChannel)
        .values(provider_id=provider_id, channel=channel, connection_id=connection_id, made_by=by, reason=reason)
        .on_conflict_do_nothing()
        .returning(WebhookChannel.channel)
    )
    if await session.scalar(made) is not None:
        return True
    # Locked: whoever closes it at this moment does so before, or after it has its secret.
    known = await session.get_one(WebhookChannel, (provider_id, channel), with_for_update=True, populate_existing=True)
    if known.connection_id != connection_id:
        whose = f"of connection {known.connection_id}" if known.connection_id else "of all of its connections"
        raise WrongUsageError(f"the channel {channel} of {provider_id} is {whose}: choose another name")
    if known.closed_at is None:
        return False
    known.made_by, known.reason, known.made_at = by, reason, func.now()
    known.closed_at = known.closed_by = known.closed_reason = None
    await session.flush()
    return True


async def close(session: AsyncSession, provider_id: str, channel: str, *, by: str, reason: str) -> bool:
    """Take nothing there any more, and forget its secrets. False when it is closed already.

    Raises StopError when there never was such a channel.
    """
    known = await session.get(WebhookChannel, (provider_id, channel), with_for_update=True, populate_existing=True)
    if known is None:
        raise StopError(f"there is no channel {provider_id}/{channel} (runbook webhooks channels lists them)")
    if known.closed_at is not None:
        return False
    known.closed_at, known.closed_by, known.closed_reason = func.now(), by, reason
    await webhook_secrets.retire_all(session, provider_id, channel)
    return True


async def find(session: AsyncSession, provider_id: str, channel: str) -> WebhookChannel | None:
    return await session.get(WebhookChannel, (provider_id, channel))


async def listed(session: AsyncSession, provider_id: str | None = None) -> Sequence[WebhookChannel]:
    """Those of a provider, or all."""
    found = select(WebhookChannel).order_by(WebhookChannel.provider_id, WebhookChannel.channel)
    if provider_id is not None:
        found = found.where(WebhookChannel.provider_id == provider_id)
    return (await session.scalars(found)).all()


async def open_of(session: AsyncSession, connection_id: UUID) -> Sequence[WebhookChannel]:
    """Those that take this connection's deliveries alone."""
    mine = (WebhookChannel.connection_id == connection_id, WebhookChannel.closed_at.is_(None))
    return (await session.scalars(select(WebhookChannel).where(*mine).order_by(WebhookChannel.channel))).all()
