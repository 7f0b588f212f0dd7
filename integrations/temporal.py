"""Temporal from outside a workflow: connect, the search attributes, and starting a workflow by its name.

Failure modes do not import each other. One that has to start another knows its name and its message, and no more.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from temporalio.client import Client, GrpcCompression, Plugin, WorkflowHandle
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfigProfile
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.runtime import Runtime
from temporalio.service import RPCError, RPCStatusCode

from integrations.db.binding import Target
from integrations.domain.errors import KeyTakenError, RunbookError
from integrations.domain.job import JobRequest
from integrations.domain.keys import Reencrypted, ReencryptRequest
from integrations.domain.mail import THIS_MACHINE
from integrations.domain.message import Message
from integrations.domain.notification_delivery import ChannelRequest, SendRequest, Sent
from integrations.domain.notification_delivery import Left as Unsent
from integrations.domain.outage import DETECTOR, OutageRequest, OutageResult
from integrations.domain.outbox import Delivered, DeliveryRequest, DispatchRequest, Pair
from integrations.domain.reauth import ConsentDenied, ConsentReceived, Detection, ReauthRequest, Repaired
from integrations.domain.refresh import Chunk, RefreshRequest, SweepRequest
from integrations.domain.replay import Outcome, ReplayRequest
from integrations.domain.run import Run
from integrations.domain.webhook import Handled, HandleRequest, Left
from integrations.settings import Settings

WORKFLOWS: Final = "runbook"
"""The task queue of workflows and database steps. `workflows/queues.py` has those of activities alone."""
NOTIFY: Final = "notify"
"""The task queue of messages that are sent once more, and of their workflows: with slots of their own."""
DATA_CONVERTER: Final = pydantic_data_converter

FAILURE_MODE: Final = SearchAttributeKey.for_keyword("FailureMode")
STEP: Final = SearchAttributeKey.for_keyword("Step")
PROVIDER: Final = SearchAttributeKey.for_keyword("Provider")
CONNECTION_ID: Final = SearchAttributeKey.for_keyword("ConnectionId")
TENANT: Final = SearchAttributeKey.for_keyword("Tenant")
CAUSE: Final = SearchAttributeKey.for_keyword("Cause")
DEADLINE: Final = SearchAttributeKey.for_datetime("Deadline")
CAUSE_LIMIT: Final = 255
"""Characters: a search attribute that is too long would fail the workflow's task again and again."""
SEARCH_ATTRIBUTES: Final[tuple[SearchAttributeKey[Any], ...]] = (
    FAILURE_MODE,
    STEP,
    PROVIDER,
    CONNECTION_ID,
    TENANT,
    CAUSE,
    DEADLINE,
)
"""The registry: what the server must know before a worker polls."""


class TemporalUnreachableError(RunbookError):
    """Temporal did not answer. The message has the address tried and what to do."""


def attribute_type(key: SearchAttributeKey[Any]) -> str:
    """The server's word for a key's type, as `temporal operator search-attribute create --type` takes it."""
    return "".join(part.capitalize() for part in key.indexed_value_type.name.split("_"))


def target(settings: Settings) -> Target:
    """The Temporal that the settings lead to.

    The one that TEMPORAL_ADDRESS or TEMPORAL_PROFILE name, else the stack of this checkout, else the default profile.
    """
    profile = _profile(settings)
    if profile is None:
        assert settings.temporal_address is not None
        namespace = settings.temporal_namespace or "default"
        return Target(address=settings.temporal_address, namespace=namespace, embedded=_folder(settings))
    return Target(address=profile.address or "127.0.0.1:7233", namespace=profile.namespace or "default")


def _profile(settings: Settings) -> ClientConfigProfile | None:
    """Temporal's own configuration; None when the embedded server is meant, which no profile describes."""
    named = "TEMPORAL_ADDRESS" in os.environ or "TEMPORAL_PROFILE" in os.environ
    return ClientConfigProfile.load() if named or settings.temporal_address is None else None


def _folder(settings: Settings) -> str | None:
    return str(settings.data) if settings.data else None


async def connect(
    settings: Settings, *, plugins: tuple[Plugin, ...] = (), runtime: Runtime | None = None, lazy: bool = False
) -> Client:
    """Connect to Temporal with this project's converter. Raises TemporalUnreachableError.

    `lazy`: connect at the first call. The web app has work without Temporal: it takes consents while that is down.
    """
    wanted = target(settings)
    profile = _profile(settings)
    options: dict[str, Any] = dict(profile.to_client_connect_config()) if profile else {}
    options |= {"target_host": wanted.address, "namespace": wanted.namespace}
    try:
        return await Client.connect(
            **options,
            data_converter=DATA_CONVERTER,
            plugins=plugins,
            runtime=runtime,
            lazy=lazy,
            connect_timeout=_PATIENCE,
            # On this machine compressing costs a tenth of a workflow and saves nothing.
            grpc_compression=GrpcCompression.NONE if _is_here(wanted.address) else GrpcCompression.GZIP,
        )
    except (RuntimeError, RPCError, TimeoutError) as error:
        reason = str(error).splitlines()[0][:200]
        raise TemporalUnreachableError(
            f"Temporal does not answer at {wanted}: {reason}. Start the stack with `make up`, or set TEMPORAL_ADDRESS"
        ) from None


def _is_here(address: str) -> bool:
    return address.rpartition(":")[0] in THIS_MACHINE


_PATIENCE: Final = timedelta(seconds=5)
_SIGNAL_PATIENCE: Final = timedelta(seconds=3)
"""A person's browser waits for this. What is not signalled in time, reconcile signals from the row."""


async def missing_attributes(client: Client) -> list[SearchAttributeKey[Any]]:
    """Which attributes of the registry the server does not know.

    An upsert of one of these would fail its workflow task again and again, so it is asked before anything polls. Asked
    by a query: Temporal Cloud lets nobody list them.
    """
    missing = []
    for key in SEARCH_ATTRIBUTES:
        try:
            await client.count_workflows(f"{key.name} IS NULL")
        except RPCError as error:
            if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                raise
            missing.append(key)
    return missing


Request = ReauthRequest | RefreshRequest | JobRequest


async def _start_or_join(
    client: Client,
    name: str,
    failure_mode: str,
    request: Request,
    summary: str,
    attributes: Sequence[SearchAttributePair[Any]] = (),
    id_conflict_policy: WorkflowIDConflictPolicy = WorkflowIDConflictPolicy.USE_EXISTING,
    **more: Any,
) -> WorkflowHandle[Any, Any]:
    """Start a workflow, or join the open one of the same id. Its attributes find it even with no worker alive."""
    return await client.start_workflow(
        name,
        request,
        id=request.key,
        task_queue=WORKFLOWS,
        id_conflict_policy=id_conflict_policy,
        search_attributes=TypedSearchAttributes(
            [
                SearchAttributePair(FAILURE_MODE, failure_mode),
                SearchAttributePair(PROVIDER, request.provider_id),
                SearchAttributePair(CONNECTION_ID, str(request.connection_id)),
                SearchAttributePair(TENANT, request.tenant),
                *attributes,
            ]
        ),
        static_summary=f"{request.provider_id} of {request.tenant}: {summary}",
        **more,
    )


async def signal_detected(client: Client, request: ReauthRequest, detection: Detection) -> WorkflowHandle[Any, Any]:
    """Signal-with-start: joins the connection's open lifecycle, or starts a new one after the last closed."""
    return await _start_or_join(
        client,
        "ReauthWorkflow",
        "reauth",
        request.model_copy(update={"opens_locally": True}),
        request.cause,
        [
            SearchAttributePair(STEP, "wait"),
            SearchAttributePair(CAUSE, request.cause[:CAUSE_LIMIT]),
            SearchAttributePair(DEADLINE, datetime.now(UTC) + request.patience),
        ],
        start_signal="detected",
        start_signal_args=[detection],
    )


async def start_refresh(
    client: Client, request: RefreshRequest, wait: timedelta | None = None
) -> WorkflowHandle[Any, Any]:
    """Start the refresh of one connection, after `wait`, or join the one under way."""
    why = f"{request.reason} (by {request.by})"
    return await _start_or_join(client, "RefreshWorkflow", "refresh", request, why, start_delay=wait)


async def start_sweep(client: Client, request: SweepRequest) -> WorkflowHandle[Any, Chunk]:
    """Start refreshing what is due at one provider, or join the run that is at it."""
    return await client.start_workflow(
        "ProviderRefreshWorkflow",
        request,
        id=request.key,
        task_queue=WORKFLOWS,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        search_attributes=TypedSearchAttributes(
            [SearchAttributePair(FAILURE_MODE, "refresh"), SearchAttributePair(PROVIDER, request.provider_id)]
        ),
        static_summary=f"what is due at {request.provider_id}",
        result_type=Chunk,
    )


async def start_job(client: Client, request: JobRequest) -> WorkflowHandle[Any, Any]:
    """Start one capability call, or join the one with the same idempotency key, also after it was done.

    One that failed without a result is begun anew. Raises KeyTakenError when the key stands for another request: also
    for that of a job that failed, since the provider may have heard of it.
    """
    started = await _start_job(client, request, WorkflowIDReusePolicy.REJECT_DUPLICATE)
    if started is None:
        difference = request.differs_from(await _asked_before(client, request.key))
        if difference:
            raise KeyTakenError(
                f"the idempotency key {request.idempotency_key!r} of connection {request.connection_id} is taken: "
                f"{difference}. Give what is another request a key of its own"
            )
        started = await _start_job(client, request, WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY)
    return started or client.get_workflow_handle(request.key)


async def _start_job(
    client: Client, request: JobRequest, reuse: WorkflowIDReusePolicy
) -> WorkflowHandle[Any, Any] | None:
    try:
        return await _start_or_join(
            client,
            "ProviderJobWorkflow",
            "job",
            request,
            request.capability,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            id_reuse_policy=reuse,
        )
    except WorkflowAlreadyStartedError:
        return None


async def _asked_before(client: Client, workflow_id: str) -> JobRequest:
    """What the job of this id was started with: it stands in its first event."""
    first = await anext(client.get_workflow_handle(workflow_id).fetch_history_events(page_size=1))
    given = first.workflow_execution_started_event_attributes.input.payloads
    [asked] = await client.data_converter.decode(given, [JobRequest])
    return JobRequest.model_validate(asked)


async def start_reencryption(client: Client, request: ReencryptRequest) -> WorkflowHandle[Any, Reencrypted]:
    """Start sealing everything with a key, or join the re-encryption under way, whichever key that one is for."""
    return await client.start_workflow(
        "KeysReencryptWorkflow",
        request,
        id=request.key,
        task_queue=WORKFLOWS,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        search_attributes=TypedSearchAttributes([SearchAttributePair(FAILURE_MODE, "keys")]),
        static_summary=f"seal everything with {request.key_id}: {request.reason} (by {request.by})",
        result_type=Reencrypted,
    )


async def _always_on(
    client: Client, workflow: str, workflow_id: str, mode: str, summary: str, *request: Message
) -> WorkflowHandle[Any, Any]:
    """Start what runs all the time, or join it where it does."""
    return await client.start_workflow(
        workflow,
        args=request,
        id=workflow_id,
        task_queue=WORKFLOWS,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        search_attributes=TypedSearchAttributes([SearchAttributePair(FAILURE_MODE, mode)]),
        static_summary=summary,
    )


def _left_the_flow(mode: str, step: str, left: Pair | Unsent | Left) -> list[SearchAttributePair[Any]]:
    """What an item in trouble is found by. One that is about nobody, or about several, names no tenant."""
    found: list[SearchAttributePair[Any]] = [
        SearchAttributePair(FAILURE_MODE, mode),
        SearchAttributePair(STEP, step),
        SearchAttributePair(PROVIDER, left.provider_id),
        SearchAttributePair(CAUSE, left.cause[:CAUSE_LIMIT]),
    ]
    if left.tenant:
        found.append(SearchAttributePair(TENANT, left.tenant))
    if left.connection_id is not None:
        found.append(SearchAttributePair(CONNECTION_ID, str(left.connection_id)))
    return found


async def start_dispatcher(client: Client, number: int) -> WorkflowHandle[Any, Any]:
    """Start a dispatcher of the outbox, or join the one that runs."""
    summary, asked = f"dispatcher {number} of the outbox, always on", DispatchRequest(number=number)
    return await _always_on(client, "OutboxDispatchWorkflow", f"outbox-dispatch:{number}", "outbox", summary, asked)


async def start_delivery(client: Client, request: DeliveryRequest) -> WorkflowHandle[Any, Delivered]:
    """Start the attempts at a projection that left the flow, or join those under way."""
    pair = request.pair
    attributes = _left_the_flow("outbox", "try", pair)
    return await client.start_workflow(
        "OutboxDeliveryWorkflow",
        request,
        id=pair.key,
        task_queue=WORKFLOWS,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        search_attributes=TypedSearchAttributes(attributes),
        static_summary=f"{pair.name} of {pair.tenant} at {pair.provider_id}, projector {pair.projector}: {pair.cause}",
        result_type=Delivered,
    )


async def start_webhook_dispatcher(client: Client, number: int) -> WorkflowHandle[Any, Any]:
    """Start a dispatcher of webhook deliveries, or join the one that runs."""
    summary, asked = f"dispatcher {number} of webhooks, always on", DispatchRequest(number=number)
    return await _always_on(client, "WebhookDispatchWorkflow", f"webhook-dispatch:{number}", "webhook", summary, asked)


async def start_handling(client: Client, request: HandleRequest) -> WorkflowHandle[Any, Handled]:
    """Start the attempts at a webhook delivery that left the flow, or join those under way."""
    left = request.left
    attributes = _left_the_flow("webhook", "try", left)
    return await client.start_workflow(
        "WebhookDeliveryWorkflow",
        request,
        id=left.key,
        task_queue=WORKFLOWS,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        search_attributes=TypedSearchAttributes(attributes),
        static_summary=f"{left.event or 'a delivery'} of {left.provider_id}, channel {left.channel}: {left.cause}",
        result_type=Handled,
    )


async def start_channel(client: Client, channel: str) -> WorkflowHandle[Any, Any]:
    """Start a channel's dispatcher, or join the one that runs."""
    workflow_id, summary = f"notification-dispatch:{channel}", f"what goes out by {channel}, always on"
    asked = ChannelRequest(channel=channel)
    return await _always_on(client, "NotificationDispatchWorkflow", workflow_id, "notification", summary, asked)


async def start_sending(client: Client, request: SendRequest) -> WorkflowHandle[Any, Sent]:
    """Start the attempts at a message that left the flow, or join those under way."""
    left = request.left
    attributes = [*_left_the_flow("notification", "send", left), SearchAttributePair(DEADLINE, left.expires_at)]
    return await client.start_workflow(
        "NotificationDeliveryWorkflow",
        request,
        id=left.key,
        task_queue=NOTIFY,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        search_attributes=TypedSearchAttributes(attributes),
        static_summary=f"{left.definition} to {left.recipient} by {left.channel}: {left.cause}",
        result_type=Sent,
        start_delay=None if left.waits_locally else left.wait or None,
        # Where a worker is in this process, the first task comes with the answer in place of by the queue.
        request_eager_start=True,
    )


async def start_detector(client: Client) -> WorkflowHandle[Any, Any]:
    """Start the detector of outages, or join the one that runs."""
    summary = "looks for outages of providers, always on"
    return await _always_on(client, "OutageDetectorWorkflow", DETECTOR, "outage", summary)


async def start_outage(client: Client, request: OutageRequest) -> WorkflowHandle[Any, OutageResult]:
    """Start an outage's workflow, or join the provider's open one."""
    return await client.start_workflow(
        "ProviderOutageWorkflow",
        request,
        id=request.key,
        task_queue=WORKFLOWS,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        search_attributes=TypedSearchAttributes(
            [
                SearchAttributePair(FAILURE_MODE, "outage"),
                SearchAttributePair(STEP, "scope"),
                SearchAttributePair(PROVIDER, request.provider_id),
                SearchAttributePair(CAUSE, request.reason[:CAUSE_LIMIT]),
            ]
        ),
        static_summary=f"{request.provider_id}: {request.reason} (by {request.by})",
        result_type=OutageResult,
    )


async def start_replay(client: Client, request: ReplayRequest) -> WorkflowHandle[Any, Outcome]:
    """Start the replay of a plan, or join it, also after it has ended. One that was ended by hand goes on."""
    try:
        return await client.start_workflow(
            "ReplayWorkflow",
            request,
            id=request.key,
            task_queue=WORKFLOWS,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
            search_attributes=TypedSearchAttributes(
                [SearchAttributePair(FAILURE_MODE, request.ledger), SearchAttributePair(STEP, "begin")]
            ),
            static_summary=f"replay, {request.ledger}, at most {request.rate:,}/s: {request.reason} (by {request.by})",
            result_type=Outcome,
        )
    except WorkflowAlreadyStartedError:
        return client.get_workflow_handle(request.key, result_type=Outcome)


async def signal_consent(client: Client, workflow_id: str, consent: ConsentReceived | ConsentDenied) -> None:
    """Tell a lifecycle that its owner came back. Raises RPCError NOT_FOUND when it has ended."""
    name = "consent_received" if isinstance(consent, ConsentReceived) else "consent_denied"
    await client.get_workflow_handle(workflow_id).signal(name, consent, rpc_timeout=_SIGNAL_PATIENCE)


async def signal_repaired(client: Client, workflow_id: str, repaired: Repaired) -> bool:
    """Have a lifecycle look again. False when none is open."""
    try:
        await client.get_workflow_handle(workflow_id).signal("connection_repaired", repaired)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return False
    return True


async def signal_go_on(client: Client, job: Run) -> bool:
    """Tell a parked job to call once more. False when its run has ended."""
    try:
        handle = client.get_workflow_handle(job.workflow_id, run_id=job.run_id)
        await handle.signal("go_on", rpc_timeout=_SIGNAL_PATIENCE)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return False
    return True


def ui_link(settings: Settings, workflow_id: str, run_id: str = "") -> str | None:
    """The page of a workflow, or of one of its runs, in the Web UI, when it is known where that runs."""
    if settings.temporal_ui_url is None:
        return None
    from urllib.parse import quote

    namespace = target(settings).namespace
    run = f"/{run_id}/history" if run_id else ""
    return f"{settings.temporal_ui_url}/namespaces/{namespace}/workflows/{quote(workflow_id, safe='')}{run}"
