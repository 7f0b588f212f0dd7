"""The steps of re-consent: open, exchange, prove and activate, expire. Each may be run again and does nothing twice."""

import asyncio
from typing import Any, Final
from uuid import UUID

from temporalio import activity

from activities import braked
from activities.caller import caller
from activities.heart import beating
from activities.refresh_call import refresh_at
from activities.run import this_run
from integrations.db import consents, credentials, ending, reauth
from integrations.db.credentials import Tokens
from integrations.db.session import Sessions
from integrations.db.tables import Connection, ConsentSession, Credential
from integrations.db.vault import Vault
from integrations.domain.connection import masked
from integrations.domain.errors import TryAgainError
from integrations.domain.gate import Purpose
from integrations.domain.reauth import (
    Activation,
    Candidate,
    Consent,
    Exchange,
    Exchanged,
    Expire,
    Opened,
    OpenLifecycle,
    Proof,
)
from integrations.domain.verdict import Meaning, Trouble, Verdict
from integrations.providers.entry import Provider
from integrations.providers.granted import Granted
from integrations.providers.oauth import Account, Answer, IdentityAnswer, OAuthClient, Providers, TokenAnswer

_GONE: Final = Proof(works=False, why="the candidate was dealt with before: see the invitation that took its place")


class _StaleError(Exception):
    """Nobody waits for this consent any more; whatever the step was writing is taken back."""


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
            return await reauth.open_lifecycle(session, self._vault, wanted, self._ask_first, run=this_run())

    def _ask_first(self, provider_id: str) -> list[str]:
        return list(self._providers.catalog.provider(provider_id).asked_grants)

    @activity.defn(name="reauth.exchange")
    async def exchange(self, consent: Consent) -> Exchanged:
        """Send the code, once, and keep what came back as a candidate when account and grants are right.

        The code is marked as sent, and that is committed, before it goes out. Found marked without a credential, it
        may have been used or not: it is never sent again, and the owner is invited afresh.

        The proof follows at once, since a person waits. When the provider has trouble with it just then, or is spared
        such calls, the answer has none, and proving is a step of its own that is repeated. The code itself passes every
        circuit: it is one call, and does not live for long.
        """
        async with beating():
            try:
                exchanged = await self._exchange(consent)
            except _StaleError as found:
                return Exchanged(exchange=Exchange.STALE, why=str(found))
            if exchanged.version is None or not consent.prove:
                return exchanged
            try:
                proof = await self._prove_and_activate(Candidate(**consent.model_dump(), version=exchanged.version))
            except TryAgainError as trouble:
                activity.logger.info("proof.postponed", extra={"why": str(trouble)})
                return exchanged
        return exchanged.model_copy(update={"proof": proof})

    @activity.defn(name="reauth.prove_and_activate")
    async def prove_and_activate(self, candidate: Candidate) -> Proof:
        """Call what the candidate is said to allow, and activate it when that works.

        Only an answer of the provider counts as proof. One step of two transactions and the calls: activating is safe
        to repeat, and so is a proof.
        """
        async with beating():
            return await self._prove_and_activate(candidate)

    @activity.defn(name="reauth.prove")
    async def prove(self, candidate: Candidate) -> Proof:
        """The proof alone, for lifecycles that began when it was a step of its own."""
        return (await self._proven(candidate))[0]

    @activity.defn(name="reauth.activate")
    async def activate(self, candidate: Candidate) -> Activation:
        """The activation alone, for the same lifecycles."""
        async with self._sessions.begin() as session:
            return await ending.activate(session, candidate, run=this_run()) or Activation.VOID

    @activity.defn(name="reauth.expire")
    async def expire(self, expired: Expire) -> UUID | None:
        """Give the connection up: nobody came before the deadline. Whoever did is the answer: their consent goes on.

        While the platform may not act by itself, Temporal asks again.
        """
        async with self._sessions.begin() as session:
            if await ending.may_expire(session, expired):
                return await ending.expire(session, expired, run=this_run())
        raise TryAgainError(f"not given up yet, although {expired.why}: `runbook automation` says why")

    async def _exchange(self, consent: Consent) -> Exchanged:
        sending: tuple[str, str] | None = None
        async with self._sessions.begin() as session:
            found = await consents.with_credential(session, consent.session_id)
            if found is None:
                raise _StaleError(f"there is no session {consent.session_id}")
            row, connection, kept = found
            if row.lifecycle_id == consent.lifecycle_id and row.status in {"exchanged", "completed"} and kept:
                return Exchanged(exchange=Exchange.CANDIDATE, version=kept.version)
            if row.lifecycle_id != consent.lifecycle_id or row.status not in consents.ON_ITS_WAY:
                raise _StaleError(f"the session is {row.status}")
            # What a person has to bring, a client secret or a key, is found missing before the code counts as sent.
            variables = credentials.values(connection, kept) if kept else connection.variables | row.variables
            client = self._providers.client(connection.provider_id, variables, caller(connection, Purpose.EXCHANGE))
            if kept is None and row.status == "received":
                sending = consents.code_and_verifier(self._vault, row)
                if not await consents.move(session, row.id, "received", "exchanging"):
                    # An attempt that Temporal gave up may still be at it: what it brings is found by the next one.
                    raise TryAgainError("another attempt sends the code at this moment")
        if kept is not None:
            answer = await client.identity(credentials.opened(self._vault, kept).access_token)
            return await self._check(consent, row, connection, kept, client, answer)
        if sending is None:
            return await self._invite_again(consent, "the answer to the owner's consent was lost on its way to us")
        return await self._send_code(consent, row, connection, client, *sending)

    async def _send_code(
        self,
        consent: Consent,
        row: ConsentSession,
        connection: Connection,
        client: OAuthClient,
        code: str,
        verifier: str,
    ) -> Exchanged:
        redirect_uri = f"{self._callback_base}/oauth/callback/{client.provider.id}"
        answer = await client.exchange(code, redirect_uri=redirect_uri, verifier=verifier)
        if answer.heard.trouble is Trouble.NOT_SENT:
            async with self._sessions.begin() as session:
                await consents.move(session, row.id, "exchanging", "received")
            raise TryAgainError(f"{client.provider.name} could not be reached, nothing was sent: {answer.heard.words}")
        if answer.verdict.meaning is Meaning.OPERATOR_MUST_ACT:
            await self._tell_operators(client, consent, answer)
        if answer.granted is None:
            return await self._invite_again(consent, _why_refused(client, answer), evidence_of(answer))
        variables = connection.variables | row.variables | answer.granted.values
        client = self._providers.client(connection.provider_id, variables, caller(connection, Purpose.EXCHANGE))
        # At once: the sooner what came back is stored, the fewer kills lose it.
        kept, account = await asyncio.gather(
            self._store(consent, row, client.provider, answer.granted), client.identity(answer.granted.access_token)
        )
        return await self._check(consent, row, connection, kept, client, account)

    async def _store(self, consent: Consent, row: ConsentSession, provider: Provider, granted: Granted) -> Credential:
        """Keep what the code brought, unchecked."""
        async with self._sessions.begin() as session:
            if await ending.locked_by(session, consent) is None or not await consents.stands(
                session, row.id, "exchanging"
            ):
                raise _StaleError("the connection or its invitation was ended meanwhile")
            tokens = Tokens(access_token=granted.access_token, refresh_token=granted.refresh_token)
            return await credentials.add(
                session,
                self._vault,
                consent.connection_id,
                tokens,
                state="unchecked",
                grants=sorted(granted.grants) if granted.grants is not None else list(row.asked_grants),
                variables=row.variables | granted.values,
                expires_at=granted.expires_at,
                refresh_at=refresh_at(provider, tokens, granted.expires_at),
                session_id=row.id,
            )

    async def _tell_operators(self, client: OAuthClient, consent: Consent, answer: TokenAnswer) -> None:
        async with self._sessions.begin() as session:
            await reauth.tell_operators(
                session,
                consent,
                title=f"{client.provider.name} refuses our own registration",
                cause=f"the token endpoint answered {answer.heard.words}",
                way_out=client.provider.registration_fix,
            )

    async def _check(
        self,
        consent: Consent,
        row: ConsentSession,
        connection: Connection,
        kept: Credential,
        client: OAuthClient,
        answer: IdentityAnswer,
    ) -> Exchanged:
        """Whose account is it, and are the grants there? Nothing stays of a consent that is wrong."""
        _raise_if_transient(answer.verdict, f"asking {client.provider.name} whose account it is")
        if answer.account is None:
            why = f"the consent does not work: {answer.verdict.because}"
            return await self._invite_again(consent, why, evidence_of(answer))
        if connection.account_id not in {None, answer.account.id}:
            return await self._other_account(consent, connection, answer.account)
        missing = sorted(set(row.asked_grants) - client.provider.optional_grants - set(kept.grants))
        if missing:
            evidence = {"asked": list(row.asked_grants), "given": list(kept.grants), "missing": missing}
            async with self._sessions.begin() as session:
                await reauth.lack_grants(session, consent, missing, run=this_run(), evidence=evidence)
            why = f"these permissions were not given: {', '.join(missing)}"
            return await self._invite_again(consent, why, evidence)
        async with self._sessions.begin() as session:
            if await ending.locked_by(session, consent) is None:
                raise _StaleError("the connection was given up meanwhile")
            accepted = await consents.accept(session, row.id, answer.account.id, answer.account.name)
            # Another attempt, which Temporal gave up, may have accepted the same credential a moment ago.
            if not accepted and not await consents.stands(session, row.id, "exchanged"):
                raise _StaleError("the invitation was ended meanwhile")
            if accepted and not await credentials.accept(session, row.id, kept.variables | answer.values):
                raise _StaleError("the consent was dealt with meanwhile")
        return Exchanged(exchange=Exchange.CANDIDATE, version=kept.version)

    async def _other_account(self, consent: Consent, connection: Connection, account: Account) -> Exchanged:
        other, ours = masked(account.name), masked(connection.account_name)
        why = f"the consent was given by {other}, and this connection belongs to {ours}"
        async with self._sessions.begin() as session:
            await reauth.tell_other_account(session, consent, consent.session_id, by=other, why=why)
        return await self._invite_again(consent, why, {"account": other, "belongs_to": ours})

    async def _prove_and_activate(self, candidate: Candidate) -> Proof:
        proof, evidence = await self._proven(candidate)
        if not proof.works:
            return proof
        async with self._sessions.begin() as session:
            activation = await ending.activate(session, candidate, run=this_run(), evidence=evidence)
        return _GONE if activation is None else Proof(works=True, activation=activation)

    async def _proven(self, candidate: Candidate) -> tuple[Proof, dict[str, Any]]:
        async with self._sessions.begin() as session:
            found = await credentials.with_connection(session, candidate.connection_id, candidate.version)
            if found is None:
                return _GONE, {}
            connection, kept = found
            provider = self._providers.catalog.provider(connection.provider_id)
            granted = frozenset(kept.grants)
            probes = {c.probe for c in provider.capabilities.values() if c.requires <= granted}
            await braked.ask(session, provider.id, *map(provider.name_of, probes))
        values = credentials.values(connection, kept)
        client = self._providers.client(connection.provider_id, values, caller(connection, Purpose.PROBE))
        token = credentials.opened(self._vault, kept).access_token
        if not probes:
            why = f"{client.provider.name} accepted the consent, and it allows nothing that could be called"
            await self._invite_again(candidate, why)
            return Proof(works=False, why=why), {}
        # Together: they share one timeout, and none of them has an effect.
        answers = await asyncio.gather(*(client.call(probe, token) for probe in probes))
        judged = [Answer(heard=answer.heard, verdict=client.judge_call(answer)) for answer in answers]
        for answer in judged:
            _raise_if_transient(answer.verdict, f"the proof at {client.provider.name}")
        broken = next((answer for answer in judged if answer.verdict.meaning is not Meaning.OK), None)
        if broken is None:
            return Proof(works=True), evidence_of(judged[0])
        why = f"{client.provider.name} accepted the consent but not a call with it: {broken.verdict.because}"
        await self._invite_again(candidate, why, evidence_of(broken))
        return Proof(works=False, why=why), {}

    async def _invite_again(
        self, consent: Consent | Candidate, why: str, evidence: dict[str, Any] | None = None
    ) -> Exchanged:
        async with self._sessions.begin() as session:
            invited = await reauth.invite_again(
                session,
                self._vault,
                consent,
                consent.session_id,
                why=why,
                deadline=consent.deadline,
                evidence=evidence,
            )
        return Exchanged(exchange=Exchange.INVITED_AGAIN if invited else Exchange.STALE, why=why)


def evidence_of(answer: Answer) -> dict[str, Any]:
    """What decided, for whoever asks why: the provider's answer without its secrets, and the rule that it met."""
    return {"answer": answer.heard.words, "verdict": answer.verdict.because, "rule": answer.verdict.rule}


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
