"""Putting brakes on, holding them, and taking them off: the journal and the task queues say the same.

 put on    journal ──▶ queue             killed in between: the next `hold`, or the step once more, sets the queue
 hold      leases ──▶ is the queue as the journal says? no: set
 release   queue ──▶ journal             killed in between: done again; the lines are there until then

What somebody else had set of a queue is in the journal too. No brake loosens it, and it is set again when none of ours
is on.
Each step is safe to repeat. A circuit and a shield are on as soon as their lines are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client

from integrations import task_queues
from integrations.db import mitigations, shield
from integrations.db.outage_tables import Mitigation
from integrations.db.session import Sessions
from integrations.domain.outage import Before, Brake, Cut, Target
from integrations.task_queues import Kept, Rates, fairness_key, provider_queue

_OF_QUEUES: Final = frozenset({Brake.QUEUE, Brake.TENANT})


@dataclass(frozen=True, slots=True)
class Held:
    brakes: int
    """Whose leases are renewed. 0: none is on, or somebody has released them."""
    mended: tuple[str, ...]
    """Providers whose queue did not say what the journal says."""


@dataclass(frozen=True, slots=True)
class Off:
    brakes: int = 0
    """That were on. Repeated, none."""
    due: int = 0
    """Connections of which something was set aside under a shield: each is asked again at once."""


class Brakes:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def put_on(
        self, client: Client, outage_id: UUID, cuts: Sequence[Cut], lease: timedelta, *, reason: str, by: str
    ) -> list[Target]:
        """Put brakes on, or change what they let through. Those that are not put on: another outage holds them.

        What somebody else has set is remembered, and is there again after the release. Raises StopError when the outage
        is closed, RPCError when Temporal does not answer: then all lines are there, or none.
        """
        targets = [cut.target for cut in cuts if cut.target.brake in _OF_QUEUES]
        before: dict[Target, Before] = {}
        for provider_id in sorted({each.provider_id for each in targets}):
            before |= await self._before(client, [each for each in targets if each.provider_id == provider_id])
        async with self._sessions.begin() as session:
            others = await mitigations.put(session, outage_id, cuts, lease, reason=reason, by=by, before=before)
        for provider_id in sorted({each.provider_id for each in targets}):
            await self.settle(client, provider_id, changed=True)
        return others

    async def hold(self, client: Client, outage_id: UUID, lease: timedelta) -> Held:
        """Renew the leases of an outage's brakes, and see that their queues are as the journal says."""
        async with self._sessions.begin() as session:
            renewed = await mitigations.renew(session, outage_id, lease)
            providers = _providers(await mitigations.on(session, outage_id))
        mended = [provider_id for provider_id in providers if await self.settle(client, provider_id)]
        return Held(renewed, tuple(mended))

    async def release(
        self,
        client: Client,
        outage_id: UUID,
        *,
        by: str,
        reason: str,
        lapsed_only: bool = False,
        only: frozenset[str] | None = None,
    ) -> Off:
        """Take an outage's brakes off, and mark them as released. What was set aside under its shields is due at once.

        `lapsed_only`: those alone whose lease has run out. `only`: those at these providers.
        """
        async with self._sessions.begin() as session:
            lines = await mitigations.on(session, outage_id, lapsed_only=lapsed_only)
        lines = [line for line in lines if only is None or line.provider_id in only]
        providers, queues = _providers(lines), _providers([line for line in lines if line.brake in _OF_QUEUES])
        brakes = due = 0
        for provider_id in providers:
            async with self._sessions.begin() as session:
                await mitigations.lock(session, provider_id)
                released = await mitigations.release(
                    session, outage_id, provider_id, by=by, reason=reason, lapsed_only=lapsed_only
                )
                # Before the commit: the lines say that they are on until the queue is free.
                await _settle(session, client, provider_id, reason, changed=provider_id in queues)
                # With it: what is refused from then on is believed.
                lifted = await shield.lifted(session, outage_id) if released else 0
            brakes, due = brakes + released, due + lifted
        return Off(brakes, due)

    async def _before(self, client: Client, targets: Sequence[Target]) -> dict[Target, Before]:
        """What somebody else has set at these places of one provider's queue."""
        provider_id = targets[0].provider_id
        found = await task_queues.config(client, provider_queue(provider_id))
        said = {Brake.QUEUE: found.queue_rate_limit, Brake.TENANT: found.fairness_keys_rate_limit_default}
        async with self._sessions.begin() as session:
            # Where one of ours is on, or the server still shows it: what was there before that one.
            rates = {
                brake: await mitigations.before_ours(session, provider_id, brake)
                if task_queues.is_ours(limit)
                else task_queues.rate_of(limit)
                for brake, limit in said.items()
            }
            ever = await mitigations.tenants_ever(session, provider_id)
        weights = {each.name: found.fairness_weight_overrides.get(fairness_key(each.name)) for each in targets}
        if task_queues.is_on(found.fairness_keys_rate_limit_default):
            weights |= ever
        return {each: Before(rate=rates[each.brake], weight=weights.get(each.name)) for each in targets}

    async def settle(self, client: Client, provider_id: str, *, changed: bool = False) -> bool:
        """Have a provider's queue let out what the journal says. Whether it said anything else.

        `changed`: the journal said something else a moment ago.
        """
        async with self._sessions.begin() as session:
            await mitigations.lock(session, provider_id)
            return await _settle(session, client, provider_id, changed=changed)


async def _settle(
    session: AsyncSession, client: Client, provider_id: str, reason: str = "no brake is on", *, changed: bool
) -> bool:
    lines = await mitigations.of_provider(session, provider_id)
    braking = [line for line in lines if line.brake in _OF_QUEUES]
    if braking:
        held_by = (await mitigations.holder(session, braking[0])).provider_id
        reason = f"{braking[0].reason} (by {braking[0].put_by}); runbook outage explain {held_by}"
    queue, wanted = provider_queue(provider_id), _rates(braking)
    ever = await mitigations.tenants_ever(session, provider_id)
    before = Kept(
        queue=await mitigations.before_ours(session, provider_id, Brake.QUEUE),
        each_key=await mitigations.before_ours(session, provider_id, Brake.TENANT),
        weights={fairness_key(name): weight for name, weight in ever.items()},
    )
    return await task_queues.limit(client, queue, wanted, before, reason=reason, changed=changed)


def _rates(lines: Sequence[Mitigation]) -> Rates:
    queue = [line.rate for line in lines if line.brake == Brake.QUEUE]
    tenants = {fairness_key(line.name): line.rate or 0.0 for line in lines if line.brake == Brake.TENANT}
    return Rates(queue[0] if queue else None, tenants)


def _providers(lines: Sequence[Mitigation]) -> list[str]:
    """In one order everywhere, for each is locked."""
    return sorted({line.provider_id for line in lines})
