"""Forgetting what is old: calls, credentials, webhooks, events. In bounded batches, each a transaction of its own."""

from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from activities.reconcile import Reconciled
from integrations.db import calls, credentials, outbox_retention, webhook_retention, webhook_secrets
from integrations.db.session import Sessions
from integrations.domain import retention
from integrations.domain.retention import Kept


class RetentionActivities:
    def __init__(self, sessions: Sessions, kept: Kept = Kept()) -> None:
        self._sessions = sessions
        self._kept = kept

    @activity.defn(name="reconcile.old")
    async def old(self) -> Reconciled:
        """Forget what nobody needs any more, ten thousand rows in each transaction. Safe to repeat."""
        kept = self._kept
        async with self._sessions.begin() as session:
            within = await outbox_retention.slice_of_now(session)
            secrets = await webhook_secrets.retire_ended(session)
        return Reconciled(
            calls=await self._forget(lambda session, most: calls.forget(session, kept.calls, most)),
            credentials=await self._forget(
                lambda session, most: credentials.forget_retired(session, kept.credentials, most)
            ),
            forgotten=await self._forget(
                lambda session, most: webhook_retention.forget_settled(session, kept.webhooks, most)
            )
            + await self._forget(lambda session, most: webhook_retention.forget_dead(session, kept.dead, most)),
            repeats=await self._forget(
                lambda session, most: webhook_retention.forget_repeats(session, kept.webhooks, most)
            )
            + await self._forget(lambda session, most: webhook_retention.forget_refusals(session, kept.webhooks, most)),
            secrets=secrets,
            events=await self._forget(
                lambda session, most: outbox_retention.forget(session, within, kept.events, most)
            ),
        )

    async def _forget(self, some: Callable[[AsyncSession, int], Awaitable[int]]) -> int:
        """Batch after batch, until one is not full. How many are gone."""
        forgotten, most = 0, retention.BATCH
        last = most
        while last == most:
            async with self._sessions.begin() as session:
                last = await some(session, most)
            forgotten += last
            activity.heartbeat()
        return forgotten
