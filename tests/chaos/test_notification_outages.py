"""The receiver, Postgres, Temporal or a dispatcher goes away while messages are sent, and comes back. All arrive."""

import os
import signal

import pytest

from activities.notification import WIDTH
from integrations.domain.ledger import WHOLE_AFTER
from tests.chaos.crew import NAMES, Crew
from tests.chaos.ground import Victim
from tests.chaos.news import DEFINITIONS, News
from tests.chaos.waiting import until
from tests.notification.sink import Sink

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]
SETTINGS = {
    "RUNBOOK_NOTIFICATIONS": DEFINITIONS,
    "RUNBOOK_NOTIFY_BATCH": "20",
    "RUNBOOK_NOTIFY_ATTEMPTS": "1000",
    "RUNBOOK_NOTIFY_RETRY_FIRST": "1s",
    "RUNBOOK_NOTIFY_RETRY_MOST": "4s",
}
PACE = 0.25
"""Seconds that the receiver takes: the outage falls into sendings."""
MESSAGES = 2_400
DISPATCHER = "notification-dispatch:webhook"


async def begun(news: News, sink: Sink) -> None:
    sink.seconds = PACE
    await news.tell(MESSAGES)
    await news.has(50, "delivered")


async def ended(news: News, sink: Sink) -> None:
    assert (await news.counts()).get("pending", 0) > MESSAGES / 4, "it was over before"
    sink.seconds = 0
    assert await news.ends() == {"delivered": MESSAGES}
    assert {each.key for each in await news.dispatches()} == set(sink.accepted)


async def test_the_receiver_is_down_with_ten_thousand_on_their_way(news: News, couriers: Crew, sink: Sink) -> None:
    sink.answers = lambda _key, _nth: 503
    mail = News(couriers.ground, "mail")
    await mail.goes_to("ada@acme.example", "email")

    await news.tell(10_000)
    await news.has(1000, "held")
    await mail.tell(200)
    assert await mail.ends() == {"delivered": 200}
    await news.has(10_000, "held", "retrying", within=200)

    found = await news.counts()
    assert WHOLE_AFTER <= found["retrying"] < WHOLE_AFTER + WIDTH
    assert len(await news.workflows()) <= found["retrying"]
    sink.answers = lambda _key, _nth: 202
    assert await news.ends(within=200) == {"delivered": 10_000}
    assert len(await news.workflows()) == found["retrying"]
    assert sink.after_success == []


async def test_postgres_is_away(news: News, couriers: Crew, sink: Sink) -> None:
    one, other = NAMES
    await couriers.kill(other)  # what was sent and not written down is known to whoever sent it
    await begun(news, sink)

    await news.ground.stop_postgres()
    await until("the dispatcher has found no database", lambda: has_met_it(news))
    await news.ground.bring_postgres_back()

    await ended(news, sink)
    assert sink.after_success == []
    assert couriers.processes[one].alive()
    await couriers.bring_back(other)


async def test_temporal_is_away(news: News, couriers: Crew, sink: Sink) -> None:
    await begun(news, sink)

    await news.ground.stop_temporal()
    # Longer than a heartbeat is waited for. Some are ended for that at once, the others go on until it is back.
    enough = (await news.counts())["delivered"] + 250

    async def has_met_it_too() -> bool:
        return await has_left(news) or (await news.counts())["delivered"] > enough

    await until("the dispatcher has left its seat, or has gone on for long", has_met_it_too)
    await news.ground.bring_back(Victim.TEMPORAL)

    await ended(news, sink)
    assert couriers.ground.died() == {}
    assert sink.after_success == []


async def test_a_worker_is_frozen_and_wakes_to_what_others_have_sent(news: News, couriers: Crew, sink: Sink) -> None:
    await begun(news, sink)
    frozen = await couriers.who_has(0)
    (other,) = set(NAMES) - {frozen}

    os.kill(couriers.processes[frozen].pid, signal.SIGSTOP)
    try:
        held = {each.key for each in await news.in_hand()}
        # Once its lease is over, what it has is sent by the other one.
        assert await news.ends(within=200) == {"delivered": MESSAGES}
    finally:
        os.kill(couriers.processes[frozen].pid, signal.SIGCONT)

    # It woke up sane: alone, it sends what comes, and nothing that it had.
    await couriers.kill(other)
    await news.tell(20)
    assert await news.ends() == {"delivered": MESSAGES + 20}
    assert set(sink.after_success) <= held
    assert {each.attempts for each in await news.dispatches()} == {1}
    await couriers.bring_back(other)


async def has_met_it(news: News) -> bool:
    described = await news.ground.platform.temporal.get_workflow_handle(DISPATCHER).describe()
    failures = [each.last_failure.message for each in described.raw_description.pending_activities]
    return any("Postgres" in failure for failure in failures)


async def has_left(news: News) -> bool:
    sql = "SELECT NOT running FROM service_dispatchers WHERE ledger = 'notifications' AND number = 0"
    return bool(await news.ground.one(sql))
