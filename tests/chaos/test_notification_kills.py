"""A worker is killed again and again while messages are sent, and while dead ones are replayed.

Nothing is lost. What arrives again has the key that it had, and was in hand at a kill.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from uuid import UUID

import pytest

from activities.notification import WIDTH
from integrations import temporal
from integrations.db import replay, replay_plans
from integrations.domain.filters import Filters
from integrations.domain.replay import Outcome, PlanStatus, ReplayRequest
from tests.chaos.crew import NAMES, Crew
from tests.chaos.news import DEFINITIONS, Dispatch, News
from tests.notification.sink import Sink

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]
BATCH = 20
SETTINGS = {
    "RUNBOOK_NOTIFICATIONS": DEFINITIONS,
    "RUNBOOK_NOTIFY_BATCH": f"{BATCH}",
    "RUNBOOK_NOTIFY_ATTEMPTS": "4",
    "RUNBOOK_NOTIFY_RETRY_FIRST": "1s",
    "RUNBOOK_NOTIFY_RETRY_MOST": "1s",
}
KILLS = 20
MESSAGES = 2000
REPLAYED = 600
REPLAY_KILLS = 5
PACE = 0.25
"""Seconds that the receiver takes: kills fall into sendings."""
IN_HAND = BATCH + 3 * WIDTH
"""At most of a dispatcher: one claim, beside what of the one before still waits for its turn or is on its way."""


async def test_one_of_two_workers_is_killed_twenty_times(news: News, couriers: Crew, sink: Sink) -> None:
    sink.answers, sink.seconds = flaky, PACE
    await news.tell(MESSAGES)
    await news.has(50, "delivered")
    lost: list[Dispatch] = []

    for kill in range(KILLS):
        await asyncio.sleep(random.uniform(0, 2))  # noqa: S311 - a moment that nobody chose
        # Each second time the one that has the dispatcher: the other one would send on alone for long.
        victim = random.choice(NAMES) if kill % 2 else await couriers.who_has(0)  # noqa: S311 - the same
        await couriers.kill(victim)
        lost += await in_hand(news)
        assert (await news.counts()).get("pending", 0), f"nothing was pending any more after {kill} kills"
        await couriers.bring_back(victim)
    sink.seconds = 0
    await news.a_minute_later(lost)

    assert set(await news.ends(within=200)) == {"delivered", "dead"}
    told = await news.dispatches()
    assert {each.key for each in told if each.status == "dead"} == {each.key for each in told if is_doomed(each.key)}
    assert {each.key for each in told if each.status == "delivered"} == set(sink.accepted)
    assert lost, "no kill fell into a sending"
    no_more_than_kills_explain(sink, lost)


async def test_dead_ones_are_replayed_meanwhile(news: News, couriers: Crew, sink: Sink) -> None:
    sessions, client = news.ground.platform.sessions, news.ground.platform.temporal
    await news.tell(REPLAYED)
    assert await news.ends() == {"delivered": REPLAYED}
    killed = (
        "UPDATE service_notification_dispatches SET status = 'dead', cause = 'refused' WHERE id = ANY(:ids) RETURNING 1"
    )
    await news.ground.rows(killed, ids=[each.id for each in await news.dispatches()])
    async with sessions.begin() as session:
        plan = await replay_plans.make(session, "notifications", Filters(cause="refused"), by="ada", reason="fixed")
    sink.seconds = PACE
    sink.forget()
    request = ReplayRequest(plan_id=plan.plan_id, ledger="notifications", rate=100, by="ada", reason="fixed")
    await temporal.start_replay(client, request)
    lost: list[Dispatch] = []

    for _ in range(REPLAY_KILLS):
        await asyncio.sleep(random.uniform(1, 3))  # noqa: S311 - a moment that nobody chose
        victim = await couriers.who_has(0)
        await couriers.kill(victim)
        mine = await in_hand(news)
        await news.a_minute_later(mine)
        lost += mine
        async with sessions.begin() as session:
            done = (await replay.seen(session, plan.plan_id)).done
        await couriers.bring_back(victim)

    outcome = await ended(news, plan.plan_id)
    assert (outcome.status, outcome.delivered, outcome.count) == (PlanStatus.DONE, plan.count, REPLAYED)
    assert 0 < done < REPLAYED, "the kills fell inside"
    assert await news.counts() == {"delivered": REPLAYED}
    assert {each.key for each in await news.dispatches()} == set(sink.accepted)
    no_more_than_kills_explain(sink, lost)


def is_doomed(key: str) -> bool:
    return int(sha256(key.encode()).hexdigest(), 16) % 100 == 0


def flaky(key: str, nth: int) -> int:
    """One of a hundred always fails, ten of them at first."""
    fails_at_first = int(sha256(key.encode()).hexdigest(), 16) % 10 == 0
    return 503 if is_doomed(key) or (fails_at_first and nth == 1) else 202


async def in_hand(news: News) -> list[Dispatch]:
    """What was so at a kill: of its victim, or of the other one."""
    found = await news.in_hand()
    assert len([each for each in found if each.status == "processing"]) <= 2 * IN_HAND
    return found


def no_more_than_kills_explain(sink: Sink, lost: Sequence[Dispatch]) -> None:
    """A message that was taken came again at most once for each kill that it was in hand at."""
    times = Counter(each.key for each in lost)
    unexplained = {key: n for key, n in Counter(sink.accepted).items() if n > 1 + times[key]}
    assert unexplained == {}


async def ended(news: News, plan_id: UUID) -> Outcome:
    async with asyncio.timeout(200):
        while True:
            sql = "SELECT status, outcome FROM service_replay_plans WHERE id = :id"
            (row,) = await news.ground.rows(sql, id=plan_id)
            if PlanStatus(row["status"]).ended:
                return Outcome.model_validate(row["outcome"])
            await asyncio.sleep(0.2)
