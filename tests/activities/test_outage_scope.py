"""How far an outage reaches, by rows and by probes of a real provider."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities.outage import OutageActivities
from activities.outage_probe import Prober
from activities.outage_scope import Scoper
from integrations.db import parked
from integrations.db.outage_tables import Outage, OutageNote
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.domain.automation import FailureMode
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
    Step,
    Target,
)
from integrations.domain.outage_steps import Look, Scoped, Scoping, Tick, Validated
from integrations.domain.outage_targets import targets
from integrations.domain.verdict import Meaning
from integrations.providers.oauth import Providers
from tests.automated import pause, resume
from tests.db.test_outage_counts import add, made
from tests.factories import every, stored
from tests.outage_rows import FINDING, add_outage, add_parked, outage
from tests.providers.person import Person
from tests.refresh.ground import Due, add_due, at_several

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def steps(sessions: Sessions, vault: Vault, providers: Providers) -> OutageActivities:
    return OutageActivities(sessions, vault, at_several(providers, "small", "large"), Limits())


@pytest.fixture
def scoper(sessions: Sessions, vault: Vault, providers: Providers) -> Scoper:
    return Scoper(sessions, Prober(sessions, vault, providers), providers.catalog, Limits())


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


async def wider(scoper: Scoper, outage_id: UUID, *held: Target) -> Scoped | None:
    """What a look says while these are held back."""
    request = OutageRequest(provider_id="simulator", by=DETECTOR, reason="a test")
    known = Progress(outage_id=outage_id, limits=Limits(), step=Step.HOLD, targets=held)
    tick = Tick(request=request, progress=known, since=datetime.now(UTC))
    found: Scoped | None = await ActivityEnvironment().run(scoper.wider, tick)
    return found


READING = Target(provider_id="simulator", brake=Brake.CIRCUIT, name="notes.read", full=10.0)
ACME = Target(provider_id="simulator", brake=Brake.TENANT, name="org:acme", full=10.0)


async def seldom(sessions: Sessions, count: int = 5, *, answered: int = 0, **of: Any) -> None:
    """One call each five minutes, the last one just now; of those so many of the last were answered."""
    now = datetime.now(UTC)
    given = {"endpoint": "profile.read", "tenant": "org:globex"} | of
    outcomes = [Meaning.OK if n < answered else Meaning.OUTAGE for n in range(count)]
    some = (made(SECOND, each, **given, at=now - SECOND - n * 5 * MINUTE) for n, each in enumerate(outcomes))
    await add(sessions, *some)


async def asked(person: Person) -> int:
    return len((await person.http.get("/admin/requests", params={"path": "/api", "limit": 1000})).json())


class TestWhatIsOutsideAndSeldomCalled:
    @pytest.fixture
    async def held(self, sessions: Sessions, vault: Vault, person: Person) -> UUID:
        """What the calls of an endpoint say, that are held back, says nothing of the others."""
        await connections(sessions, vault, person, "acme", "globex")
        await calls(sessions, ("notes.read", "org:acme", 15, 0), ("notes.read", "org:acme", 15, 15))
        return await add_outage(sessions, scope=Scope.ENDPOINT, names=("notes.read",))

    @staticmethod
    async def breaks(person: Person, path: str) -> None:
        await person.http.post("/admin/faults", json={"kind": "status", "status": 503, "path": path})

    async def test_is_contained_at_the_fifth_that_fails_when_probes_do(
        self, scoper: Scoper, sessions: Sessions, person: Person, held: UUID
    ) -> None:
        await self.breaks(person, "/api")
        await seldom(sessions, 4)
        assert await wider(scoper, held, READING) is None
        await seldom(sessions)

        found = await wider(scoper, held, READING)

        assert found is not None
        assert (found.scope, "profile.read" in found.names) == (Scope.ENDPOINT, True)
        assert Brake.CIRCUIT in {each.brake for each in found.targets}

    async def test_is_let_alone_while_probes_are_answered(
        self, scoper: Scoper, sessions: Sessions, person: Person, held: UUID
    ) -> None:
        await seldom(sessions)

        assert await wider(scoper, held, READING) is None

        before = await asked(person)
        # As the recorder writes it.
        await seldom(sessions, 1, answered=1, purpose=Purpose.PROBE)
        assert await wider(scoper, held, READING) is None
        assert await asked(person) == before > 0

    @pytest.mark.parametrize("of", [{"answered": 1}, {"endpoint": "notes.read"}], ids=["answered", "held back"])
    async def test_is_not_asked_about_without_need(
        self, scoper: Scoper, sessions: Sessions, person: Person, held: UUID, of: dict[str, Any]
    ) -> None:
        await self.breaks(person, "/api")
        before = await asked(person)
        await seldom(sessions, **of)

        assert await wider(scoper, held, READING) is None
        assert await asked(person) == before

    async def test_is_asked_about_for_others_than_those_held_back(
        self, scoper: Scoper, sessions: Sessions, person: Person, held: UUID
    ) -> None:
        """What fails is theirs who are held back, but for one call."""
        await self.breaks(person, "/api")
        await seldom(sessions, tenant="org:acme")
        await seldom(sessions, 1)

        assert await wider(scoper, held, READING, ACME) is None

        await seldom(sessions)

        assert await wider(scoper, held, READING, ACME) is not None


class TestWhileThePlatformMayNotAct:
    @pytest.fixture
    async def known(self, sessions: Sessions, vault: Vault, person: Person) -> Progress:
        """All fails, and the brake of that endpoint is not put on yet."""
        await connections(sessions, vault, person, "acme", "globex")
        await person.http.post("/admin/faults", json={"kind": "status", "status": 503})
        await calls(sessions, *((endpoint, "org:acme", 20, 20) for endpoint in ("notes.read", "token")))
        outage_id = await add_outage(sessions, scope=Scope.ENDPOINT, names=("notes.read",))
        return Progress(outage_id=outage_id, limits=Limits(), step=Step.HOLD)

    async def test_a_look_changes_nothing_and_says_why(
        self, steps: OutageActivities, sessions: Sessions, known: Progress, time_skipping: WorkflowEnvironment
    ) -> None:
        request = OutageRequest(provider_id="simulator", by=DETECTOR, reason="a test")
        tick = Tick(request=request, progress=known, since=datetime.now(UTC) - MINUTE)
        await pause(sessions, FailureMode.OUTAGE)

        for step in (steps.keep, steps.probe, steps.sample):
            look: Look = await ActivityEnvironment(client=time_skipping.client).run(step, tick)
            assert look == Look(why_not=look.why_not)
            assert look.why_not is not None

        row = await stored(sessions, Outage, known.outage_id)
        [note] = await every(sessions, OutageNote)
        assert (row.why_not, row.observed, note.what) == (look.why_not, False, f"all stays as it is: {look.why_not}")
        await resume(sessions, FailureMode.OUTAGE)

        look = await ActivityEnvironment(client=time_skipping.client).run(steps.keep, tick)

        assert (look.why_not, look.wider is None) == (None, False)
        assert (await stored(sessions, Outage, known.outage_id)).why_not is None

    async def test_only_what_people_ordered_is_contained(
        self, steps: OutageActivities, sessions: Sessions, known: Progress
    ) -> None:
        await pause(sessions, FailureMode.OUTAGE)

        found = await scoped(steps, known.outage_id)
        wished = await scoped(steps, known.outage_id, wish=Isolate(by="ada", reason="I know"))

        assert (found.clear, found.targets, "paused by ada" in found.why) == (False, (), True)
        assert wished.targets
