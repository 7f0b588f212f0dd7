"""Activities that answer from a script, for tests of what a workflow decides. Their effects are tested elsewhere.

Subclassing the real classes lets mypy hold the fakes to the real signatures.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4

from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from activities.detection import DetectionActivities
from activities.job import JobActivities
from activities.keys import KeysActivities
from activities.notification import NotificationActivities, went_on
from activities.outage_detector import OutageDetectorActivities
from activities.outbox import OutboxActivities
from activities.parked import ParkedActivities
from activities.reauth import ReauthActivities
from activities.reconcile import ReconcileActivities, Reconciled
from activities.reconcile_brakes import ReconcileBrakesActivities
from activities.refresh import RefreshActivities
from activities.refresh_sweep import RefreshSweepActivities
from activities.waiting import WaitingActivities
from integrations import temporal
from integrations.domain.errors import StopError, TryAgainError
from integrations.domain.gate import Answer, Decision
from integrations.domain.job import JobRequest, JobResult
from integrations.domain.keys import Left, Pass, ReencryptRequest, ReencryptStep
from integrations.domain.notification_delivery import ChannelRequest, Sending, SendStep, Sent
from integrations.domain.outage import Looked
from integrations.domain.outbox import Delivered, DeliveryStep, DispatchRequest, Drained
from integrations.domain.parked import Parking
from integrations.domain.reauth import (
    Activation,
    Candidate,
    Consent,
    ConsentReceived,
    Detection,
    Exchange,
    Exchanged,
    Expire,
    Extend,
    Opened,
    Opening,
    OpenLifecycle,
    Order,
    Proof,
    ReauthRequest,
    RepairedElsewhere,
)
from integrations.domain.refresh import Chunk, ChunkStep, Refresh, Refreshed, RefreshStep, SweepRequest, Swept
from integrations.domain.verdict import Meaning
from tests.workflows.fake_outage import FakeOutage
from tests.workflows.fake_replay import FakeReplay
from tests.workflows.fake_webhook import FakeReconcileWebhooks, FakeSelfTests, FakeWebhook
from worker.wiring import CORE_WORKFLOWS, NOTIFY_WORKFLOWS
from workflows.queues import DRAIN, NOTIFY, WORKFLOWS, provider_queue

OPENED = Opened(opening=Opening.OPENED, why="revoked", account="a••@acme.example")
ACCEPTED = Exchanged(exchange=Exchange.CANDIDATE, version=2)
WORKS = Proof(works=True)


class FakeReauth(ReauthActivities):
    """Each step takes its next scripted answer, or the one of the straight path. An exception is raised."""

    def __init__(self, *, proves_apart: bool = False, **script: Iterable[Any]) -> None:
        """`proves_apart`: the provider has trouble with each proof that follows an exchange at once."""
        self._proves_apart = proves_apart
        self._script = {step: list(answers) for step, answers in script.items()}
        self.steps: list[str] = []
        self.opened: list[OpenLifecycle] = []
        self.expired: list[Expire] = []
        self.sessions: list[UUID] = []
        """Whose code was sent, in order."""
        self.lifecycle_id: UUID | None = None
        self.may_open = asyncio.Event()
        """Cleared: a test does something first, before the clock runs on to what the workflow waits for."""
        self.may_open.set()

    def _next(self, step: str, default: Any) -> Any:
        self.steps.append(step)
        answers = self._script.get(step)
        answer = answers.pop(0) if answers else default
        if isinstance(answer, Exception):
            raise answer
        return answer

    @activity.defn(name="reauth.open")
    async def open(self, wanted: OpenLifecycle) -> Opened:
        self.lifecycle_id = wanted.lifecycle_id
        self.opened.append(wanted)
        opened: Opened = self._next("open", OPENED)
        await self.may_open.wait()
        return opened

    @activity.defn(name="reauth.exchange")
    async def exchange(self, consent: Consent) -> Exchanged:
        self.sessions.append(consent.session_id)
        exchanged: Exchanged = self._next("exchange", ACCEPTED)
        if exchanged.exchange is not Exchange.CANDIDATE or not consent.prove or self._proves_apart:
            return exchanged
        candidate = Candidate(**consent.model_dump(), version=exchanged.version)
        return exchanged.model_copy(update={"proof": await self.prove_and_activate(candidate)})

    @activity.defn(name="reauth.prove")
    async def prove(self, candidate: Candidate) -> Proof:
        proof: Proof = self._next("prove", WORKS)
        return proof

    @activity.defn(name="reauth.activate")
    async def activate(self, candidate: Candidate) -> Activation:
        activation: Activation = self._next("activate", Activation.ACTIVE)
        return activation

    @activity.defn(name="reauth.prove_and_activate")
    async def prove_and_activate(self, candidate: Candidate) -> Proof:
        proof: Proof = self._next("prove", WORKS)
        activation = self._next("activate", Activation.ACTIVE) if proof.works else None
        return proof.model_copy(update={"activation": activation})

    @activity.defn(name="reauth.expire")
    async def expire(self, expired: Expire) -> UUID | None:
        self.expired.append(expired)
        in_time: UUID | None = self._next("expire", None)
        return in_time


class FakeWaiting(WaitingActivities):
    def __init__(self) -> None:
        self.orders: list[tuple[str, Order]] = []

    @property
    def steps(self) -> list[str]:
        return [step for step, _ in self.orders]

    @activity.defn(name="reauth.remind")
    async def remind(self, order: Order) -> bool:
        self.orders.append(("remind", order))
        return True

    @activity.defn(name="reauth.escalate")
    async def escalate(self, order: Order) -> bool:
        self.orders.append(("escalate", order))
        return True

    @activity.defn(name="reauth.acknowledge")
    async def acknowledge(self, order: Order) -> bool:
        self.orders.append(("acknowledge", order))
        return True

    @activity.defn(name="reauth.extend")
    async def extend(self, order: Extend) -> bool:
        self.orders.append(("extend", order))
        return True

    @activity.defn(name="reauth.snooze")
    async def snooze(self, order: Extend) -> bool:
        self.orders.append(("snooze", order))
        return True

    @activity.defn(name="reauth.disconnect")
    async def disconnect(self, order: Order) -> bool:
        self.orders.append(("disconnect", order))
        return True


class FakeRefresh(RefreshActivities):
    def __init__(self, *answers: Refreshed | Exception) -> None:
        self._answers = list(answers)
        self.steps: list[str] = []
        self.meanings: list[Meaning | None] = []
        self.known: list[int | None] = []
        """Which versions the refreshes were about."""

    def _next(self, words: str, step: RefreshStep) -> Refreshed:
        self.steps.append(words)
        self.meanings.append(step.meaning)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @activity.defn(name="refresh.refresh")
    async def refresh(self, step: RefreshStep) -> Refreshed:
        self.known.append(step.known_version)
        return self._next("refresh", step)

    @activity.defn(name="refresh.confirm")
    async def confirm(self, step: RefreshStep) -> Refreshed:
        return self._next(f"confirm newer than {step.known_version}", step)


class FakeSweep(RefreshSweepActivities):
    """Chunks from a script; when that ends, nothing is due."""

    def __init__(self, *chunks: Chunk | Exception, due: Mapping[str, int] = MappingProxyType({})) -> None:
        self._chunks = list(chunks)
        self._due = dict(due)
        self.asked = 0

    @activity.defn(name="refresh_sweep.start")
    async def start(self) -> Swept:
        for provider_id in self._due:
            await temporal.start_sweep(activity.client(), SweepRequest(provider_id=provider_id))
        return Swept(due=self._due)

    @activity.defn(name="refresh_sweep.chunk")
    async def chunk(self, step: ChunkStep) -> Chunk:
        self.asked += 1
        chunk = self._chunks.pop(0) if self._chunks else Chunk()
        if isinstance(chunk, Exception):
            raise chunk
        return chunk


class FakeDetection(DetectionActivities):
    def __init__(self, *, may_act: bool = True) -> None:
        self._may_act = may_act
        self.announced: list[UUID] = []
        self.repaired: list[str] = []

    @activity.defn(name="detection.announce")
    async def announce(self, detection: Detection) -> str | None:
        self.announced.append(detection.detection_id)
        return "reauth:simulator:…" if self._may_act else None

    @activity.defn(name="detection.tell_repaired")
    async def tell_repaired(self, told: RepairedElsewhere) -> None:
        self.repaired.append(told.workflow_id)


CALLED = JobResult(decision=Decision(answer=Answer.ALLOWED), meaning=Meaning.OK, because="200", status=200)


def token_refused(version: int) -> JobResult:
    return CALLED.model_copy(
        update={
            "meaning": Meaning.OWNER_MUST_ACT,
            "because": "401 invalid_token: the access token is not accepted",
            "status": 401,
            "refused_version": version,
        }
    )


class FakeJob(JobActivities):
    """Calls answer from a script, and are good without one. The refresh is started and waited for as it really is."""

    def __init__(self, *answers: Exception | JobResult, slow: int = 0) -> None:
        """`slow`: the number of the call that is answered when `may_answer` is set."""
        self._answers = list(answers)
        self._slow = slow
        self.keys: list[str] = []
        self.priorities: list[int | None] = []
        self.under_way, self.may_answer = asyncio.Event(), asyncio.Event()

    @property
    def calls(self) -> int:
        return len(self.keys)

    @activity.defn(name="job.call")
    async def call(self, job: JobRequest) -> JobResult:
        self.keys.append(job.idempotency_key)
        self.priorities.append(activity.info().priority.priority_key)
        answer = self._answers.pop(0) if self._answers else CALLED
        if len(self.keys) == self._slow:
            self.under_way.set()
            await self.may_answer.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeParked(ParkedActivities):
    """Keeps what it is told in the order of its being told."""

    def __init__(self) -> None:
        self.parked: list[Parking] = []
        self.outcomes: list[str] = []

    @activity.defn(name="job.park")
    async def park(self, parking: Parking) -> None:
        self.parked.append(parking)

    @activity.defn(name="job.unparked")
    async def unparked(self, outcome: str) -> None:
        self.outcomes.append(outcome)


class FakeOutbox(OutboxActivities):
    """Drains and attempts from a script. A drain without one ends the dispatcher, an attempt without one delivers."""

    def __init__(self, drains: Iterable[Drained | Exception] = (), attempts: Iterable[Exception] = ()) -> None:
        self._drains, self._attempts = list(drains), list(attempts)
        self.drained, self.tried, self.buried = 0, 0, 0
        self.alone = set[bool]()
        """Whether its steps were to be tried alone."""

    @activity.defn(name="outbox.drain")
    async def drain(self, request: DispatchRequest) -> Drained:
        self.drained += 1
        answer = self._drains.pop(0) if self._drains else Drained(dispatchers=0, items=0, why="there are none to be")
        if isinstance(answer, Exception):
            raise answer
        return answer

    @activity.defn(name="outbox.deliver")
    async def deliver(self, step: DeliveryStep) -> Delivered:
        self.tried += 1
        self.alone.add(step.alone)
        if self._attempts:
            raise self._attempts.pop(0)
        return Delivered(status="delivered", attempts=step.tried + activity.info().attempt)

    @activity.defn(name="outbox.bury")
    async def bury(self, step: DeliveryStep) -> Delivered:
        self.buried += 1
        return Delivered(status="dead", attempts=step.tried, cause="it is refused")


class FakeNotification(NotificationActivities):
    """Drains and attempts from a script. A drain without one ends the dispatcher, an attempt without one delivers."""

    def __init__(
        self,
        drains: Iterable[Sending | Exception] = (),
        attempts: Iterable[Exception] = (),
        *,
        given_up_after: int = 0,
    ) -> None:
        """`given_up_after`: so often the database is in trouble then."""
        self._drains, self._attempts, self._trouble = list(drains), list(attempts), given_up_after
        self.drained, self.given_up = 0, 0
        self.tried_at: list[datetime] = []
        """By the server's clock, which a test may turn; of what is tried in a workflow's own task the first."""
        self.began: list[float] = []
        """By ours."""

    @activity.defn(name="notification.drain")
    async def drain(self, request: ChannelRequest) -> Sending:
        self.drained += 1
        answer = self._drains.pop(0) if self._drains else StopError("the script is at its end")
        if isinstance(answer, Exception):
            raise answer
        return answer

    @activity.defn(name="notification.send")
    async def send(self, step: SendStep) -> Sent:
        went_on(step)
        self.began.append(time.monotonic())
        self.tried_at.append(activity.info().current_attempt_scheduled_time)
        if self._attempts:
            raise self._attempts.pop(0)
        return Sent(status="delivered", attempts=step.tried + len(self.tried_at))

    @activity.defn(name="notification.give_up")
    async def give_up(self, step: SendStep) -> Sent:
        self.given_up += 1
        if self.given_up <= self._trouble:
            raise OUTAGE
        return Sent(status="dead", attempts=step.tried + len(self.tried_at), cause="HTTP 503")


class FakeOutageDetector(OutageDetectorActivities):
    """Looks from a script. One without a script ends the detector: nothing else does."""

    def __init__(self, looks: Iterable[Looked | Exception] = ()) -> None:
        self._looks = list(looks)
        self.looked_at: list[datetime] = []
        """By the server's clock, which a test may turn."""

    @activity.defn(name="outage.look")
    async def look(self) -> Looked:
        self.looked_at.append(activity.info().current_attempt_scheduled_time)
        answer = self._looks.pop(0) if self._looks else StopError("the script is at its end")
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeReconcile(ReconcileActivities):
    def __init__(self) -> None:
        self.sweeps = 0

    @activity.defn(name="reconcile.outbox")
    async def outbox(self) -> Reconciled:
        return Reconciled(deliveries=2, holds=1)

    @activity.defn(name="reconcile.notifications")
    async def notifications(self) -> Reconciled:
        return Reconciled(messages=3, holds=1, alerts=1)

    @activity.defn(name="reconcile.old")
    async def old(self) -> Reconciled:
        return Reconciled(calls=4)

    @activity.defn(name="reconcile.reauth")
    async def reauth(self) -> Reconciled:
        self.sweeps += 1
        return Reconciled(lifecycles=1)


class FakeReconcileBrakes(ReconcileBrakesActivities):
    def __init__(self) -> None:
        pass

    @activity.defn(name="reconcile.mitigations")
    async def mitigations(self) -> Reconciled:
        return Reconciled(outages=1, queues=2)


class FakeKeys(KeysActivities):
    """Counts and steps from a script; the last count is repeated, and a step without a script finds nothing to do."""

    def __init__(self, counts: Iterable[int] = (0,), steps: Iterable[Pass | Exception] = ()) -> None:
        self._counts, self._steps = list(counts), list(steps)
        self.steps: list[ReencryptStep] = []

    @activity.defn(name="keys.left")
    async def left(self, request: ReencryptRequest) -> Left:
        return Left(rows=self._counts.pop(0) if len(self._counts) > 1 else self._counts[0])

    @activity.defn(name="keys.reencrypt")
    async def reencrypt(self, step: ReencryptStep) -> Pass:
        self.steps.append(step)
        answer = self._steps.pop(0) if self._steps else Pass(done=True)
        if isinstance(answer, Exception):
            raise answer
        return answer


OUTAGE = TryAgainError("503: the provider is in trouble and has said nothing about the grant")


@asynccontextmanager
async def workers(
    client: Client,
    *,
    reauth: FakeReauth | None = None,
    refresh: FakeRefresh | None = None,
    sweep: FakeSweep | None = None,
    detection: FakeDetection | None = None,
    job: FakeJob | None = None,
    parked: FakeParked | None = None,
    reconcile: FakeReconcile | None = None,
    keys: FakeKeys | None = None,
    outbox: FakeOutbox | None = None,
    notification: FakeNotification | None = None,
    waiting: FakeWaiting | None = None,
    replay: FakeReplay | None = None,
    outage: FakeOutage | None = None,
    detector: FakeOutageDetector | None = None,
    webhook: FakeWebhook | None = None,
    cached: int = 100,
) -> AsyncIterator[None]:
    """The production's workflows and queues, with fake steps. `cached=0` replays every workflow at every task."""
    reauth, refresh, sweep = reauth or FakeReauth(), refresh or FakeRefresh(), sweep or FakeSweep()
    detection, job, reconcile = detection or FakeDetection(), job or FakeJob(), reconcile or FakeReconcile()
    keys, waiting, outbox = keys or FakeKeys(), waiting or FakeWaiting(), outbox or FakeOutbox()
    webhook = webhook or FakeWebhook()
    replay, notification, parked = replay or FakeReplay(), notification or FakeNotification(), parked or FakeParked()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            Worker(
                client,
                task_queue=WORKFLOWS,
                workflows=CORE_WORKFLOWS,
                activities=[
                    reauth.open,
                    reauth.activate,
                    reauth.expire,
                    waiting.remind,
                    waiting.escalate,
                    waiting.acknowledge,
                    waiting.extend,
                    waiting.snooze,
                    waiting.disconnect,
                    detection.announce,
                    detection.tell_repaired,
                    job.start_refresh,
                    job.refresh_ended,
                    parked.park,
                    parked.unparked,
                    sweep.start,
                    reconcile.reauth,
                    reconcile.outbox,
                    reconcile.notifications,
                    reconcile.old,
                    FakeReconcileBrakes().mitigations,
                    FakeReconcileWebhooks().webhooks,
                    FakeSelfTests().self_tests,
                    keys.left,
                    keys.reencrypt,
                    outbox.deliver,
                    outbox.bury,
                    webhook.deliver,
                    webhook.bury,
                    *replay.steps,
                    *(outage or FakeOutage()).steps,
                    (detector or FakeOutageDetector()).look,
                ],
                max_cached_workflows=cached,
                # A bug in a workflow fails its test at once instead of its task again and again.
                workflow_failure_exception_types=[Exception],
            )
        )
        drains = [outbox.drain, notification.drain, webhook.drain]
        await stack.enter_async_context(Worker(client, task_queue=DRAIN, activities=drains))
        await stack.enter_async_context(
            Worker(
                client,
                task_queue=NOTIFY,
                workflows=NOTIFY_WORKFLOWS,
                activities=[notification.send, notification.give_up],
                max_cached_workflows=cached,
                workflow_failure_exception_types=[Exception],
            )
        )
        await stack.enter_async_context(
            Worker(
                client,
                task_queue=provider_queue("simulator"),
                activities=[
                    reauth.exchange,
                    reauth.prove_and_activate,
                    reauth.prove,
                    refresh.refresh,
                    refresh.confirm,
                    sweep.chunk,
                    job.call,
                ],
            )
        )
        yield


def request(**changes: Any) -> ReauthRequest:
    given = {"connection_id": uuid4(), "provider_id": "simulator", "tenant": "org:acme", "cause": "revoked"}
    return ReauthRequest(**(given | changes))


async def detected(client: Client, wanted: ReauthRequest) -> WorkflowHandle[Any, Any]:
    """Start the lifecycle, or join it, as a detection does."""
    return await temporal.signal_detected(client, wanted, Detection(detection_id=uuid4()))


def consent(fake: FakeReauth, **changes: Any) -> ConsentReceived:
    assert fake.lifecycle_id is not None
    return ConsentReceived(**({"session_id": uuid4(), "lifecycle_id": fake.lifecycle_id} | changes))


def refreshed(answer: Refresh, **more: Any) -> Refreshed:
    return Refreshed(refresh=answer, **more)
