import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db import outage_looks, outages
from integrations.db.call_tables import ProviderTail
from integrations.db.outage_looks import Look
from integrations.db.outage_tables import Outage
from integrations.db.session import Sessions
from integrations.domain.outage import OURS, Ended, Limits, Scope
from integrations.domain.outage_look import Suspect
from integrations.domain.verdict import Meaning
from tests.db import test_outage_counts
from tests.db.test_calls import many
from tests.db.test_outage_counts import SECOND, add
from tests.factories import every

OUTAGE, OK = Meaning.OUTAGE, Meaning.OK
MINUTE = timedelta(minutes=1)


def made(ago: timedelta, outcome: Meaning = OK, tenant: str = "org:acme", **changes: Any) -> Any:
    """A refresh at the simulator so long ago."""
    return test_outage_counts.made(ago, outcome, tenant, **({"at": datetime.now(UTC) - ago} | changes))


async def look(sessions: Sessions, limits: Limits = Limits()) -> Look:
    async with sessions.begin() as session:
        return await outage_looks.look(session, limits)


async def suspect(sessions: Sessions, limits: Limits = Limits()) -> Suspect | None:
    found = (await look(sessions, limits)).suspects
    assert len(found) < 2
    return found[0] if found else None


async def closed(
    sessions: Sessions,
    ago: timedelta,
    provider_id: str = "simulator",
    names: Sequence[str] = (),
    ended: Ended = Ended.BY_HAND,
) -> None:
    async with sessions.begin() as session:
        outage_id, _ = await outages.found(
            session, provider_id, scope=Scope.PROVIDER, names=names, reason="a test", by="ada"
        )
        await outages.close(session, outage_id, ended, by="ada", reason="seen")
        at = datetime.now(UTC) - ago
        await session.execute(update(Outage).where(Outage.id == outage_id).values(closed_at=at))


class TestAProviderIsSuspected:
    async def test_with_twenty_calls_of_which_half_fail_in_a_minute(self, sessions: Sessions) -> None:
        await add(sessions, *(made(50 * SECOND, OUTAGE) for _ in range(10)), *(made(40 * SECOND) for _ in range(10)))

        found = await suspect(sessions)

        assert found is not None
        assert (found.provider_id, found.window, found.calls, found.failing) == ("simulator", MINUTE, 20, 10)
        assert found.whole
        assert timedelta(seconds=59) < datetime.now(UTC) - found.since < timedelta(seconds=65)

    async def test_two_looks_after_it_begins_in_full_traffic(self, sessions: Sessions) -> None:
        """Most calls of the minute were fine; of the half of it that the short window is, most fail."""
        fine = [made(timedelta(seconds=16 + n / 10)) for n in range(400)]
        await add(sessions, *fine, *(made(timedelta(seconds=n / 10), OUTAGE) for n in range(1, 155)))

        found = await suspect(sessions)

        assert found is not None
        assert (found.window, found.failing) == (30 * SECOND, 154)

    async def test_of_a_part_when_an_endpoint_or_a_tenant_fails_alone(self, sessions: Sessions) -> None:
        fine = [made(SECOND, tenant=f"org:{n % 9}") for n in range(100)]
        endpoint = [made(SECOND, OUTAGE, tenant=f"org:{n % 9}", endpoint="notes.read") for n in range(20)]
        tenant = [made(SECOND, OUTAGE, tenant="org:acme", provider_id="github") for n in range(20)]
        theirs = [made(SECOND, provider_id="github", tenant="org:umbrella") for _ in range(100)]
        await add(sessions, *fine, *endpoint, *tenant, *theirs)

        found = {each.provider_id: each for each in (await look(sessions)).suspects}

        assert {name: (each.calls, each.failing, each.whole) for name, each in found.items()} == {
            "simulator": (20, 20, False),
            "github": (20, 20, False),
        }

    async def test_not_by_fewer_calls_or_a_smaller_share_or_older_ones(self, sessions: Sessions) -> None:
        few = [made(SECOND, OUTAGE, provider_id="github") for _ in range(19)]
        share = [made(SECOND, OUTAGE if n < 9 else OK, provider_id="slack") for n in range(20)]
        older = [made(61 * SECOND, OUTAGE, provider_id="stripe") for n in range(20)]
        await add(sessions, *few, *share, *older, made(SECOND, provider_id="stripe"))

        # Of nineteen that all failed one thinks as of a quiet provider's.
        assert {each.provider_id: each.certain for each in (await look(sessions)).suspects} == {"github": False}

    async def test_not_by_what_came_before_its_last_outage_was_closed(self, sessions: Sessions) -> None:
        await add(sessions, *(made(20 * SECOND, OUTAGE) for _ in range(50)), *(made(SECOND, OUTAGE) for _ in range(4)))
        await closed(sessions, 10 * SECOND)

        assert await suspect(sessions) is None

        await add(sessions, made(SECOND, OUTAGE))

        found = await suspect(sessions)
        assert found is not None
        assert (found.certain, found.calls) == (False, 5)

    async def test_not_by_what_came_before_an_outage_of_our_own_was_closed(self, sessions: Sessions) -> None:
        await add(sessions, *(made(20 * SECOND, OUTAGE) for _ in range(50)))
        await closed(sessions, 10 * SECOND, OURS, ["github", "simulator"])

        assert await suspect(sessions) is None

    @pytest.mark.parametrize(
        ("names", "ended"),
        [(["github"], Ended.HEALED), ([], Ended.BY_HAND), (["github", "simulator"], Ended.UNFOUNDED)],
        ids=["another's", "nobody's", "that held nobody"],
    )
    async def test_by_what_an_outage_of_our_own_has_not_judged(
        self, sessions: Sessions, names: list[str], ended: Ended
    ) -> None:
        await add(sessions, *(made(20 * SECOND, OUTAGE) for _ in range(50)))
        await closed(sessions, 10 * SECOND, OURS, names, ended)

        assert await suspect(sessions) is not None

    async def test_beside_those_that_were_called(self, sessions: Sessions) -> None:
        await add(sessions, made(SECOND), made(2 * MINUTE, provider_id="github"))

        assert (await look(sessions)).called == {"simulator"}


class TestAQuietProvider:
    async def test_with_one_call_each_five_minutes_is_suspected_at_the_fifth_that_fails(
        self, sessions: Sessions
    ) -> None:
        for n in range(5, 0, -1):
            assert await suspect(sessions) is None
            await add(sessions, made(n * 5 * MINUTE, OUTAGE))

        found = await suspect(sessions)

        assert found is not None
        assert (found.window, found.certain, found.calls, found.failing) == (None, False, 5, 5)
        assert timedelta(minutes=24) < datetime.now(UTC) - found.since < timedelta(minutes=26)

    async def test_is_not_suspected_any_more_once_a_probe_is_answered(self, sessions: Sessions) -> None:
        await add(sessions, *(made(n * 5 * MINUTE, OUTAGE) for n in range(1, 9)))
        await add(sessions, made(SECOND))

        assert await suspect(sessions) is None

        await add(sessions, *(made(timedelta(seconds=n / 10), OUTAGE) for n in range(1, 5)))

        assert await suspect(sessions) is None

    async def test_is_whoever_has_too_few_calls_to_trip(self, sessions: Sessions) -> None:
        await add(sessions, made(50 * SECOND), *(made(n * SECOND, OUTAGE) for n in range(1, 20)))
        busy = [made(n * SECOND, OUTAGE if n < 8 else OK, provider_id="github") for n in range(1, 30)]
        await add(sessions, *busy)

        found = await suspect(sessions, Limits(calls=25))

        assert found is not None
        assert (found.provider_id, found.certain) == ("simulator", False)

    async def test_is_not_suspected_of_what_is_older_than_a_week(self, sessions: Sessions) -> None:
        await add(sessions, *(made(timedelta(days=7, hours=1) + n * MINUTE, OUTAGE) for n in range(5)))

        assert await suspect(sessions) is None


class TestATail:
    async def tail(self, sessions: Sessions) -> list[timedelta]:
        [found] = await every(sessions, ProviderTail)
        return [test_outage_counts.NOW - at for at in found.failing_at]

    @pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (2, 0, 3, 1)])
    async def test_is_the_same_in_whatever_order_batches_arrive(
        self, sessions: Sessions, order: tuple[int, ...]
    ) -> None:
        then = test_outage_counts.made
        batches = [
            [then(9 * SECOND, OUTAGE), then(8 * SECOND)],
            [then(7 * SECOND, OUTAGE), then(6 * SECOND, Meaning.THROTTLED)],
            [then(5 * SECOND, Meaning.OWNER_MUST_ACT), then(4 * SECOND, Meaning.RETRY)],
            [then(3 * SECOND, OUTAGE)],
        ]

        for n in order:
            await add(sessions, *batches[n])

        assert await self.tail(sessions) == [3 * SECOND, 4 * SECOND]

    async def test_counts_no_call_twice(self, sessions: Sessions) -> None:
        batch = [test_outage_counts.made(SECOND, OUTAGE)]

        await add(sessions, *batch)
        await add(sessions, *batch)

        assert await self.tail(sessions) == [SECOND]

    async def test_keeps_the_newest(self, sessions: Sessions) -> None:
        for some in (range(1, 20), range(20, 40)):
            await add(sessions, *(test_outage_counts.made(n * SECOND, OUTAGE) for n in some))

        assert await self.tail(sessions) == [n * SECOND for n in range(1, 21)]

    async def test_is_left_alone_while_a_provider_answers(self, engine: AsyncEngine, sessions: Sessions) -> None:
        for n in range(9, 0, -1):
            await add(sessions, test_outage_counts.made(n * SECOND))

        async with engine.connect() as connection:
            versions = await connection.scalar(text("SELECT xmax::text::bigint FROM service_provider_tails"))
        assert versions == 0


class TestOneLook:
    async def test_walks_over_the_keys_last_part_only(self, engine: AsyncEngine, sessions: Sessions) -> None:
        await many(sessions, 30_000, timedelta(days=2))
        await add(sessions, made(SECOND))
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("VACUUM ANALYZE service_provider_calls"))

        async with sessions.begin() as session:
            explained = text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {outage_looks._LOOK.text}")
            limits = Limits()
            asked = {"back": limits.window, "recent": limits.recent, "calls": limits.calls, "share": limits.share}
            [[plan]] = (await session.execute(explained, asked)).scalars()

        assert "pk_service_provider_calls" in json.dumps(plan)
        assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 50
