"""Evidence of an outage that was contained and healed: the provider's log, Temporal's queue, the rows."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from integrations.domain.job import JobResult
from integrations.domain.outage import RAMP, OutageResult
from integrations.task_queues import config
from starters.demo.check import Check, Name, judged
from starters.demo.evidence import rows
from starters.demo.scene import Scene
from starters.demo.simulator import moment_of
from workflows.queues import provider_queue

TROUBLE: Final = 503
_CREATED: Final = 201
_A_TENTH: Final = 0.1
"""Of the calls before. A fiftieth is let through, and probes: in the few seconds of the demo one more is a lot."""
_SOON: Final = 10.0
"""Seconds: the detector looks each second, once twenty calls were made and half of them failed; on a busy machine."""


async def contained(scene: Scene, began: datetime, broken_at: datetime, settled: datetime, took: float) -> Check:
    """While the provider is down, some seconds after it was contained."""
    now = datetime.now(UTC)
    seen = [moment_of(each) for each in await scene.simulator.calls(began)]
    before = sum(at < broken_at for at in seen) / (broken_at - began).total_seconds()
    under = sum(settled <= at < now for at in seen) / (now - settled).total_seconds()
    rate = await queue_rate(scene)
    journal = await rows(
        scene.sessions, "SELECT rate FROM service_mitigations WHERE brake = 'queue' AND released_at IS NULL"
    )
    return judged(
        Name.OUTAGE_CONTAINED,
        {
            "it was seen soon": took < _SOON,
            "calls are less than a tenth of before": under < before * _A_TENTH,
            "Temporal's queue is slowed down": rate is not None and rate < before,
            "to what the journal says": [round(each["rate"], 3) for each in journal] == [round(rate or 0, 3)],
        },
        f"simulator: {before:.1f} calls a second before it, {under:.2f} while it is contained; Temporal: the queue "
        f"{provider_queue('simulator')} lets out {rate or 0:.2f} a second; contained {took:.1f} s after the first 503",
    )


async def harmed_nobody(scene: Scene, ids: Sequence[UUID]) -> Check:
    sql = "SELECT count(*) FILTER (WHERE status = 'active') AS active FROM service_connections WHERE id = ANY(:ids)"
    active = (await rows(scene.sessions, sql, ids=list(ids)))[0]["active"]
    sql = "SELECT count(*) AS n FROM service_connection_transitions WHERE connection_id = ANY(:ids)"
    moved = (await rows(scene.sessions, sql, ids=list(ids)))[0]["n"]
    shields = await rows(
        scene.sessions, "SELECT 1 AS n FROM service_mitigations WHERE brake = 'shield' AND released_at IS NULL"
    )
    return judged(
        Name.OUTAGE_HARMED_NOBODY,
        {
            "every connection is active": active == len(ids),
            "none ever changed its status": not moved,
            "and a shield sees to that": len(shields) == 1,
        },
        f"database: {active} of {len(ids)} active, {moved} changes of status, {len(shields)} shield",
    )


async def healed(scene: Scene, result: OutageResult) -> Check:
    told = {"id": result.outage_id}
    [outage] = await rows(
        scene.sessions, "SELECT ended, closed_at - opened_at AS lasted FROM service_outages WHERE id = :id", **told
    )
    notes = await rows(
        scene.sessions,
        "SELECT percent FROM service_outage_notes WHERE outage_id = :id AND percent IS NOT NULL ORDER BY id",
        **told,
    )
    on = await rows(scene.sessions, "SELECT 1 AS n FROM service_mitigations WHERE released_at IS NULL")
    tasks = await rows(
        scene.sessions, "SELECT 1 AS n FROM service_operator_tasks WHERE kind = 'outage' AND status <> 'closed'"
    )
    climbed, rate = [each["percent"] for each in notes], await queue_rate(scene)
    steps = list(dict.fromkeys(climbed))
    return judged(
        Name.OUTAGE_HEALED,
        {
            "it ended by itself": outage["ended"] == "healed",
            "step by step": steps[: len(RAMP) + 1] == [0, *RAMP],
            "no brake is on": not on,
            "Temporal's queue is not slowed down": rate is None,
            "nothing is left to do": not tasks,
        },
        f"database: {outage['ended']} after {outage['lasted'].total_seconds():.0f} s, "
        f"by {', '.join(f'{step} %' for step in steps)}, {len(on)} brakes on; Temporal: the queue "
        + ("is as fast as its workers" if rate is None else f"lets out {rate:g} a second"),
    )


async def parked_done_once(scene: Scene, began: datetime, keys: Sequence[str], results: Sequence[JobResult]) -> Check:
    """Every job that was asked for, those that were parked among them."""
    parked = await rows(scene.sessions, "SELECT outcome FROM service_parked_jobs")
    written = Counter(
        each["detail"].get("idempotency_key")
        for each in await scene.simulator.calls(began)
        if each["status"] == _CREATED
    )
    undone = len(parked) - sum(each["outcome"] == "done" for each in parked)
    return judged(
        Name.PARKED_DONE_ONCE,
        {
            "some jobs were parked": bool(parked),
            "each of these is done": not undone,
            "every job is": all(result.done for result in results),
            "none is lost": all(written[key] for key in keys),
            "none is done twice": max(written.values(), default=0) == 1,
        },
        f"database: {len(parked)} jobs were parked, {len(parked) - undone} of them done; simulator: "
        f"{sum(written[key] for key in keys)} notes written for {len(keys)} jobs, "
        f"{sum(count > 1 for count in written.values())} twice",
    )


async def queue_rate(scene: Scene) -> float | None:
    """As the Temporal server has it. None: no limit."""
    found = (await config(scene.platform.temporal, provider_queue("simulator"))).queue_rate_limit
    return found.rate_limit.requests_per_second if found.HasField("rate_limit") else None
