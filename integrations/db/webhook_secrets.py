"""What webhooks are signed with: for each channel a secret, and beside it the one before while that is still used."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Row, Select, String, and_, func, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.session import Executor
from integrations.db.vault import Vault, webhook_place
from integrations.db.webhook_tables import WebhookChannel, WebhookSecret
from integrations.domain.errors import WrongUsageError


@dataclass(frozen=True, slots=True)
class OpenChannel:
    """A channel as a request meets it."""

    connection_id: UUID | None
    secrets: tuple[bytes, ...]
    """Every live one, the newest first. None: whatever comes is refused."""


async def add(
    session: AsyncSession,
    vault: Vault,
    provider_id: str,
    channel: str,
    secret: bytes,
    *,
    overlap: timedelta,
    by: str,
    reason: str,
) -> int:
    """Accept a secret from now on; those before it end with the overlap. Its version. Safe to repeat.

    `secret` is as the provider shows it, a prefix included: its scheme's verifier decodes it. Raises WrongUsageError
    when there is no such channel.
    """
    await _lock(session, provider_id, channel)
    newest = select(WebhookSecret).where(*_is(provider_id, channel)).order_by(WebhookSecret.version.desc()).limit(1)
    before = await session.scalar(newest)
    if before is not None and before.sealed is not None and before.state == "live":
        place = webhook_place(provider_id, channel, before.version)
        if vault.open(before.sealed, before.key_id, place) == secret:
            return before.version
    ends = func.now() + overlap
    await session.execute(
        update(WebhookSecret)
        .where(*_is(provider_id, channel), WebhookSecret.state == "live")
        # One that ends sooner than that is not given more time.
        .values(ends_at=func.least(func.coalesce(WebhookSecret.ends_at, ends), ends))
    )
    version = 1 if before is None else before.version + 1
    row = WebhookSecret(
        provider_id=provider_id,
        channel=channel,
        version=version,
        sealed=vault.seal(secret, webhook_place(provider_id, channel, version)),
        key_id=vault.key_id,
        made_by=by,
        reason=reason,
    )
    session.add(row)
    await session.flush()
    return version


async def live(session: AsyncSession, vault: Vault, provider_id: str, channel: str) -> tuple[bytes, ...]:
    """Every secret that is accepted now, the newest first. Raises NotReadyError when one does not open."""
    known = await find(session, vault, provider_id, channel)
    return () if known is None else known.secrets


async def find(session: AsyncSession, vault: Vault, provider_id: str, channel: str) -> OpenChannel | None:
    """A channel with its live secrets. Raises NotReadyError, which names the secret, when one does not open."""
    key = (provider_id, channel)
    found = await of_these(session, [key])
    return opened(vault, found[key]) if key in found else None


async def of_these(session: AsyncSession, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], list[Row[Any]]]:
    """By provider and channel, for each of these that there is what `opened` makes one of."""
    wanted = (
        func.unnest(
            literal([provider_id for provider_id, _ in keys], ARRAY(String)),
            literal([channel for _, channel in keys], ARRAY(String)),
        )
        .table_valued("provider_id", "channel", name="wanted")
        .render_derived()
    )
    mine = and_(WebhookChannel.provider_id == wanted.c.provider_id, WebhookChannel.channel == wanted.c.channel)
    channels: dict[tuple[str, str], list[Row[Any]]] = {}
    for row in await session.execute(_found().join(wanted, mine)):
        channels.setdefault((row.provider_id, row.channel), []).append(row)
    return channels


def opened(vault: Vault, rows: Sequence[Row[Any]]) -> OpenChannel:
    """A channel of its rows. Raises NotReadyError, which names the secret, when one does not open."""
    secrets = tuple(
        vault.open(row.sealed, row.key_id, webhook_place(row.provider_id, row.channel, row.version))
        for row in rows
        if row.sealed is not None
    )
    return OpenChannel(rows[0].connection_id, secrets)


def _found() -> Select[*tuple[Any, ...]]:
    """A row for each live secret of a channel, the newest first, and one for a channel without any."""
    wanted = and_(
        WebhookSecret.provider_id == WebhookChannel.provider_id,
        WebhookSecret.channel == WebhookChannel.channel,
        _accepted(),
    )
    return (
        select(
            WebhookChannel.provider_id,
            WebhookChannel.channel,
            WebhookChannel.connection_id,
            WebhookSecret.version,
            WebhookSecret.sealed,
            WebhookSecret.key_id,
        )
        .outerjoin(WebhookSecret, wanted)
        .where(WebhookChannel.closed_at.is_(None))
        .order_by(WebhookSecret.version.desc())
    )


async def retire(session: AsyncSession, provider_id: str, channel: str) -> int:
    """Forget all but the newest now, whatever is left of their overlap. How many."""
    await _lock(session, provider_id, channel)
    newest = select(func.max(WebhookSecret.version)).where(*_is(provider_id, channel)).scalar_subquery()
    return await _forget(session, *_is(provider_id, channel), WebhookSecret.version < newest)


async def retire_all(session: AsyncSession, provider_id: str, channel: str) -> int:
    """Forget the newest as well: of a channel that the caller has locked. How many."""
    return await _forget(session, *_is(provider_id, channel))


async def retire_ended(run: Executor) -> int:
    """Forget those whose overlap is over: `live` has them no more. How many."""
    return await _forget(run, WebhookSecret.ends_at <= func.now())


async def _forget(run: Executor, *which: ColumnElement[bool]) -> int:
    gone = (
        update(WebhookSecret)
        .where(*which, WebhookSecret.state == "live")
        .values(state="retired", sealed=None, ends_at=func.least(WebhookSecret.ends_at, func.now()))
        .returning(WebhookSecret.id)
    )
    return len((await run.execute(gone)).all())


async def _lock(session: AsyncSession, provider_id: str, channel: str) -> None:
    """Two who change a channel's secrets come one after the other: versions are counted, and the newest is one."""
    where = (
        WebhookChannel.provider_id == provider_id,
        WebhookChannel.channel == channel,
        WebhookChannel.closed_at.is_(None),
    )
    if await session.scalar(select(WebhookChannel.channel).where(*where).with_for_update()) is None:
        raise WrongUsageError(
            f"{provider_id} has no channel {channel!r}: `runbook connections webhook-secret` makes one"
        )


def _is(provider_id: str, channel: str) -> tuple[ColumnElement[bool], ...]:
    return WebhookSecret.provider_id == provider_id, WebhookSecret.channel == channel


def _accepted() -> ColumnElement[bool]:
    return and_(WebhookSecret.state == "live", or_(WebhookSecret.ends_at.is_(None), WebhookSecret.ends_at > func.now()))
