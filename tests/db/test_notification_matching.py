"""What a plan of dead notifications says of each of them, on rows that a dispatcher left behind."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db import notification_matching, replay, replay_plans
from integrations.db.vault import Vault
from integrations.domain.errors import StopError
from integrations.domain.filters import Filters
from integrations.domain.ledger import ItemStatus
from integrations.domain.notification import Definition
from integrations.domain.replay import Planned, Release, ReplayRequest
from tests.notification.ground import IDLE, Ground, definition, ground
from tests.notification.sink import Sink, receiving
from tests.outbox.events import add_events, rows

SUPERSEDED = definition(superseded_by=("told.*", "over.*"))


@pytest_asyncio.fixture
async def told(engine: AsyncEngine, database_url: str, vault: Vault) -> AsyncIterator[Ground]:
    async with ground(engine, database_url, vault) as made:
        yield made


@pytest_asyncio.fixture
async def sink(told: Ground) -> AsyncIterator[Sink]:
    """Where the operators' webhook leads, and everything is refused."""
    async with receiving(lambda _key, _nth: 410) as made:
        await told.add_address(made.url)
        yield made


async def die(told: Ground, count: int = 1, name: str = "told.news", **more: Any) -> None:
    """So many events, and what is to be told of them dead, or for nobody."""
    await add_events(told.engine, count, name=name, **more)
    await told.request()
    await told.work(until=IDLE)


async def planned(told: Ground, *definitions: Definition, **filters: Any) -> Planned:
    async with told.sessions.begin() as session:
        return await replay_plans.make(
            session,
            "notifications",
            Filters(**filters),
            by="ada",
            reason="fixed",
            judged=lambda found: notification_matching.judged(found, definitions or [definition()]),
        )


async def words(told: Ground, *definitions: Definition) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """How many of each verdict, of each recipient's word, and of each template's."""
    histogram = (await planned(told, *definitions)).histogram
    return dict(histogram["verdict"]), dict(histogram["recipient"]), dict(histogram["template"])


async def replayed(told: Ground, plan: Planned) -> dict[str, int]:
    """What became of the dispatches of a plan that a dispatcher carried out."""
    request = ReplayRequest(plan_id=plan.plan_id, ledger="notifications", by="ada", reason="fixed")
    async with told.sessions.begin() as session:
        await replay_plans.begin(session, request)
        await replay.release(session, Release(plan_id=plan.plan_id, upto=plan.count, rate=100_000, failures=0))
    await told.work(until=f"SELECT upto = total FROM service_replay_progress WHERE plan_id = '{plan.plan_id}'")
    return await told.statuses()


class TestAVerdict:
    async def test_is_to_send_what_nothing_speaks_against(self, told: Ground, sink: Sink) -> None:
        await die(told, 3, connections=3)

        assert await words(told) == ({"send": 3}, {"same": 3}, {"same": 3})

    async def test_is_to_collapse_what_a_later_event_tells_anew(self, told: Ground, sink: Sink) -> None:
        await die(told, 3)

        verdicts, _, _ = await words(told, SUPERSEDED)

        assert verdicts == {"collapse: into a later told.news": 2, "send": 1}

    async def test_is_to_drop_what_something_else_has_made_old(self, told: Ground, sink: Sink) -> None:
        await die(told)
        await add_events(told.engine, name="over.now")

        assert (await words(told, SUPERSEDED))[0] == {"drop: superseded by over.now": 1}
        assert (await words(told))[0] == {"send": 1}

    async def test_takes_no_pattern_for_more_than_it_says(self, told: Ground, sink: Sink) -> None:
        """A `_` is a letter, and not any; and another connection's news makes nothing old."""
        await die(told)
        await add_events(told.engine, name="overXnow")
        await add_events(told.engine, 3, name="over_now", first=7)

        assert (await words(told, definition(superseded_by=("over_now",))))[0] == {"send": 1}

    async def test_is_to_drop_what_is_no_news_any_more(self, told: Ground, sink: Sink) -> None:
        await die(told)
        await rows(told.engine, "UPDATE service_notification_dispatches SET expires_at = now() RETURNING 1")

        assert (await words(told))[0] == {"drop: no news any more": 1}

    async def test_is_to_drop_what_nothing_defines_any_more(self, told: Ground, sink: Sink) -> None:
        await die(told)

        verdicts, _, templates = await words(told, definition(id="another"))

        assert (verdicts, templates) == ({"drop: its definition is gone": 1}, {"its definition is gone": 1})

    async def test_is_kept_with_each_item(self, told: Ground, sink: Sink) -> None:
        await die(told, 2)

        await planned(told, SUPERSEDED)

        found = await rows(told.engine, "SELECT n, destination, verdict FROM service_replay_items ORDER BY n")
        assert found == [(1, "webhook", "collapse: into a later told.news"), (2, "webhook", "send")]


class TestARecipient:
    async def test_whose_address_is_another_now_is_told_so(self, told: Ground, sink: Sink) -> None:
        await die(told)
        await told.add_address(sink.url.replace("hook", "other"))

        assert (await words(told))[1] == {"address changed since": 1}

    async def test_without_the_address_is_told_so_and_reached_by_none(self, told: Ground, sink: Sink) -> None:
        await die(told)
        await rows(told.engine, "DELETE FROM service_contact_addresses RETURNING 1")

        assert (await words(told))[:2] == ({"nobody: no such address any more": 1}, {"has no such address any more": 1})

    async def test_whose_address_was_removed_and_given_anew_is_reached_again(self, told: Ground, sink: Sink) -> None:
        await die(told)
        await rows(told.engine, "DELETE FROM service_contact_addresses RETURNING 1")
        await told.add_address(sink.url)

        assert (await words(told))[:2] == ({"send": 1}, {"address changed since": 1})
        sink.answers = lambda _key, _nth: 202
        assert await replayed(told, await planned(told)) == {"delivered": 1}

    async def test_that_was_nobody_is_looked_up_again(self, told: Ground) -> None:
        await die(told, 2)

        verdicts, recipients, templates = await words(told)

        assert verdicts == {"send": 2}
        assert (recipients, templates) == ({"had nobody: looked up again": 2}, {"never rendered": 2})


class TestATemplate:
    async def test_that_is_another_now_is_told_so(self, told: Ground, sink: Sink) -> None:
        await die(told)

        assert (await words(told, definition(subject="New")))[2] == {"changed since": 1}


class TestFilters:
    @pytest.mark.parametrize(
        ("filters", "count"),
        [
            ({}, 3),
            ({"channel": "webhook"}, 3),
            ({"channel": "email"}, 0),
            ({"definition": "told"}, 3),
            ({"definition": "another"}, 0),
            ({"recipient": "operators.primary"}, 3),
            ({"recipient": "operators"}, 0),
            ({"cause": "HTTP 410"}, 3),
            ({"event_type": "told.*"}, 3),
            ({"tenant": "org:acme", "since": None, "limit": 2}, 2),
            ({"statuses": (ItemStatus.DELIVERED,)}, 0),
        ],
    )
    async def test_mean_dispatches_by_themselves_and_by_their_events(
        self, told: Ground, sink: Sink, filters: dict[str, Any], count: int
    ) -> None:
        await die(told, 3, connections=3)

        if count:
            assert (await planned(told, **filters)).count == count
        else:
            with pytest.raises(StopError, match=r"nothing matches .*`runbook notifications dead`"):
                await planned(told, **filters)

    async def test_mean_what_reached_nobody_with_the_dead(self, told: Ground) -> None:
        await die(told, 2, age=timedelta(hours=2))

        assert (await planned(told)).histogram["cause"] == {"Nobody: operators.primary has no address": 2}
