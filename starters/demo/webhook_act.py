"""The provider sends webhooks: twice, in any order, in bursts, forged ones too, and one that tells a revocation."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final
from uuid import UUID

from integrations import temporal
from integrations.db import replay_plans
from integrations.domain.filters import Filters
from integrations.domain.replay import ReplayRequest
from starters.demo import webhook_evidence as evidence
from starters.demo.check import Name
from starters.demo.connections import count
from starters.demo.evidence import rows
from starters.demo.minted import connect
from starters.demo.scene import BY, Scene, StoryError, outcome_of, until
from starters.demo.terminal import runbook

_CONNECTIONS: Final = 3
_DISTINCT: Final = 280
_AGAIN: Final = 84
"""Of these: three in ten."""
_STORM: Final = 100
"""How often one more comes at once."""
_BURST: Final = 100
_POISONED: Final = 3
"""Fewer in a row than make the handler itself suspect, and more than a replay's first stage."""
_REASON: Final = "the constraint is dropped"


class WebhooksTwice:
    """The act, step by step."""

    proves: ClassVar[tuple[Name, ...]] = (
        Name.WEBHOOKS_ONCE,
        Name.REVOCATION_TOLD,
        Name.BURST_COALESCED,
        Name.WEBHOOKS_REPLAYED,
    )

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._sessions = scene.sessions
        self._simulator = scene.simulator
        self._tell = scene.tell

    async def play(self) -> None:
        """Play it to its end. Raises StoryError where it gets stuck; the checks so far are kept."""
        accounts = await connect(self._scene, _CONNECTIONS, "acme", due_in=timedelta(days=1))
        self._first, self._gone, self._other = accounts.items()
        await self._open()
        await self._twice()
        await self._revoked()
        await self._burst()
        await self._given_up()
        await self._replayed()

    async def _open(self) -> None:
        """One address for all connections, as an app has it at its provider."""
        words = ("connections", "webhook-secret", str(self._first[0]), "--channel", "app", "--generate")
        code, printed = await runbook(self._scene.stack, *words, "--by", BY, "--json")
        if code:
            raise StoryError(f"runbook {' '.join(words[:2])} ended with {code}")
        made = json.loads(printed)
        self._scene.secrets.append(made["secret"])
        await self._simulator.subscribe(made["address"], made["secret"])
        self._tell(f"the provider is told where to send webhooks: {made['address']}")

    async def _twice(self) -> None:
        account = {"account_id": self._first[1]}
        first = await self._simulator.send(evidence.ADDED, count=_DISTINCT, data=account, shuffled=True)
        ids = first["webhook_ids"]
        await self._simulator.send(evidence.ADDED, webhook_ids=ids[-_AGAIN:], data=account, shuffled=True)
        await self._simulator.send(evidence.ADDED, copies=_STORM, data=account, senders=32)
        for how in ("tampered", "stale", "unsigned"):
            await self._simulator.send(evidence.FORGED, how=how, data=account)
        self._tell(
            f"it sends {_DISTINCT} deliveries, {_AGAIN} of them twice, one more {_STORM} times at once, and three that "
            "are tampered with, stale or not signed"
        )
        await until("each is handled", self._are(evidence.ADDED, _DISTINCT + 1, "delivered"))
        await until("what was refused is counted", self._refused)
        if self._broken(Name.WEBHOOKS_ONCE):
            sql = "DELETE FROM service_webhook_repeats WHERE id = (SELECT min(id) FROM service_webhook_repeats)"
            await rows(self._sessions, f"{sql} RETURNING 1 AS n")
        self._scene.checks.append(await evidence.webhooks_once(self._scene, _DISTINCT + 1, _AGAIN + _STORM - 1))

    async def _revoked(self) -> None:
        connection_id, account = self._gone
        self._scene.workflows["re-consent after a webhook"] = f"reauth:simulator:{connection_id}"
        await self._simulator.settings(tell_revocations=True)
        at = datetime.now(UTC)
        await self._simulator.revoke(account)
        self._tell("a grant is revoked at the provider, and this time it tells the platform")
        await until("the connection is pending_reauth", self._is_pending(connection_id))
        took = (datetime.now(UTC) - at).total_seconds()
        self._tell(f"blocked, and its owner is invited, after {took:.1f} s; no refresh was needed to find it out")
        await self._simulator.settings(tell_revocations=False)
        if self._broken(Name.REVOCATION_TOLD):
            sql = "UPDATE service_connections SET status = 'active' WHERE id = :id RETURNING 1 AS n"
            await rows(self._sessions, sql, id=connection_id)
        self._scene.checks.append(await evidence.revocation_told(self._scene, connection_id, account, at))

    async def _burst(self) -> None:
        data = {"account_id": self._first[1], "resource": "notes/7"}
        await self._simulator.send(evidence.CHANGED, count=_BURST, data=data, senders=1)
        self._tell(f"one note changes {_BURST} times, and the provider tells of each change")
        await until("the burst is over", self._are(evidence.CHANGED, _BURST, "delivered", "coalesced"))
        if self._broken(Name.BURST_COALESCED):
            sql = """DELETE FROM service_lifecycle_outbox
              WHERE name = 'webhook.received' AND payload ->> 'event' = :kind RETURNING 1 AS n"""
            await rows(self._sessions, sql, kind=evidence.CHANGED)
        check, handled = await evidence.burst_coalesced(self._scene, _BURST)
        times = "once" if handled == 1 else f"{handled} times"
        self._tell(f"handled {times}, the last change too; each of the others names the one it was folded into")
        self._scene.checks.append(check)

    async def _given_up(self) -> None:
        await self._alter(
            f"ADD CONSTRAINT no_imports CHECK (payload ->> 'event' IS DISTINCT FROM '{evidence.IMPORTED}') NOT VALID"
        )
        self._tell(f"a constraint is added by mistake: no event may speak of {evidence.IMPORTED}")
        await self._simulator.send(evidence.IMPORTED, count=_POISONED, data={"account_id": self._other[1]})
        await until("they have left the flow", self._are(evidence.IMPORTED, _POISONED, "retrying", "dead"))
        [first, *_] = await evidence.deliveries(self._sessions, evidence.IMPORTED)
        self._scene.workflows["a webhook that cannot be handled"] = f"webhook:simulator:{first['id']}"
        await until("they are given up", self._are(evidence.IMPORTED, _POISONED, "dead"))
        attempts = self._scene.stack.settings.webhook_attempts
        self._tell(f"{_POISONED} deliveries are dead after {attempts} attempts each")

    async def _replayed(self) -> None:
        if not self._broken(Name.WEBHOOKS_REPLAYED):
            await self._alter("DROP CONSTRAINT no_imports")
            self._tell("the constraint is dropped")
        [dead, *_] = await evidence.deliveries(self._sessions, evidence.IMPORTED)
        async with self._sessions.begin() as session:
            plan = await replay_plans.make(
                session, "webhooks", Filters(cause=dead["fingerprint"]), by=BY, reason=_REASON
            )
        self._tell(f"a plan is made of what died of that cause: {plan.count} deliveries")
        request = ReplayRequest(plan_id=plan.plan_id, ledger="webhooks", by=BY, reason=_REASON)
        handle = await temporal.start_replay(self._scene.platform.temporal, request)
        self._scene.workflows["the replay of webhooks"] = handle.id
        self._tell(f"replayed, one of them first and alone; {await outcome_of(handle)}")
        attempts = self._scene.stack.settings.webhook_attempts
        self._scene.checks.append(await evidence.webhooks_replayed(self._scene, plan.plan_id, _POISONED, attempts))

    async def _alter(self, change: str) -> None:
        async with self._sessions.begin() as session:
            await (await session.connection()).exec_driver_sql(f"ALTER TABLE service_lifecycle_outbox {change}")

    def _are(self, kind: str, wanted: int, *statuses: str) -> Callable[[], Awaitable[bool]]:
        sql = "SELECT count(*) AS n FROM service_webhook_deliveries WHERE event = :kind AND status = ANY(:these)"

        async def probe() -> bool:
            return await count(self._sessions, sql, kind=kind, these=list(statuses)) == wanted

        return probe

    def _is_pending(self, connection_id: UUID) -> Callable[[], Awaitable[bool]]:
        sql = "SELECT count(*) AS n FROM service_connections WHERE id = :id AND status = 'pending_reauth'"

        async def probe() -> bool:
            return await count(self._sessions, sql, id=connection_id) == 1

        return probe

    async def _refused(self) -> bool:
        return (await evidence.refusals(self._sessions)).keys() >= evidence.FORGERIES

    def _broken(self, name: Name) -> bool:
        return self._scene.broken is name
