"""What became of every event, read from rows: projections = events, none twice, none missing, all in order."""

from collections.abc import Sequence
from typing import Any, Final

from tests.chaos.backlog import DOOMED, Backlog
from tests.chaos.crew import Crew
from tests.chaos.waiting import until
from workflows.reconcile import SCHEDULE

TABLES: Final = {"activity": "service_activity_entries", "notification": "service_notification_requests"}
_OPEN: Final = """
SELECT (SELECT count(*) FROM service_lifecycle_outbox WHERE status NOT IN ('delivered', 'dead'))
  + (SELECT count(*) FROM service_projector_ledger WHERE status NOT IN ('delivered', 'dead'))
  + (SELECT count(*) FROM service_ledger_holds)"""
_LEFT: Final = """
SELECT 'event' AS what, status, count(*) FROM service_lifecycle_outbox GROUP BY status
UNION ALL SELECT projector, status, count(*) FROM service_projector_ledger GROUP BY projector, status
UNION ALL SELECT 'hold for ' || destination, CASE WHEN released_at IS NULL THEN 'waits' ELSE 'released' END, count(*)
  FROM service_ledger_holds GROUP BY 1, 2 ORDER BY 1, 2"""
_COUNTED: Final = """
SELECT count(*) AS rows, count(DISTINCT event_id) AS events, count(DISTINCT (order_key, seq)) AS numbers FROM {table}"""
_MISSING: Final = """
SELECT event_id, name FROM service_lifecycle_outbox AS event
WHERE NOT EXISTS (SELECT FROM {table} AS row WHERE row.event_id = event.event_id
  AND (row.order_key, row.seq, row.name) = (event.order_key, event.seq, event.name))"""
_LEDGER: Final = """
SELECT event_id FROM service_projector_ledger WHERE projector = :projector AND status = 'dead'"""
_DISORDER: Final = """
SELECT * FROM (SELECT order_key, seq, lag(seq) OVER (PARTITION BY order_key ORDER BY id) AS before
  FROM {table} WHERE NOT out_of_order) AS projected WHERE seq <= before"""
_UNLIKE: Final = """
SELECT event_id FROM service_lifecycle_outbox AS event JOIN service_projector_ledger AS item USING (event_id)
GROUP BY event_id, event.status
HAVING count(*) <> 2 OR event.status <> CASE WHEN bool_or(item.status = 'dead') THEN 'dead' ELSE 'delivered' END"""
_LATE: Final = """
UPDATE service_projector_ledger SET lease_until = now() - interval '1 second' WHERE status = 'retrying' RETURNING 1"""


async def reconciled(backlog: Backlog) -> None:
    """What fell between two commits gets its next step: as the Schedule does each minute, asked for now.

    It leaves young leases to whoever wrote them; these ones' writers are dead.
    """
    await backlog.ground.rows(_LATE)
    await backlog.ground.platform.temporal.get_schedule_handle(SCHEDULE).trigger()


async def all_settled(backlog: Backlog, crew: Crew, *, within: float = 90) -> None:
    """Wait until nothing is on its way any more, and see that everything arrived."""

    async def nothing_is_open() -> bool:
        return bool(await backlog.ground.one(_OPEN) == 0)

    try:
        await until("every event is delivered or dead, and no hold is left", nothing_is_open, within=within)
    except AssertionError as vain:
        raise AssertionError(f"{vain}: {await backlog.ground.rows(_LEFT)}") from None
    doomed = await _ids(backlog, "SELECT event_id FROM service_lifecycle_outbox WHERE name = ANY(:names)", names=DOOMED)
    events = int(await backlog.ground.one("SELECT count(*) FROM service_lifecycle_outbox"))
    for projector, table in TABLES.items():
        lost = doomed if projector == "activity" else set()
        (counted,) = await backlog.ground.rows(_COUNTED.format(table=table))
        assert set(counted.values()) == {events - len(lost)}, (projector, events, counted)
        assert await _ids(backlog, _MISSING.format(table=table)) == lost
        assert await _ids(backlog, _LEDGER, projector=projector) == lost
        disorder = await backlog.ground.rows(_DISORDER.format(table=table))
        assert disorder == [], (projector, disorder)
    assert await backlog.ground.rows(_UNLIKE) == []
    await crew.own()


async def _ids(backlog: Backlog, sql: str, **values: Any | Sequence[Any]) -> set[Any]:
    return {row["event_id"] for row in await backlog.ground.rows(sql, **values)}
