"""The worker process: the only place that constructs what activities work with."""

import asyncio
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import Client
from temporalio.worker import Worker

from activities.detection import DetectionActivities
from activities.job import JobActivities
from activities.keys import KeysActivities
from activities.notification import NotificationActivities
from activities.notification_ending import Ending
from activities.notification_kit import Kit, put_together
from activities.outage import OutageActivities
from activities.outage_detector import OutageDetectorActivities
from activities.outbox import OutboxActivities
from activities.parked import ParkedActivities
from activities.reauth import ReauthActivities
from activities.reconcile import ReconcileActivities
from activities.reconcile_brakes import ReconcileBrakesActivities
from activities.reconcile_webhooks import ReconcileWebhooksActivities
from activities.refresh import RefreshActivities
from activities.refresh_sweep import RefreshSweepActivities
from activities.refused import watched
from activities.replay import ReplayActivities
from activities.retention import RetentionActivities
from activities.waiting import WaitingActivities
from activities.webhook import WebhookActivities
from activities.webhook_selftest import SelfTest, WebhookSelfTestActivities
from integrations import observability, settings, temporal
from integrations.db import automation, binding, connections, dispatchers, keys, migrate
from integrations.db.projectors import PROJECTORS, notifying
from integrations.db.session import Sessions, make_engine, make_sessions
from integrations.db.vault import Vault
from integrations.db.webhook_handlers import Handling
from integrations.domain.automation import Conduct
from integrations.domain.errors import RunbookError, StopError
from integrations.domain.ledger import PARTITIONS
from integrations.domain.notification import CHANNELS
from integrations.domain.webhook import LEDGER as WEBHOOKS
from integrations.domain.webhook_selftest import PURPOSE
from integrations.observability import scrubbed
from integrations.providers import catalog
from integrations.providers.catalog import Catalog
from integrations.providers.channels.channel import Channel
from integrations.providers.channels.client import make_transport
from integrations.providers.channels.registry import make as make_channels
from integrations.providers.http import make_client, make_renewing_client
from integrations.providers.oauth import Providers
from integrations.settings import Settings
from worker import schedules
from worker.plugin import runbook_plugin
from worker.recorder import recording
from workflows.job import ProviderJobWorkflow
from workflows.keys import KeysReencryptWorkflow
from workflows.notification import NotificationDeliveryWorkflow, NotificationDispatchWorkflow
from workflows.outage import ProviderOutageWorkflow
from workflows.outage_detector import OutageDetectorWorkflow
from workflows.outbox import OutboxDeliveryWorkflow, OutboxDispatchWorkflow
from workflows.queues import DRAIN, NOTIFY, WORKFLOWS, provider_queue
from workflows.reauth import ReauthWorkflow
from workflows.reconcile import ReconcileWorkflow
from workflows.refresh import RefreshWorkflow
from workflows.refresh_sweep import ProviderRefreshWorkflow, RefreshSweepWorkflow
from workflows.replay import ReplayWorkflow
from workflows.webhook import WebhookDeliveryWorkflow, WebhookDispatchWorkflow

log = structlog.get_logger("worker")
CORE_WORKFLOWS: Final = (
    ReauthWorkflow,
    RefreshWorkflow,
    RefreshSweepWorkflow,
    ProviderRefreshWorkflow,
    ProviderJobWorkflow,
    ProviderOutageWorkflow,
    ReconcileWorkflow,
    KeysReencryptWorkflow,
    OutboxDispatchWorkflow,
    OutboxDeliveryWorkflow,
    WebhookDispatchWorkflow,
    WebhookDeliveryWorkflow,
    OutageDetectorWorkflow,
    ReplayWorkflow,
    NotificationDispatchWorkflow,
)
NOTIFY_WORKFLOWS: Final = (NotificationDeliveryWorkflow,)
WORKFLOW_CLASSES: Final = (*CORE_WORKFLOWS, *NOTIFY_WORKFLOWS)
"""Of all queues: what a replay has to know."""
_GRACE: Final = timedelta(seconds=20)
"""Longer than a provider call: what runs at a shutdown finishes as the attempt it is."""
_STICKY: Final = timedelta(seconds=3)
"""How long a workflow waits for a killed worker's cache before any worker takes it."""
_CALLS_PER_PROVIDER: Final = 20
_SENDS: Final = 20
"""Messages that are sent once more at the same time."""
_LOCAL_SENDS: Final = 64
"""The same in their workflows' own tasks, which most are over with at once."""
_WAITING: Final = 500
"""Tasks of their workflows: one that waits a second or two for its message's next attempt is under way so long."""
_LET_CORE_SETTLE: Final = 0.25
"""Seconds: the SDK's core crashes now and then when the interpreter exits right behind a worker (sdk-python #300)."""


def build_workers(
    client: Client,
    engine: AsyncEngine,
    providers: Providers,
    channels: Mapping[str, Channel],
    config: Settings,
    served: Iterable[str],
    renewing: Providers | None = None,
) -> list[Worker]:
    """One worker for workflows and database steps, one for drains, one for messages, one for each provider's calls.

    `renewing`: what a sweep refreshes with, where that is another client.
    """
    sessions = make_sessions(engine)
    vault = Vault(config.keys)
    reauth = ReauthActivities(sessions, vault, providers, config.web_url)
    waiting = WaitingActivities(sessions)
    refresh = RefreshActivities(sessions, vault, providers, config.surge_limits)
    sweep = RefreshSweepActivities(sessions, vault, renewing or providers, config.terms, config.surge_limits)
    jobs = JobActivities(sessions, vault, providers)
    parked = ParkedActivities(sessions)
    reconcile = ReconcileActivities(sessions, config.terms, config.retrying, config.sending)
    retention = RetentionActivities(sessions, config.kept)
    self_test = SelfTest(sessions, vault, providers.catalog, config.web_base, config.ingress_base)
    self_tests = WebhookSelfTestActivities(sessions, self_test)
    detector = OutageDetectorActivities(sessions, config.outage_limits, providers.catalog.families)
    reconcile_brakes = ReconcileBrakesActivities(sessions, providers.catalog)
    sealing = KeysActivities(sessions, vault)
    detection = DetectionActivities(sessions, config.terms)
    kit = put_together(config, vault, channels, providers.catalog)
    outbox = OutboxActivities(
        sessions,
        config.sqlalchemy_url,
        config.retrying,
        batch=config.outbox_batch,
        projectors={**PROJECTORS, "notification": notifying(kit.definitions.patterns)},
    )
    messages = build_notifications(sessions, kit, config)
    counted = {provider.id: watched(provider, config.surge_limits) for provider in providers.catalog}
    handling = Handling(counted, vault.derived(PURPOSE))
    webhook = WebhookActivities(
        sessions, config.sqlalchemy_url, config.terms, handling, config.handling, batch=config.webhook_batch
    )
    reconcile_webhooks = ReconcileWebhooksActivities(sessions, handling, config.handling)
    replays = ReplayActivities(sessions)
    outage = OutageActivities(sessions, vault, providers, config.outage_limits)
    core = Worker(
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
            jobs.start_refresh,
            jobs.refresh_ended,
            parked.park,
            parked.unparked,
            sweep.start,
            reconcile.reauth,
            reconcile.outbox,
            reconcile.notifications,
            retention.old,
            self_tests.self_tests,
            reconcile_brakes.mitigations,
            reconcile_webhooks.webhooks,
            sealing.left,
            sealing.reencrypt,
            outbox.deliver,
            outbox.bury,
            webhook.deliver,
            webhook.bury,
            detector.look,
            replays.begin,
            replays.release,
            replays.watch,
            replays.pause,
            replays.resume,
            replays.repace,
            replays.approve,
            replays.end,
            outage.open,
            outage.scope,
            outage.contain,
            outage.shield,
            outage.keep,
            outage.drop,
            outage.probe,
            outage.pace,
            outage.sample,
            outage.replay,
            outage.validate,
            outage.close,
        ],
        graceful_shutdown_timeout=_GRACE,
        sticky_queue_schedule_to_start_timeout=_STICKY,
    )
    drain = Worker(
        client,
        task_queue=DRAIN,
        activities=[outbox.drain, messages.drain, webhook.drain],
        max_concurrent_activities=2 * PARTITIONS + len(CHANNELS),
        graceful_shutdown_timeout=_GRACE,
    )
    notify = Worker(
        client,
        task_queue=NOTIFY,
        workflows=NOTIFY_WORKFLOWS,
        activities=[messages.send, messages.give_up],
        max_concurrent_activities=_SENDS,
        max_concurrent_local_activities=_LOCAL_SENDS,
        max_concurrent_workflow_tasks=_WAITING,
        sticky_queue_schedule_to_start_timeout=_STICKY,
        graceful_shutdown_timeout=_GRACE,
    )
    calls: list[Callable[..., Any]] = [
        reauth.exchange,
        reauth.prove_and_activate,
        reauth.prove,
        refresh.refresh,
        refresh.confirm,
        sweep.chunk,
        jobs.call,
    ]
    return [core, drain, notify] + [
        Worker(
            client,
            task_queue=provider_queue(provider_id),
            activities=calls,
            max_concurrent_activities=_CALLS_PER_PROVIDER,
            graceful_shutdown_timeout=_GRACE,
        )
        for provider_id in served
    ]


def build_notifications(sessions: Sessions, kit: Kit, config: Settings) -> NotificationActivities:
    ending = Ending(kit.definitions, kit.rules, kit.composer)
    return NotificationActivities(
        sessions,
        config.sqlalchemy_url,
        kit.channels,
        kit.rules,
        kit.composer,
        ending,
        config.sending,
        batch=config.notify_batch,
    )


async def served_providers(engine: AsyncEngine, known: Catalog) -> list[str]:
    """Those that can be called, and those that connections wait for: the catalog knows many more."""
    async with make_sessions(engine).begin() as session:
        in_use = await connections.providers_in_use(session)
    return [provider.id for provider in known if provider.id in in_use or known.is_configured(provider.id)]


async def start_dispatchers(client: Client, engine: AsyncEngine) -> None:
    """Start what is always on and does not run; reconcile does so later, whenever one was ended by hand."""
    async with make_sessions(engine).begin() as session:
        wished = await dispatchers.wished(session, "outbox")
        webhooks = await dispatchers.wished(session, WEBHOOKS)
    for number in range(wished):
        await temporal.start_dispatcher(client, number)
    for number in range(webhooks):
        await temporal.start_webhook_dispatcher(client, number)
    for channel in CHANNELS:
        await temporal.start_channel(client, channel)
    await temporal.start_detector(client)


async def check_attributes(client: Client) -> None:
    """Raise StopError, with the commands that fix it, when the server lacks a search attribute that workflows set."""
    missing = await temporal.missing_attributes(client)
    if missing:
        fixes = [
            f"temporal operator search-attribute create --namespace {client.namespace} "
            f"--name {key.name} --type {temporal.attribute_type(key)}"
            for key in missing
        ]
        raise StopError("the Temporal server lacks search attributes; create them:\n  " + "\n  ".join(fixes))


async def check_database(engine: AsyncEngine, config: Settings) -> None:
    """Raise StopError when the schema is not this code's, or the database belongs to another Temporal or key."""
    found, wanted = await migrate.revision(engine), migrate.newest()
    if found != wanted:
        raise StopError(f"the database is at revision {found}, this code wants {wanted}: run `runbook db upgrade`")
    async with make_sessions(engine).begin() as session:
        await binding.check(session, config.sqlalchemy_url, temporal.target(config))
        await keys.check(session, Vault(config.keys), by="runbook worker")


async def conduct(engine: AsyncEngine, config: Settings) -> None:
    """From now on the platform acts or observes as this worker was told: they all ask the database."""
    async with make_sessions(engine).begin() as session:
        await automation.conduct(session, config.mode)


async def run(config: Settings) -> None:
    """Work until SIGINT or SIGTERM, then finish what is under way."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(make_client())
        many = await stack.enter_async_context(make_renewing_client())
        sending = await stack.enter_async_context(make_transport(config.webhook_internal))
        engine = make_engine(config.sqlalchemy_url, ask_first=False)
        stack.push_async_callback(engine.dispose)
        recorder = await stack.enter_async_context(recording(make_sessions(engine)))
        providers = Providers(catalog.load(config.providers, config.simulator_url), http, recorder)
        renewing = Providers(providers.catalog, many, recorder)
        client = await temporal.connect(config, plugins=(runbook_plugin(sandboxed=False),))
        await check_attributes(client)
        await check_database(engine, config)
        await conduct(engine, config)
        await schedules.ensure(client)
        await start_dispatchers(client, engine)
        served = await served_providers(engine, providers.catalog)
        workers = build_workers(client, engine, providers, make_channels(config, sending), config, served, renewing)
        running = asyncio.gather(*(worker.run() for worker in workers))
        # All at once: one after the other their graces would add up.
        stack.push_async_callback(_stop, workers, running)
        if config.mode is Conduct.OBSERVE:
            log.warning("worker.observes", does="nothing by itself", see="runbook automation")
        log.info("worker.started", temporal=str(temporal.target(config)), providers=served)
        ends: set[asyncio.Future[Any]] = {running, asyncio.ensure_future(stop.wait())}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        log.info("worker.stopping", grace_seconds=_GRACE.total_seconds())
    await asyncio.sleep(_LET_CORE_SETTLE)


async def _stop(workers: list[Worker], running: asyncio.Future[list[None]]) -> None:
    """Let every worker finish what it has in hand; a worker that failed by itself is heard here."""
    await asyncio.gather(*(worker.shutdown() for worker in workers if worker.is_running))
    await running


def main() -> None:
    """Entry of `python -m worker`. Exit code 3 when Temporal or the database cannot be reached, 1 when it refuses."""
    try:
        config = settings.load()
        observability.configure(as_json=config.log_json)
        asyncio.run(run(config))
    except settings.SettingsError as error:
        sys.exit(f"{error}")
    except temporal.TemporalUnreachableError as error:
        log.error("worker.unreachable", why=str(error))  # noqa: TRY400 - the message is the whole story
        sys.exit(3)
    except RunbookError as error:
        sys.exit(f"the worker refuses to start: {error}")
    except (OSError, SQLAlchemyError) as error:
        log.error("worker.unreachable", why=f"Postgres: {scrubbed(str(error))}")  # noqa: TRY400
        sys.exit(3)
