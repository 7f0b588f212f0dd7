"""Webhooks that fell between two commits: dispatchers that do not run, deliveries without a workflow."""

from temporalio import activity
from temporalio.client import Client

from activities.reconcile import Reconciled
from activities.reconcile_kit import each
from integrations import temporal
from integrations.db import dispatchers, notification_alert, webhook_lost
from integrations.db.session import Sessions
from integrations.db.webhook_handlers import Handling
from integrations.domain.outbox import Retrying
from integrations.domain.webhook import LEDGER, RETRYING, HandleRequest


class ReconcileWebhooksActivities:
    def __init__(self, sessions: Sessions, handling: Handling, retrying: Retrying = RETRYING) -> None:
        self._sessions = sessions
        self._handling = handling
        self._retrying = retrying

    @activity.defn(name="reconcile.webhooks")
    async def webhooks(self) -> Reconciled:
        """Start the dispatchers that do not run, and the attempts that nobody has been at for long. Safe to repeat.

        Operators are told of those that were given up.
        """
        client = activity.client()
        async with self._sessions.begin() as session:
            numbers = range(await dispatchers.wished(session, LEDGER))
        await each(numbers, lambda number: temporal.start_webhook_dispatcher(client, number))
        async with self._sessions.begin() as session:
            lost = await webhook_lost.deliveries(session, self._handling)
            holds = await webhook_lost.release_orphans(session)
            await webhook_lost.wake_swallowed(session)
        deliveries = await each(lost, lambda found: self._handle(client, found))
        async with self._sessions.begin() as session:
            alerts = int(await notification_alert.raised_of_webhooks(session))
        return Reconciled(webhook_deliveries=deliveries, holds=holds, alerts=alerts)

    async def _handle(self, client: Client, found: webhook_lost.Lost) -> None:
        # One attempt at least, whatever was used up: the last may have ended with its worker.
        request = HandleRequest(left=found.left, tried=found.attempts, retrying=self._retrying)
        await temporal.start_handling(client, request)
        async with self._sessions.begin() as session:
            await webhook_lost.started(session, found.left.id)
