"""Webhooks come in at two web processes from eight senders, while workers are killed. Each is handled once."""

import asyncio
import base64
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from starters.embedded.ports import free_ports
from starters.embedded.process import Command, GuardedProcess
from starters.stack import HOST, _answers
from tests.chaos.crew import NAMES, Crew
from tests.chaos.ground import Ground
from tests.chaos.waiting import until
from tests.factories import add_channel, add_connection
from workflows.reconcile import SCHEDULE

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]
SETTINGS = {"RUNBOOK_WEBHOOK_BATCH": "40"}
SENT, DISTINCT, SENDERS, KILLS, ACCOUNTS = 10_000, 7_000, 8, 10, 100
SECRET: Final = "whsec_" + base64.b64encode(b"a secret that both of them know").decode()
RECOVERS: Final = range(100, DISTINCT, 350)
"""Those whose handler fails in the flow, and at its first retry."""
_TROUBLE: Final = """
CREATE TABLE chaos_pace AS SELECT 0.006::float8 AS seconds;
CREATE FUNCTION chaos() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  PERFORM pg_sleep(seconds) FROM chaos_pace;
  IF NEW.payload ->> 'event' = 'recovers' AND 2 > (
      SELECT attempts FROM service_webhook_deliveries WHERE id = cast(NEW.payload ->> 'delivery' AS uuid)) THEN
    RAISE 'not yet';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER chaos BEFORE INSERT ON service_lifecycle_outbox FOR EACH ROW
  WHEN (NEW.name LIKE 'webhook.%') EXECUTE FUNCTION chaos();
"""
_OPEN: Final = """
SELECT (SELECT count(*) FROM service_webhook_deliveries WHERE status NOT IN ('delivered', 'dead'))
  + (SELECT count(*) FROM service_lifecycle_outbox WHERE status <> 'delivered')"""
_LATE: Final = """
UPDATE service_webhook_deliveries SET lease_until = now() - interval '1 second' WHERE status = 'retrying' RETURNING 1"""
_FOUND: Final = """
SELECT count(*) AS rows, count(DISTINCT delivery_id) AS ids, count(*) FILTER (WHERE status = 'delivered') AS delivered,
  (SELECT count(*) FROM service_lifecycle_outbox WHERE name = 'webhook.received') AS events,
  (SELECT count(DISTINCT payload ->> 'delivery') FROM service_lifecycle_outbox WHERE name = 'webhook.received') AS of,
  (SELECT count(*) FROM service_activity_entries WHERE name = 'webhook.received') AS entries,
  (SELECT count(*) FROM service_ledger_holds) AS holds
-- Reconcile sends some of its own, to see that the ingress works.
FROM service_webhook_deliveries WHERE delivery_id ~ '^msg_[0-9]+$'"""
_REPEATS: Final = """
SELECT delivery_id, count(*) AS times FROM service_webhook_repeats WHERE delivery_id ~ '^msg_[0-9]+$' GROUP BY 1"""


async def test_each_is_handled_once_whoever_is_killed(ground: Ground) -> None:
    await ground.stack.start_worker(NAMES[1])
    crew = Crew(ground, "webhooks")
    await add_channel(ground.platform.sessions, ground.vault, secret=SECRET.encode())
    for number in range(ACCOUNTS):
        await add_connection(ground.platform.sessions, account_id=f"acct_{number}")
    connection = await ground.connect()
    await connection.execute(_TROUBLE)
    await connection.close()
    numbers = [*range(DISTINCT), *random.choices(range(DISTINCT), k=SENT - DISTINCT)]  # noqa: S311 - no secret
    random.shuffle(numbers)

    async with another_web(ground) as other:
        webs = [ground.stack.settings.web_url, other]
        sending = [asyncio.create_task(sent(webs[sender % 2], numbers[sender::SENDERS])) for sender in range(SENDERS)]
        try:
            hits = await killed(ground, crew)
        finally:
            answers = sum(await asyncio.gather(*sending), Counter[str]())
    await ground.rows("UPDATE chaos_pace SET seconds = 0 RETURNING 1")
    # What was killed between its commit and the start of its workflow.
    await ground.rows(_LATE)
    await ground.platform.temporal.get_schedule_handle(SCHEDULE).trigger()

    async def nothing_is_open() -> bool:
        return bool(await ground.one(_OPEN) == 0)

    await until("every delivery is handled, and its event projected", nothing_is_open, within=100)
    [found] = await ground.rows(_FOUND)
    assert found == dict.fromkeys(("rows", "ids", "delivered", "events", "of", "entries"), DISTINCT) | {"holds": 0}
    assert answers == {"accepted": DISTINCT, "duplicate": SENT - DISTINCT}
    again = {f"msg_{number}": times - 1 for number, times in Counter(numbers).items() if times > 1}
    assert {row["delivery_id"]: row["times"] for row in await ground.rows(_REPEATS)} == again
    assert hits >= KILLS / 2
    assert ground.died() == {}


async def killed(ground: Ground, crew: Crew) -> int:
    """Kill a worker ten times. How often it had dispatchers of webhooks."""
    hits = 0
    for kill in range(KILLS):
        await asyncio.sleep(random.uniform(0, 1.5))  # noqa: S311 - a moment that nobody chose
        # Each second time one that has dispatchers: the other would go on for long with those that it had.
        victim = random.choice(NAMES if kill % 2 else await crew.busy())  # noqa: S311 - the same
        hits += bool(await crew.dispatchers_of(victim))
        await crew.kill(victim)
        assert await ground.one("SELECT count(*) FROM service_webhook_deliveries WHERE status = 'pending'")
        await crew.bring_back(victim)
    return hits


async def sent(web: str, numbers: Sequence[int]) -> Counter[str]:
    """Each of them, one after the other. How they were answered."""
    signing, answers = Webhook(SECRET), Counter[str]()
    async with httpx.AsyncClient(base_url=web, timeout=30) as http:
        for number in numbers:
            kind, key, at = "recovers" if number in RECOVERS else "note.changed", f"msg_{number}", datetime.now(UTC)
            body = f'{{"type": "{kind}", "data": {{"account_id": "acct_{number % (2 * ACCOUNTS)}"}}}}'
            headers = {
                "webhook-id": key,
                "webhook-timestamp": str(int(at.timestamp())),
                "webhook-signature": signing.sign(key, at, body),
            }
            answer = await http.post("/webhooks/simulator/app", content=body, headers=headers)
            answers[answer.json()["status"]] += 1
    return answers


@asynccontextmanager
async def another_web(ground: Ground) -> AsyncIterator[str]:
    """A second web process of the same stack, on ports of its own. Its address."""
    stack = ground.stack
    port, private = free_ports(2)
    ports = {"RUNBOOK_WEB_PORT": str(port), "RUNBOOK_WEB_PRIVATE_PORT": str(private)}
    command = Command(
        "another web",
        [sys.executable, "-m", "web"],
        stack.logs() / "another-web.log",
        stack.environment | ports,
        grace=5,
    )
    process = GuardedProcess.start(command, stack._lock)

    try:
        await process.wait_until_ready(_answers(f"http://{HOST}:{private}/healthz"), 30)
        yield f"http://{HOST}:{port}"
    finally:
        await process.stop()
