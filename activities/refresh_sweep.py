"""The sweep: finding the providers at which something is due, and refreshing it in chunks."""

import asyncio
import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from temporalio import activity

from activities import braked
from activities.detection import announce
from activities.heart import beating, finished
from activities.refresh_call import meaning_of
from activities.refresh_chunk import ChunkRun, Failed, Outcome
from activities.refused import is_known, refusal_of, watched
from integrations import temporal
from integrations.db import mitigations, refresh_due, shield, surge
from integrations.db.credentials import opened
from integrations.db.outage_tables import Mitigation
from integrations.db.refresh import Claim, Settled
from integrations.db.refresh_due import Late
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.domain.connection import reauth_id
from integrations.domain.errors import RunbookError, TryAgainError
from integrations.domain.outage import Brake
from integrations.domain.reauth import Repaired, Terms
from integrations.domain.refresh import CHUNK, Chunk, ChunkStep, Refresh, Refreshed, RefreshRequest, SweepRequest, Swept
from integrations.domain.surge import Limits
from integrations.providers.entry import Provider
from integrations.providers.oauth import Providers

LANES: Final = 3
"""Chunks of one provider at the same time. The rest of its worker's slots is for calls that somebody waits for."""
_BY: Final = "refresh-sweep"
_GOES_ON: Final = timedelta(minutes=15)
"""What has a workflow of its own is due for the sweep after this: whatever became of that one."""
_A_FEW: Final = 4
"""Connections that are tried while their provider seems to be in trouble: one of them may have trouble of its own."""
_LONGEST: Final = timedelta(minutes=15)
"""For which a whole provider is let alone when it asks for more: each answer is about one connection's quota."""
_SOON: Final = timedelta(seconds=2)
_SPARED: Final = timedelta(seconds=20)
"""After this a provider whose calls are held back is tried again: a brake spares it, and its end is noticed soon."""


class RefreshSweepActivities:
    def __init__(
        self, sessions: Sessions, vault: Vault, providers: Providers, terms: Terms, limits: Limits = Limits()
    ) -> None:
        self._sessions = sessions
        self._vault = vault
        self._providers = providers
        self._terms = terms
        self._limits = limits

    @activity.defn(name="refresh_sweep.start")
    async def start(self) -> Swept:
        """Start a sweep of each provider at which something is due, or join the one under way there."""
        known = [provider.id for provider in self._providers.catalog]
        async with self._sessions.begin() as session:
            due = await refresh_due.providers_due(session, known, LANES * CHUNK)
        for provider_id, count in due.items():
            request = SweepRequest(provider_id=provider_id, lanes=math.ceil(count / CHUNK))
            await temporal.start_sweep(activity.client(), request)
        return Swept(due=dict(due))

    @activity.defn(name="refresh_sweep.chunk")
    async def chunk(self, step: ChunkStep) -> Chunk:
        """Refresh what is due, at most so many. None taken: nothing is due any more.

        Raises TryAgainError when the provider seems to be in trouble. Then the policy waits, and a few connections are
        tried first, others each time.
        """
        async with beating():
            return await finished(self._chunk(step, few=activity.info().attempt > 1))

    async def _chunk(self, step: ChunkStep, *, few: bool) -> Chunk:
        async with self._sessions.begin() as session:
            brakes = await mitigations.of_provider(session, step.provider_id)
            counted = _counts_refreshes(brakes)
            few = few or counted
            # Where a brake counts calls, a chunk is one of them.
            most = 1 if counted else min(step.most, _A_FEW) if few else step.most
            claims, taken = await refresh_due.claim_due(
                session, step.provider_id, most, without=mitigations.tenants(brakes)
            )
            if claims:
                # With the leases: whoever is not let through takes none.
                await braked.ask(session, step.provider_id, braked.TOKEN)
        if not claims:
            return Chunk(taken=taken)
        await self._asking(step.provider_id, claims)
        run = ChunkRun(self._sessions, self._vault, self._providers, step.provider_id)
        outcome = await run.refresh(claims)
        held = await self._counted(outcome, run.provider)
        soon = _SPARED if counted else None
        left = await self._ended(outcome, held, few=few, rotates=run.provider.rotates_refresh_token, soon=soon)
        return Chunk(taken=taken, refreshed=len(outcome.refreshed), left=left, held=len(held))

    async def _asking(self, provider_id: str, claims: list[Claim]) -> None:
        """Raises NotReadyError when a person has to bring client credentials or a key: no lease waits for that."""
        try:
            self._providers.catalog.credentials(provider_id)
            if not any(self._vault.has(claim.credential.key_id) for claim in claims):
                # It says which key is missing where. One of several keys is the trouble of those that it sealed.
                opened(self._vault, claims[0].credential)
        except RunbookError:
            async with self._sessions.begin() as session:
                await refresh_due.release(session, claims)
            raise

    async def _counted(self, outcome: Outcome, provider: Provider) -> frozenset[UUID]:
        """Count what was answered. Those that need no second look: set aside, held back by a surge, or no news."""
        known: set[UUID] = set()
        refused = []
        for each in outcome.failed:
            if each.answer is None or each.is_transient:
                continue
            meaning = meaning_of(provider, each.answer)
            if is_known(each.claim, meaning):
                known.add(each.claim.connection.id)
            else:
                refused.append(refusal_of(each.claim, each.answer, meaning))
        async with self._sessions.begin() as session:
            at = watched(provider, self._limits)
            aside = await shield.set_aside(session, provider.name, refused)
            counted = [each for each in refused if each.connection_id not in aside]
            return await surge.tried(session, at, worked=outcome.refreshed, refused=counted) | aside | known

    async def _ended(
        self, outcome: Outcome, held: frozenset[UUID], *, few: bool, rotates: bool, soon: timedelta | None
    ) -> int:
        """Give each of those that were not refreshed its next step. How many have one of their own.

        `soon`: when a provider in trouble is tried again that asks for nothing itself. None: by the policy.
        """
        for claim, settled in outcome.followed_up:
            await self._tell(claim, settled)
        transient = [each for each in outcome.failed if each.is_transient]
        trouble = outcome.trouble or ([] if outcome.is_heard or not few else transient)
        # An answer that was lost is looked after at once, and by itself: it may have used a token up.
        behind = [each for each in trouble if not (each.is_lost and rotates)]
        leaving = [each for each in outcome.failed if each not in behind]
        # First its workflow, then the lease: killed in between, both are there, and the one finds the other.
        going_on = [each for each in leaving if each.claim.connection.id not in held]
        await asyncio.gather(*(self._leave(each) for each in going_on))
        async with self._sessions.begin() as session:
            late = [
                Late(each.claim, max(_GOES_ON, each.after or _SOON), each.answered, failing=not each.is_refused)
                for each in leaving
            ]
            late += [Late(each.claim, _behind(each), each.answered, failing=True) for each in behind]
            late += [Late(claim, None, answered=False, failing=False) for claim in outcome.hopeless]
            await refresh_due.put_off(session, late)
            await refresh_due.release(session, outcome.unsent)
        if trouble:
            tried = len(outcome.refreshed) + len(outcome.failed)
            raise TryAgainError(
                f"{trouble[0].why} ({len(trouble)} of {tried} refreshes); what is due there waits, and none is demoted",
                after=_asked_of_all(trouble) or soon,
            )
        return len(going_on)

    async def _leave(self, failed: Failed) -> None:
        connection, version = failed.claim.connection, failed.claim.credential.version
        provider = self._providers.catalog.provider(connection.provider_id)
        refused = None
        if failed.answer is not None and not failed.is_transient:
            meaning = meaning_of(provider, failed.answer)
            refused = Refreshed(refresh=Refresh.REFUSED, version=version, why=failed.why, meaning=meaning)
        request = RefreshRequest(
            connection_id=connection.id,
            provider_id=connection.provider_id,
            tenant=connection.tenant,
            by=_BY,
            reason=failed.why,
            known_version=version,
            refused=refused,
        )
        wait = (failed.after or _SOON) if failed.is_transient else None
        await temporal.start_refresh(activity.client(), request, wait)

    async def _tell(self, claim: Claim, settled: Settled) -> None:
        """As a single refresh's workflow does it. Killed before: reconcile finds the row, and the lifecycle."""
        connection = claim.connection
        if settled.detection_id is not None:
            await announce(activity.client(), self._sessions, self._terms, settled.detection_id)
        if settled.repaired:
            repaired = Repaired(by=_BY, reason="a refresh works again")
            await temporal.signal_repaired(
                activity.client(), reauth_id(connection.provider_id, connection.id), repaired
            )


def _counts_refreshes(brakes: Sequence[Mitigation]) -> bool:
    """Is a brake on by which refreshes are counted? The queue's counts tasks, and the circuit whoever asks it."""
    circuit = (Brake.CIRCUIT, braked.TOKEN)
    return any(each.brake == Brake.QUEUE or (each.brake, each.name) == circuit for each in brakes)


def _behind(failed: Failed) -> timedelta:
    """Due after those that are due for longer, which are tried in its place; what may be its own trouble, later."""
    return failed.after or (_GOES_ON if failed.is_unknown else timedelta(0))


def _asked_of_all(trouble: Sequence[Failed]) -> timedelta | None:
    """What the provider asks for (Retry-After), when all of its answers do: one of them may be about one connection."""
    asked = [each.after for each in trouble if each.after is not None]
    return min(*asked, _LONGEST) if len(asked) == len(trouble) else None
