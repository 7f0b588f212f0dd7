"""How far an outage reaches: recorded calls as a matrix, and probes where they leave a doubt."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from activities.heart import beating
from activities.outage_probe import Prober
from integrations.db import outage_counts, outages
from integrations.db.outage_tables import Outage
from integrations.db.session import Sessions
from integrations.domain.outage import OURS, Baseline, Brake, Cell, Finding, Isolate, Limits, Scope, Target
from integrations.domain.outage_detection import Reach, scope_of, trips
from integrations.domain.outage_steps import Probe, Scoped, Scoping, Tick
from integrations.domain.outage_targets import covers, full_rate, targets
from integrations.domain.verdict import Endpoint
from integrations.providers.catalog import Catalog

_OTHERS: Final = 3
"""Probes for other tenants, or of other endpoints."""
_BACK: Final = timedelta(hours=1)
"""For the last calls outside of what is held back: calls are found by their time, and this is asked at each look."""


class Scoper:
    def __init__(self, sessions: Sessions, prober: Prober, catalog: Catalog, limits: Limits) -> None:
        self._sessions = sessions
        self._prober = prober
        self._catalog = catalog
        self._limits = limits

    async def scope(self, asked: Scoping) -> tuple[Scoped, Baseline | None]:
        """Where it reaches, and how the provider did before."""
        request, wish = asked.request, asked.wish
        if wish is None and request.hold is not None:
            wish = Isolate(by=request.by, reason=request.reason, endpoint=request.endpoint, tenant=request.tenant)
        async with self._sessions.begin() as session:
            row = await outages.open_of(session, request.provider_id)
            cells = await outage_counts.matrix(session, request.provider_id, datetime.now(UTC) - self._limits.window)
        if request.provider_id == OURS:
            return await self._ours(row)
        probes: list[Probe] = []
        reach = _wished(wish) if wish is not None else await self._reach(request.provider_id, row, cells, probes)
        if isinstance(reach, Scoped):
            return reach, None
        scoped, before = await self._aimed(request.provider_id, reach, cells)
        after = max((each.after for each in probes if each.after), default=None)
        return scoped.model_copy(update={"after": after}), before

    async def _aimed(self, provider_id: str, reach: Reach, cells: Sequence[Cell]) -> tuple[Scoped, Baseline]:
        """What to hold back for it."""
        async with self._sessions.begin() as session:
            before = await outage_counts.baseline(session, provider_id, datetime.now(UTC))
        allowed = self._catalog.provider(provider_id).rate_limit
        full = full_rate(before.rate * _share(reach, cells), allowed)
        aims = targets(provider_id, reach.scope, reach.names, full, allowed, _failing(cells, reach))
        return Scoped(scope=reach.scope, names=reach.names, targets=aims, why=reach.why, usual=before.usual), before

    async def wider(self, tick: Tick) -> Scoped | None:
        """Does it reach further than what is held back?"""
        provider_id, held = tick.request.provider_id, tick.progress.targets
        if provider_id == OURS or covers(held, provider_id, "", ""):
            return None
        async with self._sessions.begin() as session:
            since = datetime.now(UTC) - self._limits.window
            cells = await outage_counts.matrix(session, provider_id, since)
        outside = [each for each in cells if not covers(held, provider_id, each.endpoint, each.tenant)]
        # Of what is not held back: what is, fails for a reason that is known.
        reach = None
        if _trips_anywhere(outside, self._limits):
            reach = scope_of(outside, self._limits)
        # Only fresh news is worth a probe.
        elif any(each.failing for each in outside) and sum(each.calls for each in outside) < self._limits.calls:
            async with beating():
                reach, outside = await self._quietly(provider_id, held)
        return None if reach is None else (await self._aimed(provider_id, reach, outside))[0]

    async def _quietly(self, provider_id: str, held: Sequence[Target]) -> tuple[Reach | None, list[Cell]]:
        """What the last few calls say that are not held back, when all of them failed and no probe is answered.

        A probe that is answered is the last call by then: nothing is asked again before so many have failed anew.
        """
        few = self._limits.quiet_calls
        async with self._sessions.begin() as session:
            cells = await outage_counts.last(session, provider_id, datetime.now(UTC) - _BACK, few, but=held)
        if len(cells) < few or not all(each.failing for each in cells):
            return None, cells
        failing = sorted({each.endpoint for each in cells})
        tenants = {each.name for each in held if each.brake is Brake.TENANT}
        probes = await self._probes(provider_id, failing, self._limits.quiet_probes, other_than=tenants)
        if any(each.fine for each in probes):
            return None, cells
        cells += _cells(probes)
        return await self._told(provider_id, cells, failing, probes, but=tenants), cells

    async def _ours(self, row: Outage | None) -> tuple[Scoped, Baseline | None]:
        """Several unrelated providers at once: each of them is held back, for it is nobody's doing but ours."""
        known = {each.id for each in self._catalog}
        names: list[str] = []
        aims: list[Target] = []
        befores: list[Baseline] = []
        for provider_id in row.names if row is not None else ():
            async with self._sessions.begin() as session:
                # One with an outage of its own is looked after by that; another worker's catalog may know more.
                if provider_id not in known or await outages.open_of(session, provider_id):
                    continue
                before = await outage_counts.baseline(session, provider_id, datetime.now(UTC))
            allowed = self._catalog.provider(provider_id).rate_limit
            names.append(provider_id)
            befores.append(before)
            aims += targets(provider_id, Scope.PROVIDER, (), full_rate(before.rate, allowed), allowed)
        why = row.reason if row is not None else "no provider is named"
        together = sum(befores[1:], start=befores[0]) if befores else None
        usual = together.usual if together is not None else 100.0
        scoped = Scoped(scope=Scope.OURS, names=tuple(names), targets=tuple(aims), why=why, usual=usual)
        return scoped, together

    async def _reach(
        self, provider_id: str, row: Outage | None, cells: list[Cell], made: list[Probe]
    ) -> Reach | Scoped:
        """`made` gets the probes that were needed."""
        finding = Finding.model_validate(row.finding) if row is not None and row.finding else None
        if finding is not None and not any(each.failing for each in cells):
            cells = list(finding.matrix)
        failing = sorted({each.endpoint for each in cells if each.failing})
        if finding is None or not finding.certain:
            probes = await self._probes(provider_id, failing or [""], self._limits.quiet_probes)
            made += probes
            doubt = _doubted(probes, finding)
            if doubt is not None:
                return doubt
            cells += _cells(probes)
        if not any(each.failing for each in cells):
            return _nothing("nothing fails any more")
        return await self._told(provider_id, cells, failing, made)

    async def _told(
        self,
        provider_id: str,
        cells: Sequence[Cell],
        failing: Sequence[str],
        made: list[Probe],
        *,
        but: Collection[str] = (),
    ) -> Reach:
        """What these calls say, and more probes where they leave a doubt: `made` gets those. `but` is not asked for."""
        reach = scope_of(cells, self._limits)
        if reach.ask is Scope.TENANT:
            tenants = {*(each.tenant for each in cells), *but}
            others = await self._probes(provider_id, failing, _OTHERS, other_than=tenants)
            made += others
            # Others there are and cannot be asked for: then the narrowest reading stands.
            alone = not others and await self._prober.is_alone(provider_id, tenants)
            reach = scope_of([*cells, *_cells(others)], self._limits, alone=alone)
        if reach.ask is Scope.ENDPOINT:
            rest = [each for each in self._endpoints(provider_id) if each not in failing]
            others = await self._probes(provider_id, rest[:_OTHERS], _OTHERS)
            made += others
            reach = scope_of([*cells, *_cells(others)], self._limits, alone=True)
        return reach

    def _endpoints(self, provider_id: str) -> list[str]:
        return [Endpoint.TOKEN, *self._catalog.provider(provider_id).capabilities]

    async def _probes(
        self, provider_id: str, endpoints: Sequence[str], count: int, *, other_than: Collection[str] = ()
    ) -> list[Probe]:
        """So many probes, beside each other; fewer where nothing can be asked."""
        wanted = [endpoints[number % len(endpoints)] for number in range(count)] if endpoints else []
        asked = (self._prober.ask(provider_id, each, other_than=other_than) for each in wanted)
        return [each for each in await asyncio.gather(*asked) if each is not None]


def _wished(wish: Isolate) -> Reach:
    said = f"by {wish.by}'s word: {wish.reason}"
    if wish.endpoint:
        return Reach(scope=Scope.ENDPOINT, names=(wish.endpoint,), why=said)
    if wish.tenant:
        return Reach(scope=Scope.TENANT, names=(wish.tenant,), why=said)
    return Reach(scope=Scope.PROVIDER, why=said)


def _doubted(probes: Sequence[Probe], finding: Finding | None) -> Scoped | None:
    """What probes say of a suspicion. None: they confirm it, or nothing can be asked and the last calls stand."""
    failing = [each for each in probes if not each.fine]
    if not probes:
        return None if finding is not None else _nothing("nothing is known to fail, and nothing could be probed")
    if not failing:
        return _nothing(f"{len(probes)} probes were answered: {probes[0].why}")
    if len(failing) < len(probes):
        why = f"{len(failing)} of {len(probes)} probes failed: {failing[0].why}"
        return Scoped(scope=Scope.PROVIDER, why=why, clear=False)
    return None


def _nothing(why: str) -> Scoped:
    return Scoped(scope=Scope.PROVIDER, why=why)


def _cells(probes: Iterable[Probe]) -> list[Cell]:
    return [Cell(endpoint=each.endpoint, tenant=each.tenant, calls=1, failing=not each.fine) for each in probes]


def _share(reach: Reach, cells: Sequence[Cell]) -> float:
    """Which part of the provider's calls is held back."""
    if reach.scope is Scope.PROVIDER or not cells:
        return 1.0
    part = [
        each.calls for each in cells if (each.endpoint if reach.scope is Scope.ENDPOINT else each.tenant) in reach.names
    ]
    return sum(part) / sum(each.calls for each in cells)


def _failing(cells: Sequence[Cell], reach: Reach) -> list[str]:
    """The endpoints that fail there, as far as they are known."""
    theirs = [each for each in cells if reach.scope is not Scope.TENANT or each.tenant in reach.names]
    return sorted({each.endpoint for each in theirs if each.failing})


def _trips_anywhere(cells: Sequence[Cell], limits: Limits) -> bool:
    slices: dict[tuple[str, str], tuple[int, int]] = {}
    for each in cells:
        for key in (("", ""), ("endpoint", each.endpoint), ("tenant", each.tenant)):
            calls, failing = slices.get(key, (0, 0))
            slices[key] = calls + each.calls, failing + each.failing
    return any(trips(calls, failing, limits) for calls, failing in slices.values())
