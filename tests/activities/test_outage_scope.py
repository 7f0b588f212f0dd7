"""How far an outage reaches, by rows and by probes of a real provider."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from temporalio.testing import ActivityEnvironment

from activities.outage import OutageActivities
from integrations.db import parked
from integrations.db.outage_tables import Outage
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.domain.gate import Purpose
from integrations.domain.outage import (
    DETECTOR,
    OURS,
    Baseline,
    Brake,
    Cell,
    Finding,
    Isolate,
    Limits,
    OutageRequest,
    Progress,
    Scope,
    Target,
)
from integrations.domain.outage_steps import Scoped, Scoping, Tick, Validated
from integrations.domain.outage_targets import targets
from integrations.domain.verdict import Meaning
from integrations.providers.oauth import Providers
from tests.db.test_outage_counts import add, made
from tests.factories import every
from tests.outage_rows import FINDING, add_outage, add_parked, outage
from tests.providers.person import Person
from tests.refresh.ground import Due, add_due, at_several

SECOND = timedelta(seconds=1)


@pytest.fixture
def steps(sessions: Sessions, vault: Vault, providers: Providers) -> OutageActivities:
    return OutageActivities(sessions, vault, at_several(providers, "small", "large"), Limits())


async def scoped(
    steps: OutageActivities,
    outage_id: UUID,
    provider_id: str = "simulator",
    wish: Isolate | None = None,
    targets: tuple[Target, ...] = (),
) -> Scoped:
    request = OutageRequest(provider_id=provider_id, by=DETECTOR, reason="a test")
    asked = Scoping(
        request=request, progress=Progress(outage_id=outage_id, limits=Limits(), targets=targets), wish=wish
    )
    found: Scoped = await ActivityEnvironment().run(steps.scope, asked)
    return found


async def connections(sessions: Sessions, vault: Vault, person: Person, *tenants: str) -> Due:
    later = -timedelta(hours=1)
    return await add_due(sessions, vault, person.http, 2 * len(tenants), overdue=later, tenants=tenants)


async def calls(sessions: Sessions, *cells: tuple[str, str, int, int]) -> None:
    """Endpoint, tenant, calls, and how many of them fail: of the last seconds."""
    now = datetime.now(UTC)
    await add(
        sessions,
        *(
            made(SECOND, Meaning.OUTAGE if n < failing else Meaning.OK, tenant, endpoint=endpoint, at=now - SECOND * 2)
            for endpoint, tenant, count, failing in cells
            for n in range(count)
        ),
    )


def finding(**changes: Any) -> Finding:
    return FINDING.model_copy(update=changes)


class TestProbes:
    async def test_of_others_tell_a_tenants_trouble_from_the_providers(
        self, steps: OutageActivities, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        await connections(sessions, vault, person, *["acme"] * 9, "globex")
        await calls(sessions, ("notes.read", "org:acme", 30, 30))

        theirs = await scoped(steps, await add_outage(sessions))
        await person.http.post("/admin/faults", json={"kind": "status", "status": 503, "path": "/api"})
        everybodys = await scoped(steps, await add_outage(sessions))

        assert (theirs.scope, theirs.names) == (Scope.TENANT, ("org:acme",))
        assert {each.brake for each in theirs.targets} == {Brake.TENANT, Brake.SHIELD}
        # The token endpoint was probed as well, and answers.
        assert everybodys.scope is Scope.ENDPOINT
        assert "notes.read" in everybodys.names

    async def test_that_ask_for_time_are_told(
        self, steps: OutageActivities, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        await connections(sessions, vault, person, "acme", "globex")
        await calls(sessions, ("notes.read", "org:acme", 30, 30))
        await person.http.post("/admin/faults", json={"kind": "throttle", "retry_after": 77})

        found = await scoped(steps, await add_outage(sessions))

        assert (found.scope, found.after) == (Scope.PROVIDER, timedelta(seconds=77))

    async def test_that_are_answered_clear_a_suspicion(
        self, steps: OutageActivities, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        await connections(sessions, vault, person, "acme")
        await calls(sessions, ("notes.read", "org:acme", 5, 5))

        found = await scoped(steps, await add_outage(sessions, finding=finding(certain=False)))

        assert (found.targets, found.clear) == ((), True)
        assert "2 probes were answered" in found.why

    async def test_of_a_token_endpoint_touch_no_grant(
        self, steps: OutageActivities, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        due = await connections(sessions, vault, person, "acme")
        await calls(sessions, ("token", "org:acme", 5, 5))

        found = await scoped(steps, await add_outage(sessions, finding=finding(certain=False)))

        assert found.targets == ()
        assert "invalid_grant" in found.why
        # Nobody's token was sent, and none was rotated or revoked for it.
        assert await due.asked() == []
        grants = (await person.http.get("/admin/grants")).json()
        mine = set(due.accounts.values())
        assert all(each["revoked_at"] is None for each in grants if each["account_id"] in mine)


class TestTheReach:
    async def test_is_told_where_many_tenants_are_counted_together(
        self, steps: OutageActivities, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        """More fields than stand for themselves, and one tenant alone at an endpoint that nobody else could call."""
        await connections(sessions, vault, person, "noisy")
        many = [
            (endpoint, f"org:{number}", 2, 0)
            for number in range(25)
            for endpoint in ("notes.read", "notes.write", "token")
        ]
        await calls(sessions, *many, ("profile.read", "org:noisy", 30, 30))

        found = await scoped(steps, await add_outage(sessions))

        assert (found.scope, found.names) == (Scope.ENDPOINT, ("profile.read",))

    async def test_is_what_a_person_says(
        self, steps: OutageActivities, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        await connections(sessions, vault, person, "acme")
        wish = Isolate(by="ada", reason="they say so", endpoint="notes.write")

        found = await scoped(steps, await add_outage(sessions), wish=wish)

        assert [(each.brake, each.name) for each in found.targets] == [(Brake.CIRCUIT, "notes.write")]
        assert "ada" in found.why

    async def test_that_a_person_adds_takes_nothing_from_what_the_row_says(
        self, steps: OutageActivities, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        """A job beside the tenant is still held back, and would be told to go on into the brake."""
        await connections(sessions, vault, person, "acme")
        outage_id = await add_outage(sessions)
        await add_parked(sessions, "org:other", parked_at=datetime.now(UTC) - timedelta(minutes=5))
        held = targets("simulator", Scope.PROVIDER, (), 10.0)
        wish = Isolate(by="ada", reason="they say so", tenant="org:acme")

        for _ in range(2):
            found = await scoped(steps, outage_id, wish=wish, targets=held)

        assert [(each.brake, each.name) for each in found.targets][:1] == [(Brake.TENANT, "org:acme")]
        row = await outage(sessions, outage_id)
        assert (row.scope, row.names) == (Scope.PROVIDER, [])
        async with sessions.begin() as session:
            assert await parked.forgotten(session) == []

    async def test_of_our_own_way_out_leaves_out_whom_nobody_knows_and_who_is_looked_after(
        self, steps: OutageActivities, sessions: Sessions
    ) -> None:
        names = ("gone", "large", "simulator", "small")
        outage_id = await add_outage(sessions, OURS, scope=Scope.OURS, names=names)
        await add_outage(sessions, "large")

        found = await scoped(steps, outage_id, OURS)

        assert found.names == ("simulator", "small")
        assert {each.provider_id for each in found.targets} == {"simulator", "small"}

    async def test_of_our_own_way_out_is_validated_by_how_all_of_them_were_before(
        self, steps: OutageActivities, sessions: Sessions
    ) -> None:
        outage_id = await add_outage(sessions, OURS, scope=Scope.OURS, names=("simulator", "small"))
        now, ago = datetime.now(UTC), timedelta(minutes=2)
        fine = (made(ago, purpose=Purpose.USE, provider_id=each, at=now - ago) for each in ("simulator", "small"))
        await add(sessions, *fine, made(SECOND, Meaning.OUTAGE, purpose=Purpose.USE, at=now - SECOND))

        found = await scoped(steps, outage_id, OURS)

        [row] = await every(sessions, Outage)
        before = Baseline.model_validate(row.baseline)
        assert (before.uses, before.used) == (2, 2)
        progress = Progress(outage_id=outage_id, limits=Limits(), targets=found.targets, paced_at=now - ago / 2)
        request = OutageRequest(provider_id=OURS, by=DETECTOR, reason="a test")
        tick = Tick(request=request, progress=progress, since=now - ago / 2)
        outcome: Validated = await ActivityEnvironment().run(steps.validate, tick)
        assert (outcome.passed, outcome.why) == (False, "0 of 1 connections fine in capability calls (100 % before)")

    async def test_is_written_down_with_its_matrix_and_how_it_was_before(
        self, steps: OutageActivities, sessions: Sessions, vault: Vault, person: Person
    ) -> None:
        await connections(sessions, vault, person, "acme", "globex")
        await calls(sessions, *((endpoint, "org:acme", 20, 20) for endpoint in ("notes.read", "profile.read", "token")))
        await calls(sessions, ("token", "org:globex", 20, 20))

        await scoped(steps, await add_outage(sessions))

        [row] = await every(sessions, Outage)
        assert row.scope == Scope.PROVIDER
        assert row.baseline is not None
        assert [Cell.model_validate(each) for each in row.finding["matrix"]] == list(FINDING.matrix)
