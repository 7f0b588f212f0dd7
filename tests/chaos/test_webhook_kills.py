"""A delivery whose handler ends the process, each time. It is dead in the end, and nobody else is in trouble for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.chaos.deadly_worker import DEADLY
from tests.chaos.ground import KILLED, Ground
from tests.chaos.waiting import until
from tests.webhook.given import add

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(320)]
ATTEMPTS, AT_FIRST, AT_ONCE = 4, 400, 10
SETTINGS = {
    "RUNBOOK_WEBHOOK_BATCH": "40",
    "RUNBOOK_WEBHOOK_ATTEMPTS": str(ATTEMPTS),
    "RUNBOOK_WEBHOOK_RETRY_FIRST": "1s",
    "RUNBOOK_WEBHOOK_RETRY_MOST": "1s",
    "PYTHONPATH": str(Path(__file__).parents[2]),
}
# At a pace at which others are in somebody's hands whenever the process ends.
_PACE: Final = """
CREATE FUNCTION chaos() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END $$;
CREATE TRIGGER chaos BEFORE INSERT ON service_lifecycle_outbox FOR EACH ROW
  WHEN (NEW.name LIKE 'webhook.%') EXECUTE FUNCTION chaos();
"""
_STATUSES: Final = """
SELECT event, status, count(*) FROM service_webhook_deliveries GROUP BY 1, 2 ORDER BY 1, 2"""
_DEADLY: Final = """
SELECT cause, attempts FROM service_webhook_deliveries WHERE event = :event AND status = 'dead'"""
_EVENTS: Final = """
SELECT count(*) AS events, count(DISTINCT payload ->> 'delivery') AS of, count(*) FILTER (
  WHERE payload ->> 'event' = :event) AS deadly FROM service_lifecycle_outbox WHERE name = 'webhook.received'"""
_OPEN: Final = """
SELECT (SELECT count(*) FROM service_webhook_deliveries WHERE status NOT IN ('delivered', 'dead'))
  + (SELECT count(*) FROM service_ledger_holds)"""


async def test_a_delivery_that_ends_the_process_of_whoever_handles_it(ground: Ground) -> None:
    engine: Any = ground.platform.sessions.kw["bind"]
    connection = await ground.connect()
    await connection.execute(_PACE)
    await connection.close()
    await ground.stack.processes["worker"].stop()
    innocents = {"provider_id": "'simulator'", "part": "i % 16", "event": "'note.changed'"}
    among = {"event": f"CASE i WHEN {AT_FIRST // 2} THEN '{DEADLY}' ELSE 'note.changed' END"}
    await add(engine, AT_FIRST, **(innocents | among))
    sent = AT_FIRST - 1

    async def nothing_is_open() -> bool:
        nonlocal sent
        if not await ground.rows(_DEADLY, event=DEADLY):
            # Others come in all the time.
            await add(engine, AT_ONCE, **innocents)
            sent += AT_ONCE
            await asyncio.sleep(0.5)
        return bool(await ground.one(_OPEN) == 0)

    async with kept(ground) as ends:
        try:
            await until("every delivery is delivered or dead", nothing_is_open, within=220)
        except AssertionError as vain:
            raise AssertionError(f"{vain}: {await ground.rows(_STATUSES)}, ended {ends}") from None

    assert await ground.rows(_STATUSES) == [
        {"event": DEADLY, "status": "dead", "count": 1},
        {"event": "note.changed", "status": "delivered", "count": sent},
    ]
    [row] = await ground.rows(_DEADLY, event=DEADLY)
    assert (row["attempts"], row["cause"].partition(",")[0]) == (ATTEMPTS, "Crash: alone in its batch")
    # Among others, among fewer, alone: then it left the flow, and had the attempts of its own workflow.
    assert set(ends) == {KILLED}
    assert 0 <= len(ends) - (3 + ATTEMPTS - 1) <= 2
    assert await ground.rows(_EVENTS, event=DEADLY) == [{"events": sent, "of": sent, "deadly": 0}]


@asynccontextmanager
async def kept(ground: Ground) -> AsyncIterator[list[int]]:
    """Somebody starts the deadly worker again whenever it ended. With what exit codes it has."""
    ends: list[int] = []

    async def keep() -> None:
        while True:
            ends.append(await ground.stack._spawn("worker", "tests.chaos.deadly_worker").wait())

    keeper = asyncio.create_task(keep())
    try:
        yield ends
    finally:
        keeper.cancel()
