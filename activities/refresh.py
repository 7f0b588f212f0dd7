"""Refreshing one connection: single flight, never with a stale token, never twice with one that may be used up."""

from temporalio import activity

from activities import braked, refresh_first
from activities.caller import caller
from activities.refresh_call import renews, sending
from activities.refresh_store import renewed_by, stored
from activities.refused import Refusals
from activities.run import this_run
from integrations.db import connections, credentials, leases, refresh, surge
from integrations.db.refresh import Claim
from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.errors import RunbookError, TryAgainError
from integrations.domain.gate import Purpose
from integrations.domain.reauth import Detected
from integrations.domain.refresh import Refresh, Refreshed, RefreshStep
from integrations.domain.surge import Limits
from integrations.domain.verdict import TERMINAL, Meaning, Trouble
from integrations.providers.entry import Provider
from integrations.providers.oauth import OAuthClient, Providers, TokenAnswer


class RefreshActivities:
    def __init__(self, sessions: Sessions, vault: Vault, providers: Providers, limits: Limits = Limits()) -> None:
        """`limits`: how many terminal answers at one provider are a surge, which nobody acts on."""
        self._sessions = sessions
        self._vault = vault
        self._providers = providers
        self._refusals = Refusals(sessions, limits)

    @activity.defn(name="refresh.refresh")
    async def refresh(self, step: RefreshStep) -> Refreshed:
        """Refresh once. A refusal is an answer that still has to be confirmed."""
        return await self._attempt(step, confirming=False)

    @activity.defn(name="refresh.confirm")
    async def confirm(self, step: RefreshStep) -> Refreshed:
        """Look again at what was refused, with the newest credential.

        Rotated meanwhile: nothing was dead. A provider that offers introspection is asked, which changes nothing;
        another one is sent the token once more. Refused by that too: the detection's row is committed, or the
        connection is errored, unless it is one of a surge. An access token that still answers would prove nothing, so
        it is not asked.
        """
        return await self._attempt(step, confirming=True)

    async def _attempt(self, step: RefreshStep, *, confirming: bool) -> Refreshed:
        claimed = await self._claim(step, confirming=confirming)
        if isinstance(claimed, Refreshed):
            return claimed
        try:
            values = credentials.values(claimed.connection, claimed.credential)
            asking = caller(claimed.connection, Purpose.REFRESH)
            client = self._providers.client(claimed.connection.provider_id, values, asking)
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
        if confirming and _introspects(provider, step) and token is not None:
            looked = await self._refusals.introspected(claimed, client, token)
            if looked is not None:
                return looked
        if provider.rotates_refresh_token:
            await self._mark_sent(claimed)
        answer = await send()
        return await self._settle(claimed, client, answer, confirming=confirming)

    async def _claim(self, step: RefreshStep, *, confirming: bool) -> Claim | Refreshed:
        async with self._sessions.begin() as session:
            connection = await connections.find(session, step.connection_id)
            if connection.status not in refresh.ON_DEMAND:
                why = f"the connection is {connection.status}: {connection.status_reason}"
                return Refreshed(refresh=Refresh.NOT_CONNECTED, why=why)
            claimed = None
            before = await credentials.active(session, connection.id)
            if before is not None:
                claimed = await refresh.claim(session, connection, before)
            provider = self._providers.catalog.provider(connection.provider_id)
            is_first = before is None and connection.status == Status.ERRORED and provider.needs_nobody
            if claimed is not None or is_first:
                # With the lease: whoever is not let through does not take it.
                looks = confirming and _introspects(provider, step)
                await braked.ask(session, provider.id, braked.TOKEN, *([braked.INTROSPECT] if looks else []))
        if is_first:
            asking = caller(connection, Purpose.REFRESH)
            client = self._providers.client(connection.provider_id, connection.variables, asking)
            return await refresh_first.fetch(self._sessions, self._vault, client, connection.id)
        if before is None:
            return Refreshed(refresh=Refresh.NOT_CONNECTED, why="there is no active credential")
        if claimed is None:
            raise TryAgainError("another refresh of this connection is under way", after=leases.LEASE / 10)
        # Read again under the lease: what was read before it may have been rotated by the lease's last holder.
        async with self._sessions.begin() as session:
            now = await credentials.active(session, connection.id)
            newer = now is not None and now.version > (step.known_version or before.version)
            if newer or now is None or now.version != before.version:
                await leases.release(session, connection.id, claimed.token, answered=False)
                version = now.version if now else None
                return Refreshed(refresh=Refresh.ROTATED_MEANWHILE, version=version, why="a newer version is active")
        return claimed

    async def _mark_sent(self, claimed: Claim) -> None:
        async with self._sessions.begin() as session:
            version = claimed.credential.version
            if not await leases.mark_sent(session, claimed.connection.id, claimed.token, version):
                raise TryAgainError("the lease of this refresh ran out before it was sent")

    async def _settle(self, claimed: Claim, client: OAuthClient, answer: TokenAnswer, *, confirming: bool) -> Refreshed:
        if answer.granted is not None:
            return await self._store(claimed, client, answer)
        if answer.verdict.meaning in TERMINAL:
            return await self._refusals.heard(claimed, client, answer, confirming=confirming)
        # A lost answer leaves the mark: the next attempt has to know that the token may be used up. Any other answer
        # says that this one was not, but nothing of an earlier one that was lost.
        lost = answer.heard.trouble is Trouble.LOST
        await self._release(claimed, answered=not lost and claimed.certain)
        raise TryAgainError(f"{client.provider.name}: {answer.verdict.because}", after=answer.verdict.after)

    async def _store(self, claimed: Claim, client: OAuthClient, answer: TokenAnswer) -> Refreshed:
        granted = answer.granted
        assert granted is not None
        kept = credentials.opened(self._vault, claimed.credential)
        renewed = renewed_by(client.provider, claimed, kept, granted)
        settled = await stored(self._sessions, self._vault, client.provider, renewed, answer)
        if settled is not None:
            async with self._sessions.begin() as session:
                await surge.tried(session, self._refusals.at(client.provider), worked=[claimed.connection.id])
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
        version = claimed.credential.version
        async with self._sessions.begin() as session:
            # A lost answer says nothing about the grant: the owner is asked, and what still works goes on working.
            detection = await refresh.detect(session, claimed, Detected.REQUESTED, cause=cause, evidence=evidence)
        return Refreshed(refresh=Refresh.AMBIGUOUS, version=version, why=cause, detection_id=detection)

    async def _release(self, claimed: Claim, *, answered: bool) -> None:
        async with self._sessions.begin() as session:
            await leases.release(session, claimed.connection.id, claimed.token, answered=answered)


def _introspects(provider: Provider, step: RefreshStep) -> bool:
    """Is the provider asked about what it refused? It knows of grants, and nothing of our registration."""
    return provider.introspect_url is not None and step.meaning is not Meaning.OPERATOR_MUST_ACT
