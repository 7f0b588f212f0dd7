"""Refreshing one connection: single flight, never with a stale token, never twice with one that may be used up."""

from pydantic import SecretStr
from temporalio import activity

from activities import refresh_first
from activities.refresh_call import brought, evidence_of, meaning_of, optional_of, refresh_at, renews, sending
from activities.run import this_run
from integrations.db import connections, credentials, leases, refresh
from integrations.db.refresh import Claim
from integrations.db.session import Sessions
from integrations.db.tables import Connection
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.errors import RunbookError, TryAgainError
from integrations.domain.reauth import Detected
from integrations.domain.refresh import Refresh, Refreshed, RefreshStep
from integrations.domain.verdict import Meaning, Trouble
from integrations.providers.oauth import OAuthClient, Providers, TokenAnswer


class RefreshActivities:
    def __init__(self, sessions: Sessions, vault: Vault, providers: Providers) -> None:
        self._sessions = sessions
        self._vault = vault
        self._providers = providers

    @activity.defn(name="refresh.refresh")
    async def refresh(self, step: RefreshStep) -> Refreshed:
        """Refresh once. A refusal is an answer that still has to be confirmed."""
        return await self._attempt(step, confirming=False)

    @activity.defn(name="refresh.confirm")
    async def confirm(self, step: RefreshStep) -> Refreshed:
        """Look again at a refused grant, with the newest credential.

        Rotated meanwhile: nothing was dead. A provider that offers introspection is asked, which changes nothing;
        another one is sent the token once more. Dead by that too: the detection's row is committed. An access token
        that still answers would prove nothing, so it is not asked.
        """
        return await self._attempt(step, confirming=True)

    async def _attempt(self, step: RefreshStep, *, confirming: bool) -> Refreshed:
        claimed = await self._claim(step)
        if isinstance(claimed, Refreshed):
            return claimed
        try:
            values = credentials.values(claimed.connection, claimed.credential)
            client = self._providers.client(claimed.connection.provider_id, values)
            tokens = credentials.opened(self._vault, claimed.credential)
        except RunbookError:
            # A person has to bring something first: nobody else waits for the lease meanwhile.
            await self._release(claimed, answered=False)
            raise
        provider = client.provider
        if provider.rotates_refresh_token and not claimed.forgiven(provider.rotation_grace):
            return await self._given_up(claimed, client)
        send = sending(client, tokens)
        if send is None:
            await self._release(claimed, answered=False)
            return Refreshed(refresh=Refresh.NOT_CONNECTED, why=f"{provider.name} gave no refresh token")
        token = renews(provider, tokens)
        if confirming and provider.introspect_url and token is not None:
            looked = await self._introspected(claimed, client, token)
            if looked is not None:
                return looked
        if provider.rotates_refresh_token:
            await self._mark_sent(claimed)
        answer = await send()
        return await self._settle(claimed, client, answer, confirming=confirming)

    async def _introspected(self, claimed: Claim, client: OAuthClient, token: SecretStr) -> Refreshed | None:
        """What the provider itself says of the grant. None when it says nothing clear."""
        answer = await client.introspect(token)
        name, version = client.provider.name, claimed.credential.version
        if answer.active is False:
            cause = f"{name} refused the refresh, and its introspection says that the grant is not alive"
            evidence = evidence_of(claimed, answer) | {"confirmed_by": "introspection"}
            return await self._detect(claimed, cause, evidence, Refresh.REFUSED)
        if answer.active is None:
            return None
        cause = f"{name} refused the refresh, and its introspection says that the grant is alive"
        way_out = (
            f"nothing is demoted. Look at {name}'s status, then: runbook connections refresh {claimed.connection.id}; "
            f"to ask the owner all the same: runbook reauth start {claimed.connection.id}"
        )
        async with self._sessions.begin() as session:
            await refresh.contest(session, claimed, cause=cause, way_out=way_out)
        return Refreshed(refresh=Refresh.UNCONFIRMED, version=version, why=cause)

    async def _claim(self, step: RefreshStep) -> Claim | Refreshed:
        async with self._sessions.begin() as session:
            connection = await connections.find(session, step.connection_id)
            if connection.status not in refresh.ON_DEMAND:
                why = f"the connection is {connection.status}: {connection.status_reason}"
                return Refreshed(refresh=Refresh.NOT_CONNECTED, why=why)
            claimed = None
            before = await credentials.active(session, connection.id)
            if before is not None:
                claimed = await refresh.claim(session, connection, before)
        if before is None and connection.status == Status.ERRORED and self._needs_nobody(connection):
            client = self._providers.client(connection.provider_id, connection.variables)
            return await refresh_first.fetch(self._sessions, self._vault, client, connection.id)
        if before is None:
            return Refreshed(refresh=Refresh.NOT_CONNECTED, why="there is no active credential")
        if claimed is None:
            raise TryAgainError("another refresh of this connection is under way", after=refresh.LEASE / 10)
        # Read again under the lease: what was read before it may have been rotated by the lease's last holder.
        async with self._sessions.begin() as session:
            now = await credentials.active(session, connection.id)
            newer = now is not None and now.version > (step.known_version or before.version)
            if newer or now is None or now.version != before.version:
                await leases.release(session, connection.id, claimed.token, answered=False)
                version = now.version if now else None
                return Refreshed(refresh=Refresh.ROTATED_MEANWHILE, version=version, why="a newer version is active")
        return claimed

    def _needs_nobody(self, connection: Connection) -> bool:
        return self._providers.catalog.provider(connection.provider_id).needs_nobody

    async def _mark_sent(self, claimed: Claim) -> None:
        async with self._sessions.begin() as session:
            version = claimed.credential.version
            if not await leases.mark_sent(session, claimed.connection.id, claimed.token, version):
                raise TryAgainError("the lease of this refresh ran out before it was sent")

    async def _settle(self, claimed: Claim, client: OAuthClient, answer: TokenAnswer, *, confirming: bool) -> Refreshed:
        version, meaning = claimed.credential.version, meaning_of(client.provider, answer)
        if answer.granted is not None:
            return await self._store(claimed, client, answer)
        if meaning is Meaning.OWNER_MUST_ACT and claimed.connection.status == Status.PENDING_REAUTH:
            # Known to be dead, and still is: nothing to confirm, and nothing to detect.
            await self._release(claimed, answered=claimed.certain)
            why = f"the owner has to consent again: {answer.heard.words}"
            return Refreshed(refresh=Refresh.NOT_CONNECTED, version=version, why=why)
        if meaning is Meaning.OWNER_MUST_ACT and confirming:
            return await self._confirmed(claimed, client, answer)
        if meaning is Meaning.OWNER_MUST_ACT:
            await self._release(claimed, answered=claimed.certain)
            return Refreshed(refresh=Refresh.REFUSED, version=version, why=answer.heard.words)
        if meaning is Meaning.OPERATOR_MUST_ACT:
            return await self._errored(claimed, client, answer)
        # A lost answer leaves the mark: the next attempt has to know that the token may be used up. Any other answer
        # says that this one was not, but nothing of an earlier one that was lost.
        lost = answer.heard.trouble is Trouble.LOST
        await self._release(claimed, answered=not lost and claimed.certain)
        raise TryAgainError(f"{client.provider.name}: {answer.verdict.because}", after=answer.verdict.after)

    async def _store(self, claimed: Claim, client: OAuthClient, answer: TokenAnswer) -> Refreshed:
        granted = answer.granted
        assert granted is not None
        kept = credentials.opened(self._vault, claimed.credential)
        tokens = brought(granted, kept)
        async with self._sessions.begin() as session:
            settled = await refresh.settle(
                session,
                self._vault,
                claimed,
                tokens,
                granted=granted.grants,
                wanted=client.provider.asked_grants,
                optional=optional_of(client.provider),
                variables=granted.values,
                expires_at=granted.expires_at,
                refresh_at=refresh_at(client.provider, tokens, granted.expires_at),
                run=this_run(),
                evidence=evidence_of(claimed, answer),
            )
        if settled is None:
            why = "the connection was given up or repaired while it was being refreshed"
            return Refreshed(refresh=Refresh.NOT_CONNECTED, why=why)
        why = f"the refresh {settled.change.words}" if settled.change else ""
        return Refreshed(
            refresh=Refresh.REFRESHED,
            version=settled.version,
            why=why,
            detection_id=settled.detection_id,
            repaired=settled.repaired,
        )

    async def _confirmed(self, claimed: Claim, client: OAuthClient, answer: TokenAnswer) -> Refreshed:
        cause = f"{client.provider.name} refused the refresh twice: {answer.heard.words}"
        evidence = evidence_of(claimed, answer) | {"confirmed_by": "a second refresh with the newest credential"}
        return await self._detect(claimed, cause, evidence, Refresh.REFUSED)

    async def _given_up(self, claimed: Claim, client: OAuthClient) -> Refreshed:
        assert claimed.ambiguous_since is not None
        # The owner reads this: nothing is known to be broken, and nobody else can make it certain.
        cause = (
            f"{client.provider.name}'s answer to a routine renewal of the access was lost on its way to us. Asking "
            "again could end the access, so please consent afresh; nobody has revoked anything that we know of"
        )
        evidence: dict[str, object] = {
            "version": claimed.credential.version,
            "sent_at": claimed.ambiguous_since.isoformat(),
            "noticed_in": this_run().model_dump(),
        }
        return await self._detect(claimed, cause, evidence, Refresh.AMBIGUOUS)

    async def _detect(self, claimed: Claim, cause: str, evidence: dict[str, object], outcome: Refresh) -> Refreshed:
        async with self._sessions.begin() as session:
            # A lost answer says nothing about the grant: the owner is asked, and what still works goes on working.
            kind = Detected.REQUESTED if outcome is Refresh.AMBIGUOUS else Detected.REVOKED
            detection = await refresh.detect(session, claimed, kind, cause=cause, evidence=evidence)
        return Refreshed(refresh=outcome, version=claimed.credential.version, why=cause, detection_id=detection)

    async def _errored(self, claimed: Claim, client: OAuthClient, answer: TokenAnswer) -> Refreshed:
        cause = f"{client.provider.name} refuses our registration: {answer.heard.words}"
        way_out = f"{client.provider.registration_fix}; then: runbook connections refresh {claimed.connection.id}"
        async with self._sessions.begin() as session:
            evidence = evidence_of(claimed, answer)
            await refresh.mark_errored(
                session,
                claimed,
                cause=cause,
                way_out=way_out,
                evidence=evidence,
                run=this_run(),
            )
        return Refreshed(refresh=Refresh.OPERATOR_MUST_ACT, version=claimed.credential.version, why=cause)

    async def _release(self, claimed: Claim, *, answered: bool) -> None:
        async with self._sessions.begin() as session:
            await leases.release(session, claimed.connection.id, claimed.token, answered=answered)
