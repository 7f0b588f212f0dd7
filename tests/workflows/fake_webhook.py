"""Scripted steps of webhook deliveries."""

from collections.abc import Iterable

from temporalio import activity

from activities.reconcile import Reconciled
from activities.reconcile_webhooks import ReconcileWebhooksActivities
from activities.webhook import WebhookActivities
from activities.webhook_selftest import WebhookSelfTestActivities
from integrations.domain.outbox import DispatchRequest, Drained
from integrations.domain.webhook import Handled, HandleStep


class FakeWebhook(WebhookActivities):
    """Drains and attempts from a script. A drain without one ends the dispatcher, an attempt without one delivers."""

    def __init__(
        self, drains: Iterable[Drained | Exception] = (), attempts: Iterable[Exception | Handled] = ()
    ) -> None:
        self._drains, self._attempts = list(drains), list(attempts)
        self.drained, self.tried, self.buried = 0, 0, 0
        self.woken = set[int]()
        """What its steps said of it."""
        self.alone = set[bool]()
        """Whether they were to be tried alone."""

    @activity.defn(name="webhook.drain")
    async def drain(self, request: DispatchRequest) -> Drained:
        self.drained += 1
        answer = self._drains.pop(0) if self._drains else Drained(dispatchers=0, items=0, why="there are none to be")
        if isinstance(answer, Exception):
            raise answer
        return answer

    @activity.defn(name="webhook.deliver")
    async def deliver(self, step: HandleStep) -> Handled:
        self.tried += 1
        self.woken.add(step.woken)
        self.alone.add(step.alone)
        answer = self._attempts.pop(0) if self._attempts else None
        if isinstance(answer, Exception):
            raise answer
        return answer or Handled(status="delivered", attempts=step.tried + activity.info().attempt, handled_as="event")

    @activity.defn(name="webhook.bury")
    async def bury(self, step: HandleStep) -> Handled:
        self.buried += 1
        self.woken.add(step.woken)
        return Handled(status="dead", attempts=step.tried, cause="it is refused")


class FakeReconcileWebhooks(ReconcileWebhooksActivities):
    def __init__(self) -> None:
        pass

    @activity.defn(name="reconcile.webhooks")
    async def webhooks(self) -> Reconciled:
        return Reconciled(webhook_deliveries=5, holds=1)


class FakeSelfTests(WebhookSelfTestActivities):
    def __init__(self) -> None:
        pass

    @activity.defn(name="reconcile.webhook_self_tests")
    async def self_tests(self) -> Reconciled:
        return Reconciled(self_tests=6)
