"""One capability call, behind the gate; and the refresh that a refused access token asks for."""

import asyncio
import json
from typing import Any, Final

from temporalio import activity
from temporalio.client import WorkflowFailureError

from activities import braked
from activities.caller import caller
from integrations import temporal
from integrations.db import connections, credentials
from integrations.db.refresh import REFRESHABLE
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.errors import StopError, TryAgainError
from integrations.domain.gate import Answer, Decision, Purpose, decide
from integrations.domain.job import JobRequest, JobResult
from integrations.domain.refresh import Refreshed, RefreshRequest
from integrations.domain.run import Run
from integrations.domain.verdict import Meaning
from integrations.providers.oauth import Providers

_BODY_LIMIT: Final = 8_000
"""Bytes of an answer that a workflow's history keeps."""
_LISTENS: Final = 2
"""Seconds that one attempt waits for a refresh to end."""


class JobActivities:
    def __init__(self, sessions: Sessions, vault: Vault, providers: Providers) -> None:
        self._sessions = sessions
        self._vault = vault
        self._providers = providers

    @activity.defn(name="job.call")
    async def call(self, job: JobRequest) -> JobResult:
        """Ask the gate, then the provider. Trouble on the way is raised and retried with the same idempotency key."""
        provider = self._providers.catalog.provider(job.provider_id)
        capability = provider.capability(job.capability)
        async with self._sessions.begin() as session:
            connection = await connections.find(session, job.connection_id)
            if (connection.provider_id, connection.tenant) != (job.provider_id, job.tenant):
                raise StopError(
                    f"connection {connection.id} is {connection.provider_id}'s for {connection.tenant}, "
                    f"and the job says {job.provider_id} for {job.tenant}"
                )
            kept = await credentials.active(session, connection.id)
            decision = decide(
                Purpose.USE,
                Status(connection.status),
                capability.access,
                requires=capability.requires,
                optional=capability.optional,
                granted=frozenset(connection.grants),
            )
            if decision.may_go and kept is None:
                decision = Decision(answer=Answer.BLOCKED, reason="there is no active credential")
            if not decision.may_go or kept is None:
                return JobResult(decision=decision, because=decision.reason)
            await braked.ask(session, provider.id, provider.name_of(capability.call))
        values = credentials.values(connection, kept)
        client = self._providers.client(job.provider_id, values, caller(connection, Purpose.USE))
        token = credentials.opened(self._vault, kept).access_token
        answer = await client.call(capability.call, token, payload=job.payload, idempotency_key=job.idempotency_key)
        verdict = client.judge_call(answer)
        if verdict.is_transient:
            raise TryAgainError(f"{job.capability} at {client.provider.name}: {verdict.because}", after=verdict.after)
        return JobResult(
            decision=decision,
            meaning=verdict.meaning,
            because=verdict.because,
            status=answer.heard.status,
            body=_bounded(answer.body) if verdict.meaning is Meaning.OK else None,
            # A connection that waits for its owner has been refreshed in vain already.
            refused_version=kept.version if verdict.refuses_token and connection.status in REFRESHABLE else None,
        )

    @activity.defn(name="job.start_refresh")
    async def start_refresh(self, request: RefreshRequest) -> Run:
        """Start the connection's refresh, or join the one under way. Safe to repeat: no version is renewed twice."""
        handle = await temporal.start_refresh(activity.client(), request)
        return Run(workflow_id=handle.id, run_id=handle.result_run_id or "")

    @activity.defn(name="job.refresh_ended")
    async def refresh_ended(self, run: Run) -> Refreshed:
        """How the refresh ended. Raises TryAgainError while it is under way, StopError when it ended without a word."""
        handle = activity.client().get_workflow_handle(run.workflow_id, run_id=run.run_id, result_type=Refreshed)
        try:
            async with asyncio.timeout(_LISTENS):
                ended: Refreshed = await handle.result()
        except TimeoutError:
            raise TryAgainError(f"{run.workflow_id} is under way") from None
        except WorkflowFailureError as error:
            raise StopError(f"{run.workflow_id} has failed: {error.cause}") from None
        return ended


def _bounded(body: Any) -> Any:
    # A lone half of a surrogate pair is JSON, and no text that a history could hold.
    text = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    if len(text) > _BODY_LIMIT:
        return {"left_out": f"{len(text)} bytes, more than a history should hold"}
    return json.loads(text)
