"""How another platform's refreshes demote by mistake, as triggers. Of its list of pitfalls:

| W1  | three times 503 in two seconds is the end of a grant                   | here                              |
| W9  | a refresh on its way brings back what was given up                     | test_refresh_sweep.py: meanwhile  |
| W10 | a lock in one process's memory                                         | test_sweep.py: twenty triggers    |
| W11 | two callers, one rotating token, and the second sends the old one      | test_refresh_sweep.py: shares     |
| W12 | an answer that names no grants takes them all away                     | here                              |
| W13 | one scope that was declined blocks all at the first refresh            | here                              |
| W14 | a lease that ends before the call, and is given back by somebody else  | test_refresh_sweep.py: lost lease |
| W17 | two writes with one key, two payloads                                  | tests/job                         |
| W18 | a way around the gate                                                  | tests/job                         |
| W28 | client credentials that nobody renews                                  | test_refresh_sweep.py             |
| W29 | nothing is ever forgotten                                              | test_refresh_sweep.py: retired    |
| W32 | everything at the same moment                                          | here                              |
"""

from collections import Counter
from datetime import UTC, datetime, timedelta

from temporalio.client import Client

from integrations.db.session import Sessions
from integrations.db.tables import GrantEvent, Transition
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.refresh import due_at
from tests.factories import every
from tests.providers.person import Person
from tests.refresh.conftest import Working
from tests.refresh.ground import active, add_due, statuses
from tests.refresh.test_sweep import refreshed, sweep, until


async def untouched(sessions: Sessions) -> bool:
    """Nobody was demoted, and no owner is asked anything."""
    quiet = await every(sessions, GrantEvent) == [] and await every(sessions, Transition) == []
    return quiet and set((await statuses(sessions)).values()) == {Status.ACTIVE}


class TestThreeTimes503InTwoSeconds:
    """W1."""

    async def test_is_no_revocation(
        self, working: Working, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 1)
        await ground.breaks(kind="status", status=503, count=3)

        await sweep(client)

        async def it_is_refreshed() -> bool:
            return await refreshed(sessions, ground) == 1

        await until(it_is_refreshed, "the refresh after the third 503", within=40)
        assert len(await ground.asked()) == 4
        assert await untouched(sessions)


class TestAnAnswerThatNamesNoGrants:
    """W12."""

    async def test_takes_none_away(
        self, working: Working, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        await person.settings(echo_scope=False)
        ground = await add_due(sessions, vault, person.http, 20)

        await sweep(client)

        async def all_are_refreshed() -> bool:
            return await refreshed(sessions, ground) == 20

        await until(all_are_refreshed, "twenty refreshes", within=30)
        assert await untouched(sessions)
        assert {tuple(row.grants) for row in (await active(sessions)).values()} == {
            ("notes.read", "notes.write", "profile")
        }


class TestAScopeThatWasDeclined:
    """W13: the owner allowed to read and not to write. What reads goes on reading."""

    async def test_blocks_nothing_at_the_first_refresh(
        self, working: Working, client: Client, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        ground = await add_due(sessions, vault, person.http, 3, grants=["notes.read", "profile"])

        await sweep(client)

        async def all_are_refreshed() -> bool:
            return await refreshed(sessions, ground) == 3

        await until(all_are_refreshed, "three refreshes", within=30)
        assert await untouched(sessions)


class TestAThousandConnectedInOneMinute:
    """W32."""

    def test_are_not_refreshed_in_one_minute(self) -> None:
        now = datetime.now(UTC)
        lead = timedelta(minutes=15)
        expiring = [due_at(now, now + timedelta(hours=1), lead, n / 1000) for n in range(1000)]
        lasting = [due_at(now, None, lead, n / 1000) for n in range(1000)]

        for moments, longest in ((expiring, timedelta(minutes=45)), (lasting, timedelta(hours=24))):
            each_minute = Counter(int((moment - now).total_seconds()) // 60 for moment in moments)
            assert max(each_minute.values()) < 150
            assert max(moments) - now <= longest
            assert min(moments) - now >= longest * 0.79

    def test_and_a_token_that_lives_shorter_than_its_lead_is_not_refreshed_all_the_time(self) -> None:
        now = datetime.now(UTC)

        assert due_at(now, now + timedelta(minutes=10), timedelta(minutes=15), 0) == now + timedelta(minutes=5)
        assert due_at(now, now - timedelta(minutes=10), timedelta(minutes=15), 0) == now
