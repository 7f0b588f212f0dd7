"""Self-tests of webhook channels: through the real ingress, whenever what they depend on is another than it was."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio import activity

from activities.reconcile import Reconciled
from integrations.db import webhook_secrets, webhook_selftest
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.domain.errors import RunbookError, StopError
from integrations.domain.webhook_channel import Channel
from integrations.domain.webhook_selftest import PURPOSE, mark
from integrations.observability import scrubbed
from integrations.providers.catalog import Catalog
from integrations.providers.entry import Webhook
from integrations.providers.http import make_client
from integrations.providers.webhooks.self_test import Address, Case, fingerprint, tried

_AGAIN: Final = timedelta(minutes=10)
"""After a test that failed: the web app may just have been started anew."""
_SWEEP: Final = 20.0
"""Seconds in which tests are begun. Thousands of channels may have to be tested after a new catalog."""


class SelfTest:
    """Tests a channel, and writes down what was found."""

    def __init__(self, sessions: Sessions, vault: Vault, catalog: Catalog, told: str, reached: str) -> None:
        """`told`: where providers reach the web app. `reached`: where we do. Without a slash at the end."""
        self._sessions = sessions
        self._vault = vault
        self._webhooks = {each.id: each.webhook for each in catalog if each.webhook is not None}
        self._told = told
        self._reached = reached

    def webhook(self, provider_id: str) -> Webhook | None:
        return self._webhooks.get(provider_id)

    async def run(self, found: Channel, beat: Callable[[], object] = lambda: None) -> list[Case]:
        """What came of each case; `beat` is called after each.

        Raises StopError where nothing can be tested, NotReadyError for a missing key.
        """
        provider_id, channel = found.provider, found.channel
        webhook = self._webhooks.get(provider_id)
        if webhook is None:
            raise StopError(f"the catalog says nothing of webhooks of {provider_id!r}: add it, or its file, to it")
        async with self._sessions.begin() as session:
            secrets = await webhook_secrets.live(session, self._vault, provider_id, channel)
        if not secrets:
            raise StopError(
                f"{found.name} has no live secret, so all that comes is refused: runbook connections webhook-secret"
            )
        key, path = self._vault.derived(PURPOSE), f"/webhooks/{provider_id}/{channel}"
        address = Address(told=self._told + path, reached=self._reached + path)
        async with make_client() as http:
            cases = await tried(
                http, webhook, secrets, lambda delivery_id: mark(key, provider_id, channel, delivery_id), address, beat
            )
        told = {
            "passed": all(case.passed for case in cases),
            "cases": [case.model_dump() | {"passed": case.passed} for case in cases],
        }
        async with self._sessions.begin() as session:
            await webhook_selftest.keep(session, provider_id, channel, self._of(webhook, found), told)
        return cases

    def is_due(self, found: Channel) -> bool:
        """Was it never tested as it is now, or in vain some time ago? Not where there is nothing to be tested."""
        webhook = self._webhooks.get(found.provider)
        if webhook is None or not found.secrets:
            return False
        if found.tested_hash != self._of(webhook, found):
            return True
        return not found.passed and found.tested_at is not None and datetime.now(UTC) - found.tested_at > _AGAIN

    def _of(self, webhook: Webhook, found: Channel) -> str:
        return fingerprint(webhook, found.versions, self._told)


class WebhookSelfTestActivities:
    def __init__(self, sessions: Sessions, self_test: SelfTest) -> None:
        self._sessions = sessions
        self._self_test = self_test

    @activity.defn(name="reconcile.webhook_self_tests")
    async def self_tests(self) -> Reconciled:
        """Test each channel whose section of the catalog, or whose secrets, are not those of its last test.

        No more of them once one was not answered, or after a while: the next sweep goes on, and is not kept waiting.
        """
        async with self._sessions.begin() as session:
            found = await webhook_selftest.channels(session)
        ends, tested = time.monotonic() + _SWEEP, 0
        for channel in filter(self._self_test.is_due, found):
            try:
                cases = await self._self_test.run(channel, activity.heartbeat)
            except RunbookError as error:
                activity.logger.error("webhook.not_tested", extra={"why": scrubbed(str(error))})
                continue
            tested += 1
            if time.monotonic() > ends or not all(case.answered for case in cases):
                break
        return Reconciled(self_tests=tested)
