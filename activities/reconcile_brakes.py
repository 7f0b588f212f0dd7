"""Brakes that nobody looks after: released when their outage's workflow is no more, and a person's when it runs."""

from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio import activity
from temporalio.client import Client

from activities.brakes import Brakes
from activities.reconcile import Reconciled
from activities.reconcile_kit import each, is_running
from integrations.db import mitigations, outage_told, outages
from integrations.db.outage_tables import Outage
from integrations.db.session import Sessions
from integrations.domain.outage import OURS, Ended, Step, outage_id
from integrations.providers.catalog import Catalog

_BY: Final = "reconcile"
_LONG: Final = timedelta(minutes=5)
"""A lease that ran out before that, while its workflow runs, is a person's."""
_GONE: Final = "its workflow was ended by hand, and nobody renewed its leases"


class ReconcileBrakesActivities:
    def __init__(self, sessions: Sessions, catalog: Catalog) -> None:
        self._sessions = sessions
        self._catalog = catalog
        self._brakes = Brakes(sessions)

    @activity.defn(name="reconcile.mitigations")
    async def mitigations(self) -> Reconciled:
        """Release what nobody holds any more, and have queues let out what the journal says. Safe to repeat."""
        client = activity.client()
        async with self._sessions.begin() as session:
            lapsed = await mitigations.lapsed(session)
        released = await each(lapsed, lambda found: self._look_after(client, *found))
        async with self._sessions.begin() as session:
            providers = await mitigations.queues_ever(session)
        # Also a limit that was put on by somebody who was given up, and came late.
        settled = await each(providers, lambda provider_id: self._brakes.settle(client, provider_id))
        return Reconciled(outages=released, queues=settled)

    async def _look_after(self, client: Client, outage: Outage, since: datetime | None) -> bool:
        """Whether its brakes were released."""
        if outage.closed_at is None and await is_running(client, outage_id(outage.provider_id)):
            if since is not None and since < datetime.now(UTC) - _LONG:
                async with self._sessions.begin() as session:
                    await outage_told.unattended(session, outage.id, name=self._name(outage), since=since)
            return False
        await self._brakes.release(client, outage.id, by=_BY, reason=_GONE, lapsed_only=True)
        async with self._sessions.begin() as session:
            row = await session.get_one(Outage, outage.id, with_for_update=True)
            # Somebody may have begun with it anew: what is on is theirs, and so is the outage.
            if await mitigations.on(session, outage.id):
                return False
            if await outages.close(session, row.id, Ended.ABANDONED, by=_BY, reason=_GONE):
                await outages.note(session, row.id, "abandoned", Step.CLOSE, f"{_GONE}: its brakes are released")
                await outage_told.closed(session, row.id, name=self._name(outage))
        return True

    def _name(self, outage: Outage) -> str:
        known = outage.provider_id != OURS and outage.provider_id in {provider.id for provider in self._catalog}
        return self._catalog.provider(outage.provider_id).name if known else outage.provider_id
