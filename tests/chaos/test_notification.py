"""A receiver that fails now and then: what fails is in trouble, and nothing else; and who was killed loses nothing."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.chaos.ground import Ground, Victim
from tests.chaos.news import DEFINITIONS, News
from tests.chaos.waiting import until
from tests.notification.sink import Sink

pytestmark = pytest.mark.timeout(300)
SETTINGS = {
    "RUNBOOK_NOTIFICATIONS": DEFINITIONS,
    "RUNBOOK_NOTIFY_ATTEMPTS": "4",
    "RUNBOOK_NOTIFY_RETRY_FIRST": "1s",
    "RUNBOOK_NOTIFY_RETRY_MOST": "1s",
}

_ERRORS = """
SELECT entry->>'error' AS error, count(*) FROM service_notification_dispatches, jsonb_array_elements(history) AS entry
GROUP BY 1 ORDER BY 2 DESC"""


@pytest.mark.chaos
async def test_only_what_fails_gets_workflows_and_only_what_always_fails_is_dead(ground: Ground) -> None:
    news = await flaky(ground, "of-2000")
    await news.tell(2000)

    assert await news.ends(within=240) == {"delivered": 1980, "dead": 20}
    assert await ground.rows(_ERRORS) == [
        {"error": "HTTP 503: the receiver answered 503: it is in trouble", "count": 260}
    ]
    assert await counted(ground, "of-2000") == {
        "arrivals": 1800 + 2 * 180 + 4 * 20,
        "accepted": 1980,
        "keys": 2000,
        "accepted_keys": 1980,
        "accepted_twice": 0,
        "after_acceptance": 0,
        "attempts": {"1": 1800, "2": 180, "4": 20},
    }
    failing = {each.workflow_id for each in await news.dispatches() if each.attempts > 1}
    assert len(failing) == 200
    await until("Temporal's list shows their workflows", has_all(news, failing))
    assert await news.workflows() == failing


async def test_a_worker_is_killed_in_the_middle(ground: Ground, sink: Sink, news: News) -> None:
    """The small one; `test_notification_kills` kills one of two, twenty times."""
    sink.seconds = 0.2
    await news.tell(300)
    await news.has(1, "delivered")
    await ground.kill(Victim.WORKER)
    in_hand = set(await news.in_hand())
    sink.seconds = 0
    await ground.bring_back(Victim.WORKER)
    await news.a_minute_later(in_hand)

    assert await news.ends() == {"delivered": 300}
    assert in_hand, "the kill fell into sendings"
    accepted = Counter(sink.accepted)
    assert set(accepted) == {each.key for each in await news.dispatches()}
    assert {key for key, times in accepted.items() if times > 1} <= {each.key for each in in_hand}
    assert max(accepted.values()) <= 2


async def flaky(ground: Ground, inbox: str) -> News:
    """News for an inbox that fails 10 % of first attempts, and 1 % always."""
    for always in ({"share": 0.01}, {"share": 0.1, "per_key": 1}):
        await ground.provider.fault(kind="status", path=f"/inbox/{inbox}", share_of="keys", **always)
    news = News(ground)
    await news.goes_to(f"{ground.stack.simulator_url}/inbox/{inbox}")
    return news


async def counted(ground: Ground, inbox: str) -> dict[str, Any]:
    found: dict[str, Any] = (await ground.provider.inboxes())[inbox]
    return found


def has_all(news: News, wanted: set[str]) -> Any:
    async def probe() -> bool:
        await asyncio.sleep(1)
        return await news.workflows() >= wanted

    return probe
