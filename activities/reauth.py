"""The steps of re-consent: open, exchange, prove, activate, expire. Each may be run again and does nothing twice."""

import asyncio

from temporalio import activity

from integrations.db import consents, credentials, reauth, waiting
from integrations.db.credentials import Tokens
from integrations.db.session import Sessions
from integrations.db.tables import Connection, ConsentSession, Credential
from integrations.db.vault import Vault
from integrations.domain.connection import masked
from integrations.domain.errors import TryAgainError
from integrations.domain.reauth import (
    Activation,
    Candidate,
    Consent,
    Exchange,
    Exchanged,
    Expire,
    Opened,
    Opening,
    OpenLifecycle,
    Proof,
)
from integrations.domain.verdict import Meaning, Trouble, Verdict
from integrations.providers.oauth import Account, OAuthClient, Providers, TokenAnswer

_ON_ITS_WAY = frozenset({"received", "exchanging", "exchanged"})


class ReauthActivities:
    def __init__(self, sessions: Sessions, vault: Vault, providers: Providers, callback_base: str) -> None:
        self._sessions = sessions
        self._vault = vault
        self._providers = providers
        self._callback_base = callback_base

    @activity.defn(name="reauth.open")
    async def open(self, wanted: OpenLifecycle) -> Opened:
        """Demote, block, open the operator's task and invite the owner: one transaction."""
        async with self._sessions.begin() as session:
            row = await session.get_one(Connection, wanted.connection_id)
            # Only a first consent asks the catalog: an entry that has vanished must not keep anybody from a repair.
            known = row.grants or row.missing_grants
            ask_first = [] if known else self._providers.catalog.provider(row.provider_id).asked_grants
            opened = await reauth.open_lifecycle(session, self._vault, wanted, ask_first)
            if opened.opening is not Opening.OPENED or wanted.opened_at is None:
                return opened
            unseen_since = await waiting.escalate_at(session, row)
        # Decided here and kept in the answer: whatever the rules of time zones become, a replay reads the same.
        return opened.model_copy(
            update={
                "remind_at": wanted.reminding.times(wanted.opened_at, wanted.deadline),
                "escalate_at": unseen_since and unseen_since + wanted.reminding.acknowledge_within,
            }
        )

    @activity.defn(name="reauth.exchange")
    async def exchange(self, consent: Consent) -> Exchanged:
        """Send the code, once, and keep what came back as a candidate when account and grants are right.

        The code is marked as sent, and that is committed, before it goes out. Found marked without a credential, it
        may have been used or not: it is never sent again, and the owner is invited afresh.
        """
        async with self._sessions.begin() as session:
            row = await session.get_one(ConsentSession, consent.session_id)
            connection = await session.get_one(Connection, consent.connection_id)
            kept = await credentials.of_session(session, row.id)
        if row.lifecycle_id != consent.lifecycle_id or row.status not in _ON_ITS_WAY:
            return Exchanged(exchange=Exchange.STALE, why=f"the session is {row.status}")
        if row.status == "exchanged" and kept is not None:
            return Exchanged(exchange=Exchange.CANDIDATE, version=kept.version)
        # What a person has to bring first, a client secret or a key, is found missing before the code counts as sent.
        client = self._providers.client(connection.provider_id, connection.variables | row.variables)
        if kept is None:
            if row.status != "received":
                why = "the answer to the owner's consent was lost on its way to us"
                return await self._invite_again(consent, why)
            refused = await self._send_code(client, consent, row)
            if refused is not None:
                return refused
        return await self._check(consent, connection)

    @activity.defn(name="reauth.prove")
    async def prove(self, candidate: Candidate) -> Proof:
        """Call what the candidate is said to allow. Only an answer of the provider counts as proof."""
        async with self._sessions.begin() as session:
            connection = await session.get_one(Connection, candidate.connection_id)
            kept = await credentials.version_of(session, candidate.connection_id, candidate.version)
        if kept is None:
            return Proof(works=False, why="the candidate was dealt with before: see the invitation that took its place")
        client = self._providers.client(connection.provider_id, credentials.values(connection, kept))
        token = credentials.opened(self._vault, kept).access_token
        granted = frozenset(kept.grants)
        probes = {c.probe for c in client.provider.capabilities.values() if c.requires <= granted}
        if not probes:
            why = f"{client.provider.name} accepted the consent, and it allows nothing that could be called"
            await self._invite_again(candidate, why)
            return Proof(works=False, why=why)
        # Together: they share one timeout, and none of them has an effect.
        answers = await asyncio.gather(*(client.call(probe, token) for probe in probes))
        verdicts = [client.judge_call(answer) for answer in answers]
        for verdict in verdicts:
            _raise_if_transient(verdict, f"the proof at {client.provider.name}")
        broken = next((verdict for verdict in verdicts if verdict.meaning is not Meaning.OK), None)
        if broken is not None:
            why = f"{client.provider.name} accepted the consent but not a call with it: {broken.because}"
            await self._invite_again(candidate, why)
            return Proof(works=False, why=why)
        return Proof(works=True)

    @activity.defn(name="reauth.activate")
    async def activate(self, candidate: Candidate) -> Activation:
        """The candidate becomes the active version, the old one retires, the connection works: one transaction."""
        async with self._sessions.begin() as session:
            return await reauth.activate(session, candidate)

    @activity.defn(name="reauth.expire")
    async def expire(self, expired: Expire) -> None:
        """Give the connection up: nobody came before the deadline."""
        async with self._sessions.begin() as session:
            await reauth.expire(session, expired)

    async def _send_code(self, client: OAuthClient, consent: Consent, row: ConsentSession) -> Exchanged | None:
        """Send the code and store what it brought, unchecked. None when that went well."""
        code, verifier = consents.code_and_verifier(self._vault, row)
        async with self._sessions.begin() as session:
            if not await consents.move(session, row.id, "received", "exchanging"):
                return Exchanged(exchange=Exchange.STALE, why="another attempt sends the code at this moment")
        redirect_uri = f"{self._callback_base}/oauth/callback/{client.provider.id}"
        answer = await client.exchange(code, redirect_uri=redirect_uri, verifier=verifier)
        if answer.heard.trouble is Trouble.NOT_SENT:
            async with self._sessions.begin() as session:
                await consents.move(session, row.id, "exchanging", "received")
            raise TryAgainError(f"{client.provider.name} could not be reached, nothing was sent: {answer.heard.words}")
        if answer.verdict.meaning is Meaning.OPERATOR_MUST_ACT:
            await self._tell_operators(client, consent, answer)
        if answer.granted is None:
            return await self._invite_again(consent, _why_refused(client, answer))
        granted = answer.granted
        asked = list(row.asked_grants)
        async with self._sessions.begin() as session:
            owner = await reauth.locked_by(session, consent)
            waiting = await session.get_one(ConsentSession, row.id, populate_existing=True)
            if owner is None or waiting.status != "exchanging":
                return Exchanged(exchange=Exchange.STALE, why="the connection or its invitation was ended meanwhile")
            await credentials.add(
                session,
                self._vault,
                owner.id,
                Tokens(access_token=granted.access_token, refresh_token=granted.refresh_token),
                state="unchecked",
                grants=sorted(granted.grants) if granted.grants is not None else asked,
                variables=row.variables | granted.values,
                expires_at=granted.expires_at,
                session_id=row.id,
            )
        return None

    async def _tell_operators(self, client: OAuthClient, consent: Consent, answer: TokenAnswer) -> None:
        async with self._sessions.begin() as session:
            await reauth.tell_operators(
                session,
                consent,
                title=f"{client.provider.name} refuses our own registration",
                cause=f"the token endpoint answered {answer.heard.words}",
                way_out=client.provider.registration_fix,
            )

    async def _check(self, consent: Consent, connection: Connection) -> Exchanged:
        """Whose account is it, and are the grants there? Nothing stays of a consent that is wrong."""
        async with self._sessions.begin() as session:
            kept = await credentials.of_session(session, consent.session_id)
            row = await session.get_one(ConsentSession, consent.session_id)
        if kept is None:
            return Exchanged(exchange=Exchange.STALE, why="the consent was dealt with meanwhile")
        client = self._providers.client(connection.provider_id, credentials.values(connection, kept))
        answer = await client.identity(credentials.opened(self._vault, kept).access_token)
        _raise_if_transient(answer.verdict, f"asking {client.provider.name} whose account it is")
        if answer.account is None:
            return await self._invite_again(consent, f"the consent does not work: {answer.verdict.because}")
        if connection.account_id not in {None, answer.account.id}:
            why = (
                f"the consent was given by {masked(answer.account.name)}, "
                f"and this connection belongs to {masked(connection.account_name)}"
            )
            return await self._invite_again(consent, why)
        missing = sorted(set(row.asked_grants) - client.provider.optional_grants - set(kept.grants))
        if missing:
            async with self._sessions.begin() as session:
                await reauth.lack_grants(session, consent, missing)
            return await self._invite_again(consent, f"these permissions were not given: {', '.join(missing)}")
        return await self._keep(consent, kept, answer.account, answer.values)

    async def _keep(self, consent: Consent, kept: Credential, account: Account, values: dict[str, str]) -> Exchanged:
        async with self._sessions.begin() as session:
            if await reauth.locked_by(session, consent) is None:
                return Exchanged(exchange=Exchange.STALE, why="the connection was given up meanwhile")
            row = await session.get_one(ConsentSession, consent.session_id)
            if row.status != "exchanging":
                return Exchanged(exchange=Exchange.STALE, why=f"the invitation is {row.status}")
            row.status, row.account_id, row.account_name = "exchanged", account.id, account.name
            row.sealed_code = row.sealed_verifier = None
            candidate = await credentials.of_session(session, consent.session_id)
            if candidate is None:
                return Exchanged(exchange=Exchange.STALE, why="the consent was dealt with meanwhile")
            candidate.state, candidate.variables = "candidate", candidate.variables | values
        return Exchanged(exchange=Exchange.CANDIDATE, version=kept.version)

    async def _invite_again(self, consent: Consent | Candidate, why: str) -> Exchanged:
        async with self._sessions.begin() as session:
            invited = await reauth.invite_again(
                session, self._vault, consent, consent.session_id, why=why, deadline=consent.deadline
            )
        return Exchanged(exchange=Exchange.INVITED_AGAIN if invited else Exchange.STALE, why=why)


def _raise_if_transient(verdict: Verdict, doing: str) -> None:
    if verdict.is_transient:
        raise TryAgainError(f"{doing}: {verdict.because}", after=verdict.after)


def _why_refused(client: OAuthClient, answer: TokenAnswer) -> str:
    if answer.verdict.meaning is Meaning.OPERATOR_MUST_ACT:
        return "a mistake on our side kept the consent from being completed; we were told, please try again later"
    if answer.verdict.meaning is Meaning.OWNER_MUST_ACT:
        return f"{client.provider.name} did not accept the consent's code any more"
    if answer.heard.trouble is Trouble.LOST:
        return f"the answer to the consent was lost on its way from {client.provider.name}"
    return f"{client.provider.name} did not complete the consent: {answer.verdict.because}"
