"""What the commands, the demo and a host application ask of the platform, as typed calls.

Each writes its row first and tells Temporal after the commit: a call that dies in between is finished by reconcile.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from temporalio.client import Client as Temporal
from temporalio.client import (
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.service import RPCError, RPCStatusCode

from activities.detection import announce
from integrations import temporal
from integrations.db import binding, connections, credentials, ending, parked, surge
from integrations.db.session import Sessions, make_engine, make_sessions
from integrations.db.tables import NOT_FETCHED, Connection
from integrations.domain.connection import Status, owner_of, reauth_id
from integrations.domain.errors import KeyTakenError, StopError, TryAgainError
from integrations.domain.job import JobRequest, JobResult
from integrations.domain.parked import Parked
from integrations.domain.reauth import Cancel, Detected, Repaired, Said, SaidUntil
from integrations.domain.refresh import Refreshed, RefreshRequest
from integrations.providers import catalog
from integrations.settings import Settings
from integrations.temporal import signal_repaired, start_job, start_refresh
from starters.invitation import invitation_link
from starters.recording import record, record_apart
from starters.variables import checked
from starters.waited import ParkedError, ended

__all__ = [
    "JobResult",
    "KeyTakenError",
    "ParkedError",
    "Platform",
    "connected",
    "ended",
    "invitation_link",
    "record",
    "record_apart",
]
_ANSWERED_WITHIN: Final = timedelta(seconds=20)
_AT_ONCE: Final = 50
"""Workflows that are started at the same time."""


@dataclass(frozen=True, slots=True)
class Platform:
    """The platform as its callers see it. `by` and `reason` say who asks and why, and are kept."""

    settings: Settings
    sessions: Sessions
    temporal: Temporal

    async def add(
        self, provider_id: str, owner: str, *, by: str, reason: str = "", variables: Mapping[str, str] | None = None
    ) -> Connection:
        """Ask an owner (`user:ID` or `org:ID`) to connect an account, and start the lifecycle that waits for them.

        Where nobody has to consent (`flow = "client_credentials"`), the first token is fetched instead.

        `variables` complete the provider's addresses where its entry wants that of us, such as a shop's name.
        Raises CatalogError for an unknown provider, WrongUsageError for an owner that is none or a wrong variable.
        """
        scope_type, scope_id = owner_of(owner)
        known = catalog.load(self.settings.providers, self.settings.simulator_url).provider(provider_id)
        given = checked(known, variables or {})
        async with self.sessions.begin() as session:
            row = Connection(
                id=uuid4(),
                provider_id=known.id,
                scope_type=scope_type,
                scope_id=scope_id,
                status=Status.ERRORED if known.needs_nobody else Status.DISCONNECTED,
                status_reason=NOT_FETCHED if known.needs_nobody else "not connected yet",
                variables=given,
            )
            session.add(row)
            await session.flush()
            cause = reason or f"{by} asks {owner} to connect {known.name}"
            detection = None
            if not known.needs_nobody:
                detection = await connections.detect(
                    session, row.id, Detected.REQUESTED, cause=cause, actor=by, version=None, ordered=True
                )
        if detection is not None:
            await announce(self.temporal, self.sessions, self.settings.terms, detection)
        else:
            await self.refresh(row.id, by=by, reason=cause)
        return row

    async def ask_for_consent(self, connection_id: UUID, *, revoked: bool, by: str, reason: str) -> str:
        """Open the connection's lifecycle, or join it. With `revoked` the grant is dead and the connection blocked.

        The workflow's id. Raises StopError when there is no such connection, or nobody's consent would help.
        """
        async with self.sessions.begin() as session:
            row = await connections.lock(session, connection_id)
            self._has_an_owner(row)
            active = await credentials.active(session, row.id)
            detection = await connections.detect(
                session,
                row.id,
                Detected.REVOKED if revoked else Detected.REQUESTED,
                cause=reason,
                actor=by,
                version=active.version if active else None,
                evidence={"said_by": by},
                ordered=True,
            )
        started = await announce(self.temporal, self.sessions, self.settings.terms, detection)
        assert started is not None, "what a person orders is announced"
        return started

    def _has_an_owner(self, row: Connection) -> None:
        """Raises StopError. A provider that has vanished from the catalog keeps nobody from a repair."""
        known = {each.id: each for each in catalog.load(self.settings.providers, self.settings.simulator_url)}
        if row.provider_id in known and known[row.provider_id].needs_nobody:
            raise StopError(
                f"connection {row.id} needs nobody's consent: {row.provider_id} knows us by our client credentials. "
                f"For another token: runbook connections refresh {row.id}"
            )

    async def refresh(self, connection_id: UUID, *, by: str, reason: str) -> WorkflowHandle[Any, Refreshed]:
        """Start a refresh, or join the one under way. Raises StopError when there is no such connection."""
        row = await self._find(connection_id)
        request = RefreshRequest(
            connection_id=row.id, provider_id=row.provider_id, tenant=row.tenant, by=by, reason=reason
        )
        started = await start_refresh(self.temporal, request)
        return self.temporal.get_workflow_handle(started.id, result_type=Refreshed)

    async def release(self, provider_id: str, *, by: str, reason: str) -> int | None:
        """Let what a surge holds back at a provider be acted on, and ask once more for each. How many connections.

        None when there is no surge. Killed before all are asked: what is released is acted on by their next refresh.
        """
        async with self.sessions.begin() as session:
            released = await surge.release(session, provider_id, self.settings.surge_limits, by=by, reason=reason)
        for start in range(0, len(released or ()), _AT_ONCE):
            requests = [
                RefreshRequest(
                    connection_id=row.id, provider_id=row.provider_id, tenant=row.tenant, by=by, reason=reason
                )
                for row in (released or ())[start : start + _AT_ONCE]
            ]
            await asyncio.gather(*(start_refresh(self.temporal, request) for request in requests))
        return None if released is None else len(released)

    async def call(
        self,
        connection_id: UUID,
        capability: str,
        *,
        key: str,
        payload: dict[str, Any],
        by: str,
        reason: str,
        parked_after: timedelta | None = None,
    ) -> WorkflowHandle[Any, JobResult]:
        """Start one gated capability call, or join the one with the same idempotency key, also after it was done.

        `parked_after`: for how long it waits for its provider before it is parked (RUNBOOK_JOB_PATIENCE). A parked job
        is done when the provider is back, and its result comes as ever; of one that is joined it changes nothing.

        `key`: 1 to 150 visible ASCII characters, the same one whenever the same thing is asked again, and another one
        for a second thing that looks the same. Raises KeyTakenError when it stands for another request of this
        connection, StopError when there is no such connection, CatalogError when it has no such capability.
        """
        row = await self._find(connection_id)
        known = catalog.load(self.settings.providers, self.settings.simulator_url)
        known.provider(row.provider_id).capability(capability)
        request = JobRequest(
            connection_id=row.id,
            provider_id=row.provider_id,
            tenant=row.tenant,
            capability=capability,
            idempotency_key=key,
            payload=payload,
            by=by,
            reason=reason,
            patience=self.settings.job_patience if parked_after is None else parked_after,
        )
        started = await start_job(self.temporal, request)
        return self.temporal.get_workflow_handle(started.id, result_type=JobResult)

    async def done(
        self,
        connection_id: UUID,
        capability: str,
        *,
        key: str,
        payload: dict[str, Any],
        by: str,
        reason: str,
        patience: float | None = None,
        parked_after: timedelta | None = None,
    ) -> JobResult:
        """`call`, and how it ended: look at the result's `done`. Raises what `call` and `ended` raise.

        `patience`: seconds for which this waits; of a job that is parked by then it raises ParkedError, a TimeoutError
        that says since when and why. The job goes on by itself in either case.
        """
        handle = await self.call(
            connection_id,
            capability,
            key=key,
            payload=payload,
            by=by,
            reason=reason,
            parked_after=parked_after,
        )
        try:
            return await ended(handle, patience)
        except TimeoutError:
            waits = await self.parked(handle.id)
            if waits is None:
                raise
            raise ParkedError(f"{handle.id} is {waits.words}", waits) from None

    async def parked(self, workflow_id: str) -> Parked | None:
        """Since when a job is parked, and why. None when it is not, or done by now."""
        async with self.sessions.begin() as session:
            return await parked.find(session, workflow_id)

    async def remind(self, connection_id: UUID, *, by: str, reason: str) -> str:
        """Tell the owner of a waiting lifecycle once more. What was done, in words."""
        return await self._update(connection_id, "remind", Said(by=by, reason=reason))

    async def extend(self, connection_id: UUID, until: datetime, *, by: str, reason: str) -> str:
        """Move the deadline of a waiting lifecycle."""
        return await self._update(connection_id, "extend", SaidUntil(by=by, reason=reason, until=until))

    async def snooze(self, connection_id: UUID, until: datetime, *, by: str, reason: str) -> str:
        """Press nobody until a date. The connection stays as it is, and its task open."""
        return await self._update(connection_id, "cancel", Cancel(by=by, reason=reason, snooze_until=until))

    async def _update(self, connection_id: UUID, name: str, said: Said) -> str:
        """Ask something of a waiting lifecycle.

        Raises StopError when none waits or it refuses, and TryAgainError when no worker answers in time.
        """
        row = await self._find(connection_id)
        handle = self.temporal.get_workflow_handle(reauth_id(row.provider_id, row.id))
        try:
            return str(await handle.execute_update(name, said, rpc_timeout=_ANSWERED_WITHIN))
        except WorkflowUpdateFailedError as error:
            raise StopError(f"{name} was refused: {error.cause}") from None
        except WorkflowUpdateRPCTimeoutOrCancelledError:
            raise TryAgainError(
                f"{name} was not answered within {_ANSWERED_WITHIN.seconds} s and may still be carried out: is a "
                "worker running? `runbook doctor` tells"
            ) from None
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            raise StopError(
                f"no re-consent of connection {row.id} is open: it is {row.status}. To begin one: "
                f"runbook reauth start {row.id}"
            ) from None

    async def disconnect(self, connection_id: UUID, *, by: str, reason: str) -> bool:
        """Give a connection up: its credential retires here, its lifecycle and task end. False when it was already."""
        async with self.sessions.begin() as session:
            row = await connections.lock(session, connection_id)
            among = tuple(status for status in Status if status is not Status.DISCONNECTED)
            given_up = await ending.give_up(session, row, among=among, reason=reason, actor=by, ended="expired")
        repaired = Repaired(by=by, reason=f"disconnected: {reason}")
        await signal_repaired(self.temporal, reauth_id(row.provider_id, row.id), repaired)
        return given_up

    async def _find(self, connection_id: UUID) -> Connection:
        async with self.sessions.begin() as session:
            return await connections.find(session, connection_id)


@asynccontextmanager
async def connected(config: Settings) -> AsyncIterator[Platform]:
    """The platform that the settings lead to, for a program that stays.

    Raises StopError when the database belongs to another Temporal, TemporalUnreachableError when that does not answer.
    """
    engine = make_engine(config.sqlalchemy_url, pool_size=5)
    try:
        sessions = make_sessions(engine)
        async with sessions.begin() as session:
            await binding.check(session, config.sqlalchemy_url, temporal.target(config))
        yield Platform(config, sessions, await temporal.connect(config))
    finally:
        await engine.dispose()
