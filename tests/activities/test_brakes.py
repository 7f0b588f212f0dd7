"""Brakes at a real Temporal: what its queues say is what the journal says, whoever is killed in between."""

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import RateLimit, TaskQueueConfig
from temporalio.api.workflowservice.v1 import UpdateTaskQueueConfigRequest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from activities import brakes as brakes_module
from activities.brakes import Brakes, Held, Off
from integrations import task_queues
from integrations.db import automation
from integrations.db.outage_tables import Mitigation
from integrations.db.session import Sessions
from integrations.db.tables import Credential
from integrations.db.vault import Vault
from integrations.domain.automation import FailureMode, Step
from integrations.domain.outage import OURS, Brake, Cut, Target
from integrations.task_queues import IDENTITY, PUT_BACK, provider_queue
from tests.db.test_shield import LATER, refresh_at, set_aside
from tests.factories import add_connection, add_credential, every, stored
from tests.outage_rows import add_outage

T = TypeVar("T")
LEASE = timedelta(minutes=2)
TOLD = {"reason": "Simulator answers 503", "by": "outage-detector"}
HEALED = {"reason": "healed", "by": "outage-detector"}


_COMES_THROUGH = 0.3
_PATIENCE = 10.0


class KilledError(BaseException):
    """Of a process: nothing of ours catches it."""


@pytest.fixture
def client(time_skipping: WorkflowEnvironment) -> Client:
    return time_skipping.client


@pytest.fixture
def provider_id() -> str:
    """One of this test alone: the server keeps what is said of a queue."""
    return f"p{uuid4().hex[:12]}"


@pytest.fixture
def brakes(sessions: Sessions) -> Brakes:
    return Brakes(sessions)


def queue(provider_id: str, rate: float) -> Cut:
    return Cut(target=Target(provider_id=provider_id, brake=Brake.QUEUE), rate=rate)


def tenant(provider_id: str, rate: float, name: str = "org:acme") -> Cut:
    return Cut(target=Target(provider_id=provider_id, brake=Brake.TENANT, name=name), rate=rate)


async def shown(ask: Callable[[TaskQueueConfig], T], client: Client, provider_id: str, wanted: T) -> T:
    """What the server says once a change has come through to where it is asked, which takes a loaded one seconds."""
    # Also where it says so already: what comes through late may be something else.
    await asyncio.sleep(_COMES_THROUGH)
    until = time.monotonic() + _PATIENCE
    while (found := ask(await task_queues.config(client, provider_queue(provider_id)))) != wanted:
        if time.monotonic() > until:
            break
        await asyncio.sleep(_COMES_THROUGH)
    return found


def whole(found: TaskQueueConfig) -> float | None:
    rate = task_queues.rate_of(found.queue_rate_limit)
    return None if rate is None else round(rate, 3)


def of_keys(found: TaskQueueConfig) -> dict[str, float]:
    """What the server lets out of single keys, as it counts: the limit of all keys times the key's weight."""
    limit = found.fairness_keys_rate_limit_default.rate_limit.requests_per_second
    return {key: round(limit * weight, 3) for key, weight in found.fairness_weight_overrides.items()}


async def lets_out(client: Client, provider_id: str, wanted: float | None) -> None:
    """That the whole queue is limited so, or that it is not."""
    assert await shown(whole, client, provider_id, wanted) == wanted


async def lets_out_of(client: Client, provider_id: str, wanted: dict[str, float]) -> None:
    """That single tenants are limited so, and no others."""
    assert await shown(of_keys, client, provider_id, wanted) == wanted


def by_hand(client: Client, provider_id: str, **changes: Any) -> UpdateTaskQueueConfigRequest:
    return UpdateTaskQueueConfigRequest(
        namespace=client.namespace,
        identity="ada",
        task_queue=provider_queue(provider_id),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        **changes,
    )


def limited_to(rate: float | None) -> UpdateTaskQueueConfigRequest.RateLimitUpdate:
    limit = None if rate is None else RateLimit(requests_per_second=rate)
    return UpdateTaskQueueConfigRequest.RateLimitUpdate(rate_limit=limit, reason="by hand")


async def somebody_sets(client: Client, provider_id: str, rate: float | None) -> None:
    """As `temporal task-queue config set --queue-rps-limit` does."""
    said = by_hand(client, provider_id, update_queue_rate_limit=limited_to(rate))
    await client.workflow_service.update_task_queue_config(said)
    await lets_out(client, provider_id, rate)


def keys(found: TaskQueueConfig) -> tuple[float | None, dict[str, float]]:
    """What somebody reads there: the limit of each key, and the weights."""
    limit = task_queues.rate_of(found.fairness_keys_rate_limit_default)
    return limit, {key: round(weight, 3) for key, weight in found.fairness_weight_overrides.items()}


async def somebody_sets_keys(client: Client, provider_id: str, rate: float, **weights: float) -> None:
    """As `temporal task-queue config set --fairness-key-rps-limit-default` does, and a weight for some `org`."""
    named = {f"org:{name}": weight for name, weight in weights.items()}
    said = by_hand(
        client,
        provider_id,
        update_fairness_key_rate_limit_default=limited_to(rate),
        set_fairness_weight_overrides=named,
    )
    await client.workflow_service.update_task_queue_config(said)
    assert await shown(keys, client, provider_id, (rate, named)) == (rate, named)


@pytest.fixture
def killed_before_the_queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    async def killed(*_: object, **__: object) -> bool:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(brakes_module.task_queues, "limit", killed)
        yield patched


@pytest.fixture
def killed_after_the_queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    limit = task_queues.limit

    async def killed(*given: object, **told: object) -> bool:
        await limit(*given, **told)  # type: ignore[arg-type]
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(brakes_module.task_queues, "limit", killed)
        yield patched


class TestPutOn:
    async def test_says_in_the_config_how_much_who_and_why(
        self, brakes: Brakes, client: Client, sessions: Sessions, provider_id: str
    ) -> None:
        outage_id = await add_outage(sessions, OURS)

        for _ in range(2):
            assert await brakes.put_on(client, outage_id, [queue(provider_id, 0.5)], LEASE, **TOLD) == []

        await lets_out(client, provider_id, 0.5)
        found = (await task_queues.config(client, provider_queue(provider_id))).queue_rate_limit
        assert found.metadata.update_identity == IDENTITY
        assert found.metadata.reason == "Simulator answers 503 (by outage-detector); runbook outage explain ours"

    async def test_of_no_calls_is_a_limit_too(
        self, brakes: Brakes, client: Client, sessions: Sessions, provider_id: str
    ) -> None:
        outage_id = await add_outage(sessions, provider_id)

        await brakes.put_on(client, outage_id, [queue(provider_id, 0)], LEASE, **TOLD)

        await lets_out(client, provider_id, 0)

    async def test_with_another_rate_changes_it(
        self, brakes: Brakes, client: Client, sessions: Sessions, provider_id: str
    ) -> None:
        outage_id = await add_outage(sessions, provider_id)
        for wanted in (0.5, 2.5, 0.5):
            cuts = [queue(provider_id, wanted), tenant(provider_id, wanted)]
            await brakes.put_on(client, outage_id, cuts, LEASE, **TOLD)

            await lets_out(client, provider_id, wanted)
            await lets_out_of(client, provider_id, {"org:acme": wanted})

    async def test_again_before_the_server_shows_the_change_is_said_all_the_same(
        self, brakes: Brakes, client: Client, sessions: Sessions, provider_id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outage_id = await add_outage(sessions, provider_id)
        for wanted in (0.5, 2.5):
            await brakes.put_on(client, outage_id, [queue(provider_id, wanted)], LEASE, **TOLD)
            await lets_out(client, provider_id, wanted)
        shown = await task_queues.config(client, provider_queue(provider_id))
        await brakes.put_on(client, outage_id, [queue(provider_id, 0.5)], LEASE, **TOLD)

        async def late(_client: Client, _queue: str) -> TaskQueueConfig:
            return shown

        with monkeypatch.context() as patched:
            patched.setattr(task_queues, "config", late)
            await brakes.put_on(client, outage_id, [queue(provider_id, 2.5)], LEASE, **TOLD)

        await lets_out(client, provider_id, 2.5)

        async def nothing_yet(_client: Client, _queue: str) -> TaskQueueConfig:
            return TaskQueueConfig()

        with monkeypatch.context() as patched:
            patched.setattr(task_queues, "config", nothing_yet)
            await brakes.release(client, outage_id, **HEALED)

        await lets_out(client, provider_id, None)

    async def test_where_another_outage_brakes_leaves_that_ones_rate(
        self, brakes: Brakes, client: Client, sessions: Sessions, provider_id: str
    ) -> None:
        theirs, ours = await add_outage(sessions, provider_id), await add_outage(sessions, OURS)
        await brakes.put_on(client, theirs, [queue(provider_id, 0.5)], LEASE, **TOLD)

        others = await brakes.put_on(client, ours, [queue(provider_id, 9)], LEASE, **TOLD)

        assert others == [Target(provider_id=provider_id, brake=Brake.QUEUE)]
        await lets_out(client, provider_id, 0.5)
        assert (await brakes.release(client, ours, **HEALED)).brakes == 0
        await lets_out(client, provider_id, 0.5)

    async def test_killed_before_the_queue_is_made_good_by_the_next_look(
        self,
        brakes: Brakes,
        client: Client,
        sessions: Sessions,
        provider_id: str,
        killed_before_the_queue: pytest.MonkeyPatch,
    ) -> None:
        outage_id = await add_outage(sessions, provider_id)
        with pytest.raises(KilledError):
            await brakes.put_on(client, outage_id, [queue(provider_id, 0.5)], LEASE, **TOLD)
        await lets_out(client, provider_id, None)
        killed_before_the_queue.undo()

        held = await brakes.hold(client, outage_id, LEASE)

        assert held == Held(brakes=1, mended=(provider_id,))
        await lets_out(client, provider_id, 0.5)


class TestHold:
    async def test_sets_what_somebody_else_has_changed(
        self, brakes: Brakes, client: Client, sessions: Sessions, provider_id: str
    ) -> None:
        outage_id = await add_outage(sessions, provider_id)
        await brakes.put_on(client, outage_id, [queue(provider_id, 0.5)], LEASE, **TOLD)
        for wish in (100.0, None):
            await somebody_sets(client, provider_id, wish)

            assert await brakes.hold(client, outage_id, LEASE) == Held(1, (provider_id,))
            await lets_out(client, provider_id, 0.5)

        assert await brakes.hold(client, outage_id, LEASE) == Held(1, ())

    async def test_says_that_nothing_is_on_any_more(
        self, brakes: Brakes, client: Client, sessions: Sessions, provider_id: str
    ) -> None:
        outage_id = await add_outage(sessions, provider_id)
        await brakes.put_on(client, outage_id, [queue(provider_id, 0.5)], LEASE, **TOLD)
        await brakes.release(client, outage_id, **HEALED)

        assert await brakes.hold(client, outage_id, LEASE) == Held(0, ())


class TestRelease:
    async def test_leaves_nothing_behind(
        self, brakes: Brakes, client: Client, sessions: Sessions, provider_id: str
    ) -> None:
        outage_id = await add_outage(sessions, provider_id)
        shield = Cut(target=Target(provider_id=provider_id, brake=Brake.SHIELD))
        cuts = [queue(provider_id, 0.5), tenant(provider_id, 1), shield]
        await brakes.put_on(client, outage_id, cuts, LEASE, **TOLD)

        assert (await brakes.release(client, outage_id, **HEALED)).brakes == 3
        assert (await brakes.release(client, outage_id, **HEALED)).brakes == 0

        await lets_out(client, provider_id, None)
        found = await task_queues.config(client, provider_queue(provider_id))
        assert not found.queue_rate_limit.HasField("rate_limit")
        assert not found.fairness_keys_rate_limit_default.HasField("rate_limit")
        assert dict(found.fairness_weight_overrides) == {}
        assert await every(sessions, Mitigation, released_at=None) == []

    async def test_has_what_was_set_aside_under_a_shield_asked_again(
        self, brakes: Brakes, client: Client, sessions: Sessions, vault: Vault, provider_id: str
    ) -> None:
        aside, other = [await add_connection(sessions, provider_id=provider_id) for _ in range(2)]
        for row in (aside, other):
            await add_credential(sessions, vault, row.id, refresh_at=LATER)
        outage_id = await add_outage(sessions, provider_id)
        up = Cut(target=Target(provider_id=provider_id, brake=Brake.SHIELD))
        await brakes.put_on(client, outage_id, [up], LEASE, **TOLD)
        assert await set_aside(sessions, aside) == {aside.id}

        assert await brakes.release(client, outage_id, **HEALED) == Off(brakes=1, due=1)

        assert (await refresh_at(sessions, aside) or LATER) <= datetime.now(UTC)
        assert await refresh_at(sessions, other) == LATER

    async def test_of_one_tenant_leaves_the_other_outages_one(
        self, brakes: Brakes, client: Client, sessions: Sessions, provider_id: str
    ) -> None:
        theirs, ours = await add_outage(sessions, provider_id), await add_outage(sessions, OURS)
        await brakes.put_on(client, theirs, [tenant(provider_id, 0.5)], LEASE, **TOLD)
        await brakes.put_on(client, ours, [tenant(provider_id, 4, "org:other")], LEASE, **TOLD)
        await lets_out_of(client, provider_id, {"org:acme": 0.5, "org:other": 4})

        await brakes.release(client, theirs, **HEALED)

        await lets_out_of(client, provider_id, {"org:other": 4})

    async def test_lets_alone_what_somebody_has_set_by_hand(
        self, brakes: Brakes, client: Client, sessions: Sessions, provider_id: str
    ) -> None:
        outage_id = await add_outage(sessions, provider_id)
        await brakes.put_on(client, outage_id, [tenant(provider_id, 1)], LEASE, **TOLD)
        await somebody_sets(client, provider_id, 7)

        await brakes.release(client, outage_id, **HEALED)

        await lets_out(client, provider_id, 7)

    async def test_has_what_was_set_aside_looked_at_again_in_the_same_transaction(
        self,
        brakes: Brakes,
        client: Client,
        sessions: Sessions,
        vault: Vault,
        provider_id: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        later = datetime.now(UTC) + timedelta(hours=5)
        row = await add_connection(sessions, provider_id=provider_id)
        kept = await add_credential(sessions, vault, row.id, refresh_at=later)
        outage_id = await add_outage(sessions, provider_id)
        await brakes.put_on(
            client, outage_id, [Cut(target=Target(provider_id=provider_id, brake=Brake.SHIELD))], LEASE, **TOLD
        )
        async with sessions.begin() as session:
            assert not await automation.may(session, row, FailureMode.REAUTH, Step.BLOCK, cause="400 invalid_grant")

        async def killed(*_: object, **__: object) -> int:
            raise KilledError

        with monkeypatch.context() as patched:
            patched.setattr(brakes_module.shield, "lifted", killed)
            with pytest.raises(KilledError):
                await brakes.release(client, outage_id, **HEALED)
        assert len(await every(sessions, Mitigation, released_at=None)) == 1
        assert (await stored(sessions, Credential, kept.id)).refresh_at == later

        await brakes.release(client, outage_id, **HEALED)

        assert await every(sessions, Mitigation, released_at=None) == []
        assert ((await stored(sessions, Credential, kept.id)).refresh_at or later) < datetime.now(UTC)

    async def test_killed_before_the_queue_is_free_has_released_nothing(
        self,
        brakes: Brakes,
        client: Client,
        sessions: Sessions,
        provider_id: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        outage_id = await add_outage(sessions, provider_id)
        await brakes.put_on(client, outage_id, [queue(provider_id, 0.5)], LEASE, **TOLD)

        async def killed(*_: object, **__: object) -> bool:
            raise KilledError

        with monkeypatch.context() as patched:
            patched.setattr(brakes_module.task_queues, "limit", killed)
            with pytest.raises(KilledError):
                await brakes.release(client, outage_id, **HEALED)

        assert len(await every(sessions, Mitigation, released_at=None)) == 1
        assert (await brakes.release(client, outage_id, **HEALED)).brakes == 1
        await lets_out(client, provider_id, None)

    async def test_killed_when_the_queue_is_free_is_done_again(
        self,
        brakes: Brakes,
        client: Client,
        sessions: Sessions,
        provider_id: str,
        killed_after_the_queue: pytest.MonkeyPatch,
    ) -> None:
        outage_id = await add_outage(sessions, provider_id)
        with pytest.raises(KilledError):
            await brakes.put_on(client, outage_id, [queue(provider_id, 0.5)], LEASE, **TOLD)
        with pytest.raises(KilledError):
            await brakes.release(client, outage_id, **HEALED)
        await lets_out(client, provider_id, None)
        assert len(await every(sessions, Mitigation, released_at=None)) == 1
        killed_after_the_queue.undo()

        assert (await brakes.release(client, outage_id, **HEALED)).brakes == 1

        await lets_out(client, provider_id, None)
        assert await every(sessions, Mitigation, released_at=None) == []

    async def test_of_several_providers_killed_in_the_middle_goes_on_with_the_rest(
        self, brakes: Brakes, client: Client, sessions: Sessions, provider_id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outage_id, second = await add_outage(sessions, OURS), f"{provider_id}-second"
        await brakes.put_on(client, outage_id, [queue(provider_id, 0.5), queue(second, 0.5)], LEASE, **TOLD)
        limit = task_queues.limit

        async def killed_at_the_second(with_client: Client, name: str, *given: object, **told: object) -> bool:
            if name == provider_queue(second):
                raise KilledError
            return await limit(with_client, name, *given, **told)  # type: ignore[arg-type]

        with monkeypatch.context() as patched:
            patched.setattr(brakes_module.task_queues, "limit", killed_at_the_second)
            with pytest.raises(KilledError):
                await brakes.release(client, outage_id, **HEALED)
        assert [row.provider_id for row in await every(sessions, Mitigation, released_at=None)] == [second]
        await lets_out(client, provider_id, None)
        await lets_out(client, second, 0.5)

        assert (await brakes.release(client, outage_id, **HEALED)).brakes == 1

        await lets_out(client, second, None)


class TestALimitThatSomebodyElseHadSet:
    async def test_is_there_again_after_the_release_and_says_why(
        self, brakes: Brakes, client: Client, sessions: Sessions, provider_id: str
    ) -> None:
        await somebody_sets(client, provider_id, 20)
        outage_id = await add_outage(sessions, provider_id)
        for wanted in (0.5, 2.5):
            await brakes.put_on(client, outage_id, [queue(provider_id, wanted)], LEASE, **TOLD)
            await lets_out(client, provider_id, wanted)

        await brakes.release(client, outage_id, **HEALED)

        await lets_out(client, provider_id, 20)
        said = (await task_queues.config(client, provider_queue(provider_id))).queue_rate_limit.metadata
        assert (said.update_identity, said.reason) == (PUT_BACK, "as it was before our brake; healed")
        # It is nobody's brake: reconcile leaves it there, and the next outage brings it back once more.
        assert not await brakes.settle(client, provider_id)
        await brakes.put_on(client, outage_id, [queue(provider_id, 1)], LEASE, **TOLD)
        await lets_out(client, provider_id, 1)
        await brakes.release(client, outage_id, **HEALED)
        await lets_out(client, provider_id, 20)

    async def test_and_has_taken_off_meanwhile_stays_off(
        self, brakes: Brakes, client: Client, sessions: Sessions, provider_id: str
    ) -> None:
        await somebody_sets(client, provider_id, 20)
        outage_id = await add_outage(sessions, provider_id)
        await brakes.put_on(client, outage_id, [queue(provider_id, 0.5)], LEASE, **TOLD)
        await lets_out(client, provider_id, 0.5)
        await somebody_sets(client, provider_id, None)

        await brakes.release(client, outage_id, **HEALED)

        await lets_out(client, provider_id, None)

    async def test_is_remembered_where_the_server_still_shows_our_last_brake(
        self, brakes: Brakes, client: Client, sessions: Sessions, provider_id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await somebody_sets(client, provider_id, 20)
        outage_id = await add_outage(sessions, provider_id)
        await brakes.put_on(client, outage_id, [queue(provider_id, 0.5)], LEASE, **TOLD)
        await lets_out(client, provider_id, 0.5)
        braked = await task_queues.config(client, provider_queue(provider_id))
        await brakes.release(client, outage_id, **HEALED)

        async def late(_client: Client, _queue: str) -> TaskQueueConfig:
            return braked

        with monkeypatch.context() as patched:
            patched.setattr(task_queues, "config", late)
            await brakes.put_on(client, outage_id, [queue(provider_id, 0.5)], LEASE, **TOLD)
        await lets_out(client, provider_id, 0.5)
        await brakes.release(client, outage_id, **HEALED)

        await lets_out(client, provider_id, 20)

    async def test_does_not_keep_a_tenants_brake_on(
        self, brakes: Brakes, client: Client, sessions: Sessions, provider_id: str
    ) -> None:
        await somebody_sets(client, provider_id, 20)
        outage_id = await add_outage(sessions, provider_id)
        cuts = [queue(provider_id, 0.5), tenant(provider_id, 1)]
        await brakes.put_on(client, outage_id, cuts, LEASE, **TOLD)
        await lets_out_of(client, provider_id, {"org:acme": 1})

        await brakes.release(client, outage_id, **HEALED)

        await lets_out(client, provider_id, 20)
        await lets_out_of(client, provider_id, {})
        found = await task_queues.config(client, provider_queue(provider_id))
        assert not found.fairness_keys_rate_limit_default.HasField("rate_limit")

    async def test_is_never_exceeded_by_a_brake(
        self, brakes: Brakes, client: Client, sessions: Sessions, provider_id: str
    ) -> None:
        await somebody_sets(client, provider_id, 1)
        outage_id = await add_outage(sessions, provider_id)
        for wanted, let_out in ((5, 1), (0.5, 0.5), (20, 1)):
            await brakes.put_on(client, outage_id, [queue(provider_id, wanted)], LEASE, **TOLD)

            await lets_out(client, provider_id, let_out)
            assert [row.rate for row in await every(sessions, Mitigation)] == [let_out]


class TestLimitsOfKeysThatSomebodyElseHadSet:
    async def test_are_there_again_after_the_release(
        self, brakes: Brakes, client: Client, sessions: Sessions, provider_id: str
    ) -> None:
        by_hand = (3.0, {"org:acme": 0.5, "org:other": 2.0})
        await somebody_sets_keys(client, provider_id, 3, acme=0.5, other=2)
        first, second = await add_outage(sessions, provider_id), await add_outage(sessions, OURS)
        await brakes.put_on(client, first, [tenant(provider_id, 0.3)], LEASE, **TOLD)
        # What nobody holds back is as it was.
        braked = (3.0, {"org:acme": 0.1, "org:other": 2.0})
        assert await shown(keys, client, provider_id, braked) == braked
        await brakes.put_on(client, second, [tenant(provider_id, 0.6, "org:other")], LEASE, **TOLD)
        both = (3.0, {"org:acme": 0.1, "org:other": 0.2})
        assert await shown(keys, client, provider_id, both) == both

        await brakes.release(client, second, **HEALED)
        assert await shown(keys, client, provider_id, braked) == braked
        await brakes.release(client, first, **HEALED)

        assert await shown(keys, client, provider_id, by_hand) == by_hand
        said = (await task_queues.config(client, provider_queue(provider_id))).fairness_keys_rate_limit_default
        assert said.metadata.update_identity == PUT_BACK
        assert not await brakes.settle(client, provider_id)
        # They are somebody's again: what is changed since is what comes back the next time.
        await somebody_sets_keys(client, provider_id, 4, acme=0.25, other=2)
        assert not await brakes.settle(client, provider_id)
        await brakes.put_on(client, first, [tenant(provider_id, 0.4)], LEASE, **TOLD)
        await lets_out_of(client, provider_id, {"org:acme": 0.4, "org:other": 8})
        await brakes.release(client, first, **HEALED)
        changed = (4.0, {"org:acme": 0.25, "org:other": 2.0})
        assert await shown(keys, client, provider_id, changed) == changed

    async def test_are_never_exceeded_by_a_brake(
        self, brakes: Brakes, client: Client, sessions: Sessions, provider_id: str
    ) -> None:
        await somebody_sets_keys(client, provider_id, 3, acme=0.5)
        outage_id = await add_outage(sessions, provider_id)
        for wanted, let_out in ((0.3, 0.3), (9, 1.5)):
            await brakes.put_on(client, outage_id, [tenant(provider_id, wanted)], LEASE, **TOLD)

            await lets_out_of(client, provider_id, {"org:acme": let_out})
            assert [row.rate for row in await every(sessions, Mitigation)] == [let_out]

    async def test_are_let_alone_where_no_brake_is_on(
        self, brakes: Brakes, client: Client, sessions: Sessions, provider_id: str
    ) -> None:
        outage_id = await add_outage(sessions, provider_id)
        await brakes.put_on(client, outage_id, [tenant(provider_id, 1)], LEASE, **TOLD)
        await brakes.release(client, outage_id, **HEALED)
        await lets_out_of(client, provider_id, {})
        await somebody_sets_keys(client, provider_id, 3, acme=0.5)

        assert not await brakes.settle(client, provider_id)

        assert await shown(keys, client, provider_id, (3.0, {"org:acme": 0.5})) == (3.0, {"org:acme": 0.5})
