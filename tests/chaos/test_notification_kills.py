"""A worker is killed again and again while messages are sent, and while dead ones are replayed.

Nothing is lost. What arrives again has the key that it had, and was in hand at a kill.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Collection
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
from tests.chaos.waiting import until
from tests.notification.sink import Sink

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]
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
REPLAYED = 2_000
REPLAY_KILLS = 5
PACE = 0.25
"""Seconds that the receiver takes: kills fall into sendings."""
IN_HAND = BATCH + 3 * WIDTH
"""At most of a dispatcher: one claim, beside what of the one before still waits for its turn or is on its way."""
_DIE = """
UPDATE service_notification_dispatches SET status = 'dead', cause = 'refused', error = 'refused' WHERE id = ANY(:ids)
RETURNING 1"""


async def test_one_of_two_workers_is_killed_twenty_times(news: News, couriers: Crew, sink: Sink) -> None:
    sink.answers, sink.seconds = flaky, PACE
    await news.tell(MESSAGES)
    await news.has(50, "delivered")
    lost: set[Dispatch] = set()

    for kill in range(KILLS):
        await asyncio.sleep(random.uniform(0, 2))  # noqa: S311 - a moment that nobody chose
        # Each second time the one that has the dispatcher: the other one would send on alone for long.
        victim = random.choice(NAMES) if kill % 2 else await couriers.who_has(0)  # noqa: S311 - the same
        lost |= await killed(news, couriers, victim, lost)
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
    await news.ground.rows(_DIE, ids=[each.id for each in await news.dispatches()])
    async with sessions.begin() as session:
        plan = await replay_plans.make(session, "notifications", Filters(cause="refused"), by="ada", reason="fixed")
    sink.seconds = PACE
    sink.forget()
    request = ReplayRequest(plan_id=plan.plan_id, ledger="notifications", rate=100, by="ada", reason="fixed")
    await temporal.start_replay(client, request)
    lost: set[Dispatch] = set()
    done = 0

    async def went_on() -> bool:
        async with sessions.begin() as session:
            return (await replay.seen(session, plan.plan_id)).done > done

    for _ in range(REPLAY_KILLS):
        # Killed again before anything went well, what stood alone would be taken for the reason.
        await until("the replay went on since the last kill", went_on)
        await news.has(1, "processing")
        await asyncio.sleep(random.uniform(0, 2))  # noqa: S311 - a moment that nobody chose
        victim = await couriers.who_has(0)
        lost |= await killed(news, couriers, victim, lost)
        await news.a_minute_later(lost)
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


async def killed(news: News, couriers: Crew, victim: str, before: Collection[Dispatch]) -> set[Dispatch]:
    """Kill a worker. What was in hand then and not before: of its dispatcher, if it had that, and of its activities."""
    had_it = 0 in await couriers.dispatchers_of(victim)
    await couriers.kill(victim)
    found = {each for each in await news.in_hand() if each.status == "retrying" or had_it} - set(before)
    assert len([each for each in found if each.status == "processing"]) <= IN_HAND
    return found


def no_more_than_kills_explain(sink: Sink, lost: Collection[Dispatch]) -> None:
    """A message that was taken came again at most once for each kill that it was in hand at."""
    times = Counter(each.key for each in lost)
    unexplained = {key: n for key, n in Counter(sink.accepted).items() if n > 1 + times[key]}
    assert unexplained == {}


async def ended(news: News, plan_id: UUID) -> Outcome:
    async def probe() -> bool:
        return bool(
            await news.ground.one("SELECT outcome IS NOT NULL FROM service_replay_plans WHERE id = :id", id=plan_id)
        )

    try:
        await until("the replay has ended", probe, within=120)
    except AssertionError as vain:
        far = await news.ground.rows("SELECT * FROM service_replay_progress WHERE plan_id = :id", id=plan_id)
        raise AssertionError(f"{vain}: {far}, {await news.counts()}") from None
    found = await news.ground.one("SELECT outcome FROM service_replay_plans WHERE id = :id", id=plan_id)
    return Outcome.model_validate(found)
