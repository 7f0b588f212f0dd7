"""One capability call, behind the gate."""

import json
from typing import Any, Final

from temporalio import activity

from activities.caller import caller
from integrations.db import connections, credentials
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.errors import StopError, TryAgainError
from integrations.domain.gate import Answer, Decision, Purpose, decide
from integrations.domain.job import JobRequest, JobResult
from integrations.domain.verdict import Meaning
from integrations.providers.oauth import Providers

_BODY_LIMIT: Final = 8_000
"""Bytes of an answer that a workflow's history keeps."""


class JobActivities:
    def __init__(self, sessions: Sessions, vault: Vault, providers: Providers) -> None:
        self._sessions = sessions
        self._vault = vault
        self._providers = providers

    @activity.defn(name="job.call")
    async def call(self, job: JobRequest) -> JobResult:
        """Ask the gate, then the provider. Trouble on the way is raised and retried with the same idempotency key."""
        capability = self._providers.catalog.provider(job.provider_id).capability(job.capability)
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
        )


def _bounded(body: Any) -> Any:
    # A lone half of a surrogate pair is JSON, and no text that a history could hold.
    text = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    if len(text) > _BODY_LIMIT:
        return {"left_out": f"{len(text)} bytes, more than a history should hold"}
    return json.loads(text)
