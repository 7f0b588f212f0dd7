"""Looking for outages: what the calls of the last minute say, written down, and given to its workflow."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from integrations import temporal
from integrations.db import automation, outage_detected, outages
from integrations.db.outage_counts import LONGEST, matrix
from integrations.db.outage_looks import Look, look
from integrations.db.outage_tables import Outage
from integrations.db.session import Sessions
from integrations.domain.automation import FailureMode
from integrations.domain.outage import DETECTOR, OURS, Ended, Finding, Limits, Looked, OutageRequest, Step
from integrations.domain.outage_look import finding, ours


@dataclass(frozen=True, slots=True)
class _Seen:
    looked: Looked
    unattended: list[OutageRequest]


class OutageDetectorActivities:
    def __init__(self, sessions: Sessions, limits: Limits, families: Mapping[str, str]) -> None:
        self._sessions = sessions
        self._limits = limits
        self._families = families

    @activity.defn(name="outage.look")
    async def look(self) -> Looked:
        """Write down what is out, and see that each outage has its workflow. Safe to repeat.

        While the platform may not act by itself, what is found is a row and nothing else: no workflow, no brake.
        """
        client = activity.client()
        async with self._sessions.begin() as session:
            seen = await self._see(session)
        for request in seen.unattended:
            await temporal.start_outage(client, request)
        return seen.looked

    async def _see(self, session: AsyncSession) -> _Seen:
        why_not = await automation.why_not(session, FailureMode.OUTAGE)
        are_open = {each.provider_id: each for each in await outage_detected.all_open(session)}
        acted_on = {provider_id: each for provider_id, each in are_open.items() if not each.observed}
        seen = await look(session, self._limits)
        spared = _spared(acted_on)
        found = await self._found(session, seen, spared)
        await outage_detected.seen(session, {each.provider_id for each in seen.suspects} & set(acted_on))
        for each in found:
            await self._write(session, each, why_not)
        for outage in are_open.values():
            if outage.observed and outage.provider_id not in {each.provider_id for each in found}:
                await self._look_on(session, outage, why_not)
        return _Seen(
            Looked(
                every=self._limits.every,
                failing=tuple(
                    [f"{each.provider_id}: {each.why}" for each in found]
                    + [f"{each.provider_id}: {each.words}" for each in seen.suspects if each.provider_id in spared]
                ),
                why_not=why_not,
            ),
            [] if why_not else await outage_detected.unattended(session, self._limits),
        )

    async def _found(self, session: AsyncSession, seen: Look, spared: Collection[str]) -> list[Finding]:
        """What is to be said that is not being acted on already.

        Whoever has an outage by now says nothing of our own way out: that is told by those who are left.
        """
        fresh = [each for each in seen.suspects if each.provider_id not in spared]
        called = seen.called - set(spared)
        theirs = [each for each in fresh if each.provider_id in called]
        together = None if OURS in spared else ours(theirs, len(called), self._families)
        found = [together] if together is not None else []
        for suspect in fresh:
            if together is not None and suspect.provider_id in together.names:
                continue
            # It may take a quiet provider longer to be suspected than is looked back for it, or than calls are kept.
            cells = await matrix(session, suspect.provider_id, max(suspect.since, datetime.now(UTC) - LONGEST))
            if cells:
                found.append(finding(suspect, cells, self._limits))
        return found

    async def _write(self, session: AsyncSession, found: Finding, why_not: str | None) -> None:
        outage_id, opened = await outages.found(
            session,
            found.provider_id,
            scope=found.scope,
            names=found.names,
            reason=found.why,
            by=DETECTOR,
            finding=found,
            why_not=why_not,
        )
        if opened:
            await outages.note(session, outage_id, "found", Step.SCOPE, found.why)
        if why_not is not None:
            await outages.note(session, outage_id, f"held: {why_not}", Step.SCOPE, f"only looked at: {why_not}")

    async def _look_on(self, session: AsyncSession, outage: Outage, why_not: str | None) -> None:
        """One that was only looked at and does not trip now is over, or is acted on as soon as it may be."""
        why = await outage_detected.over(session, outage, self._limits)
        if why is not None:
            await outages.close(session, outage.id, Ended.PASSED, by=DETECTOR, reason=why)
            await outages.note(session, outage.id, "passed", Step.CLOSE, f"over by itself: {why}")
        elif why_not is None:
            await outage_detected.act(session, outage.id)


def _spared(acted_on: Mapping[str, Outage]) -> set[str]:
    """Those that somebody is at: by themselves, or as a part of our own way out."""
    together = acted_on.get(OURS)
    return {*acted_on, *(together.names if together is not None else ())}
