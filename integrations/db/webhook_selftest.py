"""What the last self-test of each channel found, and of what."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.webhook_tables import WebhookChannel
from integrations.domain.message import Message

_ACCEPTED: Final = "secret.state = 'live' AND (secret.ends_at IS NULL OR secret.ends_at > now())"
_CHANNELS: Final = text(f"""
SELECT provider_id AS provider, channel, connection_id, made_at, tested_hash, tested_at, tested, coalesce((
    SELECT jsonb_agg(jsonb_build_object('version', version, 'made_at', made_at, 'ends_at', ends_at)
      ORDER BY version DESC)
    FROM service_webhook_secrets AS secret
    WHERE secret.provider_id = known.provider_id AND secret.channel = known.channel AND {_ACCEPTED}), '[]') AS secrets
FROM service_webhook_channels AS known ORDER BY provider_id, channel
""")  # noqa: S608 - ours


class Secret(Message):
    """One that is accepted. Nothing of what it is."""

    version: int
    made_at: datetime
    ends_at: datetime | None
    """Of one that was replaced."""


class Channel(Message):
    provider: str
    channel: str
    connection_id: UUID | None
    made_at: datetime
    secrets: list[Secret]
    """The live ones, the newest first."""
    tested_hash: str | None
    tested_at: datetime | None
    tested: dict[str, Any] | None

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.channel}"

    @property
    def versions(self) -> list[int]:
        return [secret.version for secret in self.secrets]

    @property
    def passed(self) -> bool:
        return bool(self.tested and self.tested.get("passed"))

    @property
    def failures(self) -> list[str]:
        """What the last self-test found wrong."""
        cases = self.tested["cases"] if self.tested else []
        return [f"{case['name']}: {case['got']}, and not {case['expected']}" for case in cases if not case["passed"]]


async def channels(session: AsyncSession) -> list[Channel]:
    return [Channel(**row) for row in (await session.execute(_CHANNELS)).mappings()]


async def keep(session: AsyncSession, provider_id: str, channel: str, of: str, found: Mapping[str, Any]) -> None:
    """Write down what a self-test found. `of`: the fingerprint of what it was made with."""
    await session.execute(
        update(WebhookChannel)
        .where(WebhookChannel.provider_id == provider_id, WebhookChannel.channel == channel)
        .values(tested_hash=of, tested_at=func.now(), tested=dict(found))
    )
