"""The transactions of a refresh: claim before the call, settle after it, guarded by token, status and version."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db import automation, connections, credentials, ending, leases, shield, surge, tasks
from integrations.db.credentials import Tokens
from integrations.db.leases import LEASE
from integrations.db.surge_counts import Refusal, Watched
from integrations.db.tables import Connection, Credential
from integrations.db.vault import Vault
from integrations.domain.automation import FailureMode, Step
from integrations.domain.connection import Status
from integrations.domain.grants import Change, compare
from integrations.domain.reauth import Detected
from integrations.domain.run import Run

REFRESHABLE: Final = (Status.ACTIVE, Status.ERRORED, Status.NEEDS_RECONSENT)
"""A grant that lives is kept alive, also while others are missing."""
ON_DEMAND: Final = (*REFRESHABLE, Status.PENDING_REAUTH)
"""A person may have a dead grant tried once more: what a provider said of it by mistake is repaired so."""
_ACTOR: Final = "RefreshWorkflow"
_ASKED_AGAIN: Final = timedelta(hours=1)
_AGAIN: Final = "a refresh works again"


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to refresh one connection, and what it is refreshed with."""

    connection: Connection
    credential: Credential
    token: int
    ambiguous_since: datetime | None
    """When this version's refresh token first went out without an answer. None: it never did."""
    newest: int = 0
    """The highest version there is, candidates included, where a whole batch is stored at once."""

    @property
    def certain(self) -> bool:
        """Is it known that this version's token is unused? Then an answer settles it, and no mark needs to stay."""
        return self.ambiguous_since is None

    def forgiven(self, grace: timedelta) -> bool:
        """May the token be sent (again)? Within the grace the provider answers it with its successor."""
        return self.ambiguous_since is None or datetime.now(UTC) - self.ambiguous_since < grace


@dataclass(frozen=True, slots=True)
class Settled:
    version: int
    detection_id: UUID | None
    """Grants are missing that the owner has to give back."""
    change: Change
    repaired: bool = False
    """The connection was blocked, and is not any more: its lifecycle has nothing left to wait for."""


async def claim(session: AsyncSession, connection: Connection, credential: Credential) -> Claim | None:
    """None while another refresh of the connection holds the lease."""
    token = await leases.claim(session, connection.id, LEASE)
    if token is None:
        return None
    lease = await leases.find(session, connection.id)
    assert lease is not None
    ambiguous_since = lease.sent_at if lease.sent_version == credential.version else None
    return Claim(connection, credential, token, ambiguous_since)


async def settle(
    session: AsyncSession,
    vault: Vault,
    claim: Claim,
    tokens: Tokens,
    *,
    granted: Iterable[str] | None,
    wanted: Iterable[str],
    optional: Iterable[str],
    variables: dict[str, str],
    expires_at: datetime | None,
    refresh_at: datetime | None = None,
    run: Run | None = None,
    evidence: dict[str, Any] | None = None,
) -> Settled | None:
    """Store the new version and retire the old one. None, and nothing stored, when this writer came too late.

    Too late means: the lease was lost, the connection was given up or demoted, or its credential was replaced
    meanwhile. `granted` is None when the answer named no grants, which means that they are as they were.
    """
    row = await connections.lock(session, claim.connection.id)
    if not await leases.release(session, row.id, claim.token, answered=True):
        return None
    current = await credentials.active(session, row.id)
    if row.status not in {*REFRESHABLE, claim.connection.status} or row.status == Status.DISCONNECTED:
        return None
    if current is None or current.version != claim.credential.version:
        return None
    await credentials.retire_active(session, row.id)
    fresh = await credentials.add(
        session,
        vault,
        row.id,
        tokens,
        state="active",
        grants=sorted(granted) if granted is not None else list(current.grants),
        variables=current.variables | variables,
        expires_at=expires_at,
        refresh_at=refresh_at,
    )
    detection, change = None, Change()
    if row.status == Status.PENDING_REAUTH:
        _restore_grants(row, fresh.grants, optional)
    elif granted is not None:
        change = compare(row.grants, fresh.grants, wanted=wanted, optional=optional)
        if change:
            detection = await _note(session, row, change, fresh.version)
    told = (evidence or {}) | {"version": fresh.version}
    repaired = await _works_again(session, row, told, run, told_grants=granted is not None)
    return Settled(fresh.version, detection, change, repaired)


async def _note(session: AsyncSession, row: Connection, change: Change, version: int) -> UUID | None:
    """Write down that the grants changed. A detection's id when the owner has to act.

    While the platform may not act, a loss takes nothing from the connection: what is missing waits as a detection.
    """
    if not change.lost or await automation.may(session, row, FailureMode.REAUTH, Step.NARROW, cause=change.words):
        return await connections.note_grants(session, row, change, actor=_ACTOR, version=version)
    if not change.missing:
        return None
    return await connections.detect(
        session,
        row.id,
        Detected.DOWNGRADED,
        cause=f"the provider's answer to a refresh {change.words}",
        actor=_ACTOR,
        version=version,
        evidence={"missing": list(change.missing)},
    )


def _restore_grants(row: Connection, has: Iterable[str], optional: Iterable[str]) -> None:
    """The grant was written off with all that it allowed, and lives: what this version has is there after all."""
    known = {*row.grants, *row.missing_grants}
    row.grants = sorted(has)
    row.missing_grants = sorted(known - set(row.grants) - set(optional))


async def _works_again(
    session: AsyncSession, row: Connection, evidence: dict[str, Any], run: Run | None, *, told_grants: bool
) -> bool:
    """A refresh is good news: tasks close, and whoever was errored or blocked without need is so no longer."""
    await tasks.close_all(session, row.id, by=_ACTOR, reason=_AGAIN, kinds=(tasks.CONTESTED,))
    status = Status(row.status)
    if status is Status.ERRORED:
        await connections.transition(
            session,
            row,
            Status.ACTIVE,
            among=(Status.ERRORED,),
            event="connection.repaired",
            reason=_AGAIN,
            actor=_ACTOR,
            run=run,
            evidence=evidence,
            payload={"version": evidence["version"]},
        )
        await tasks.close_all(session, row.id, by=_ACTOR, reason=_AGAIN, kinds=("errored", "registration"))
    if status is Status.PENDING_REAUTH and row.missing_grants:
        await connections.transition(
            session,
            row,
            Status.NEEDS_RECONSENT,
            among=(Status.PENDING_REAUTH,),
            event="connection.needs_reconsent",
            reason=f"{_AGAIN}, without {', '.join(row.missing_grants)}",
            actor=_ACTOR,
            run=run,
            evidence=evidence,
            payload={"grants_gone": row.missing_grants},
        )
    # An answer that names no grants says nothing of those that are missing.
    elif status is Status.PENDING_REAUTH or (
        status is Status.NEEDS_RECONSENT and told_grants and not row.missing_grants
    ):
        await ending.repair_elsewhere(session, row, reason=_AGAIN, actor=_ACTOR, run=run, evidence=evidence)
        return True
    return False


async def refuse(session: AsyncSession, claim: Claim, at: Watched, refused: Refusal) -> bool:
    """Give the lease back and count a refusal that has to be confirmed. True: it is held back, by a known surge."""
    row = await connections.lock(session, claim.connection.id)
    if not await leases.release(session, row.id, claim.token, answered=claim.certain):
        return False
    return bool(await surge.tried(session, at, refused=[refused]))


async def set_aside(session: AsyncSession, claim: Claim, at: Watched, refused: Refusal) -> str | None:
    """Ask whether a refusal came under a shield, in the transaction that would count or act on it. None: it did not.

    Otherwise why it is not believed, in words; the lease is given back, and the connection stays as it is.
    """
    row = await connections.lock(session, claim.connection.id)
    why = await shield.why(session, row)
    if why is not None and await leases.release(session, row.id, claim.token, answered=claim.certain):
        await shield.set_aside(session, at.name, [refused])
    return why


async def held_back(session: AsyncSession, claim: Claim, at: Watched, refused: Refusal) -> str | None:
    """Ask whether a refusal is one of a surge, in the transaction that would act on it. None: act.

    Otherwise why not, in words; the lease is given back, and the connection stays as it is.
    """
    row = await connections.lock(session, claim.connection.id)
    why = await surge.suspected(session, at, refused)
    if why is not None:
        await leases.release(session, row.id, claim.token, answered=claim.certain)
    return why


async def detect(
    session: AsyncSession, claim: Claim, kind: Detected, *, cause: str, evidence: dict[str, Any]
) -> UUID | None:
    """Give the lease back and write down what was found. None when this writer came too late to say so."""
    row = await connections.lock(session, claim.connection.id)
    if not await leases.release(session, row.id, claim.token, answered=claim.certain):
        return None
    if row.status not in REFRESHABLE:
        return None
    # A token that may be used up is never sent again; one that was refused is, should nobody act on it for long.
    await credentials.put_off(
        session, row.id, claim.credential.version, None if kind is Detected.REQUESTED else _ASKED_AGAIN
    )
    return await connections.detect(
        session,
        row.id,
        kind,
        cause=cause,
        actor=_ACTOR,
        version=claim.credential.version,
        evidence=evidence,
    )


async def mark_errored(
    session: AsyncSession,
    claim: Claim,
    *,
    cause: str,
    way_out: str,
    evidence: dict[str, Any],
    run: Run | None = None,
) -> None:
    """Ours to fix: the connection is `errored`, and a task names the fix. Held back, the next refresh finds it."""
    row = await connections.lock(session, claim.connection.id)
    if not await leases.release(session, row.id, claim.token, answered=claim.certain):
        return
    if row.status == Status.ACTIVE and not await automation.may(
        session, row, FailureMode.REAUTH, Step.ERRORED, cause=cause
    ):
        return
    moved = await connections.transition(
        session,
        row,
        Status.ERRORED,
        among=(Status.ACTIVE,),
        event="connection.errored",
        reason=cause,
        actor=_ACTOR,
        run=run,
        evidence=evidence,
    )
    if moved:
        title = f"{row.provider_id} refuses our own registration"
        await tasks.open_task(session, row.id, "errored", title=title, cause=cause, way_out=way_out)


async def contest(session: AsyncSession, claim: Claim, *, cause: str, way_out: str) -> None:
    """Nothing is demoted on a provider's word that its other word denies: a person looks."""
    row = await connections.lock(session, claim.connection.id)
    if not await leases.release(session, row.id, claim.token, answered=claim.certain):
        return
    if not await automation.may(session, row, FailureMode.REAUTH, Step.CONTEST, cause=cause):
        return
    title = f"{row.provider_id} contradicts itself about {row.tenant}'s grant"
    await tasks.open_task(session, row.id, tasks.CONTESTED, title=title, cause=cause, way_out=way_out)
