"""What the last self-test of each channel found, and of what."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import func, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.webhook_tables import WebhookChannel
from integrations.domain.webhook_channel import Channel

_SECRETS: Final = """
coalesce((
    SELECT jsonb_agg(jsonb_build_object('version', version, 'made_at', made_at, 'ends_at', ends_at)
      ORDER BY version DESC)
    FROM service_webhook_secrets AS secret
    WHERE secret.provider_id = known.provider_id AND secret.channel = known.channel AND secret.state = 'live'
      AND {which}), '[]')
"""
_CHANNELS: Final = text(f"""
SELECT provider_id AS provider, channel, connection_id, made_at, tested_hash, tested_at, tested,
  coalesce((SELECT status = 'disconnected' FROM service_connections WHERE id = connection_id), false) AS orphaned,
  {_SECRETS.format(which="(secret.ends_at IS NULL OR secret.ends_at > now())")} AS secrets,
  {_SECRETS.format(which="secret.ends_at <= now()")} AS overdue
FROM service_webhook_channels AS known WHERE closed_at IS NULL ORDER BY provider_id, channel
""")  # noqa: S608 - ours


async def channels(session: AsyncSession) -> list[Channel]:
    """Those that are open."""
    return [Channel(**row) for row in (await session.execute(_CHANNELS)).mappings()]


async def keep(session: AsyncSession, provider_id: str, channel: str, of: str, found: Mapping[str, Any]) -> None:
    """Write down what a self-test found. `of`: the fingerprint of what it was made with."""
    await session.execute(
        update(WebhookChannel)
        .where(WebhookChannel.provider_id == provider_id, WebhookChannel.channel == channel)
        .values(tested_hash=of, tested_at=func.now(), tested=dict(found))
    )
