"""What is done about a terminal answer to a refresh, and what is kept of it."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from activities.refresh_call import evidence_of, meaning_of
from activities.run import this_run
from integrations.db import leases, refresh
from integrations.db.refresh import Claim
from integrations.db.session import Sessions
from integrations.db.surge_counts import Refusal, Watched
from integrations.domain.connection import Status
from integrations.domain.reauth import Detected
from integrations.domain.refresh import Refresh, Refreshed
from integrations.domain.surge import Limits
from integrations.domain.verdict import Meaning
from integrations.providers.entry import Provider
from integrations.providers.oauth import Answer, OAuthClient, TokenAnswer

_KNOWN: Final = {Status.PENDING_REAUTH: Meaning.OWNER_MUST_ACT, Status.ERRORED: Meaning.OPERATOR_MUST_ACT}
"""What each of these says already."""


Acting = Callable[[AsyncSession], Awaitable[Refreshed]]


class Refusals:
    """Each is looked at twice; then it is acted on, unless it is one of a surge. Under a shield it is not believed."""

    def __init__(self, sessions: Sessions, limits: Limits) -> None:
        self._sessions = sessions
        self._limits = limits

    def at(self, provider: Provider) -> Watched:
        return watched(provider, self._limits)

    async def introspected(self, claimed: Claim, client: OAuthClient, token: SecretStr) -> Refreshed | None:
        """What the provider itself says of the grant. None when it says nothing clear."""
        answer = await client.introspect(token)
        if answer.active is None:
            return None
        alive = "alive" if answer.active else "not alive"
        cause = f"{client.provider.name} refused the refresh, and its introspection says that the grant is {alive}"
        refused = refusal_of(claimed, answer, Meaning.OWNER_MUST_ACT, f"refused, and {alive} by introspection")
        if answer.active:
            return await self._contested(claimed, client, cause, replace(refused, contested=True))
        evidence = evidence_of(claimed, answer) | {"confirmed_by": "introspection"}
        return await self._dead(claimed, client, cause, evidence, refused)

    async def heard(self, claimed: Claim, client: OAuthClient, answer: TokenAnswer, *, confirming: bool) -> Refreshed:
        """What follows from a terminal answer. The lease is given back."""
        version, name = claimed.credential.version, client.provider.name
        meaning = meaning_of(client.provider, answer)
        if is_known(claimed, meaning):
            async with self._sessions.begin() as session:
                await leases.release(session, claimed.connection.id, claimed.token, answered=claimed.certain)
            if meaning is Meaning.OWNER_MUST_ACT:
                why = f"the owner has to consent again: {answer.heard.words}"
                return Refreshed(refresh=Refresh.NOT_CONNECTED, version=version, why=why)
            why = f"{name} still refuses our registration: {answer.heard.words}"
            return Refreshed(refresh=Refresh.OPERATOR_MUST_ACT, version=version, why=why)
        refused = refusal_of(claimed, answer, meaning)
        if not confirming:
            return await self._at_first(claimed, client, answer, refused)
        if meaning is Meaning.OPERATOR_MUST_ACT:
            return await self._errored(claimed, client, answer, refused)
        cause = f"{name} refused the refresh twice: {answer.heard.words}"
        evidence = evidence_of(claimed, answer) | {"confirmed_by": "a second refresh with the newest credential"}
        return await self._dead(claimed, client, cause, evidence, refused)

    async def _at_first(self, claimed: Claim, client: OAuthClient, answer: TokenAnswer, refused: Refusal) -> Refreshed:
        """What follows from the first look: a second one, unless it is set aside or known for one of many."""
        version, at = refused.version, self.at(client.provider)
        async with self._sessions.begin() as session:
            aside = await refresh.set_aside(session, claimed, at, refused)
            held = aside is None and await refresh.refuse(session, claimed, at, refused)
        if aside is not None:
            return set_aside(version, f"{client.provider.name} refused the refresh: {answer.heard.words}", aside)
        if held:
            why = f"{answer.heard.words}; held back, one of a surge: runbook tasks list"
            return Refreshed(refresh=Refresh.SUSPECT, version=version, why=why)
        return Refreshed(refresh=Refresh.REFUSED, version=version, why=answer.heard.words, meaning=refused.meaning)

    async def _dead(
        self, claimed: Claim, client: OAuthClient, cause: str, evidence: dict[str, object], refused: Refusal
    ) -> Refreshed:
        async def ask_the_owner(session: AsyncSession) -> Refreshed:
            found = await refresh.detect(session, claimed, Detected.REVOKED, cause=cause, evidence=evidence)
            return Refreshed(refresh=Refresh.REFUSED, version=refused.version, why=cause, detection_id=found)

        return await self._unless_held_back(claimed, client, cause, refused, ask_the_owner)

    async def _contested(self, claimed: Claim, client: OAuthClient, cause: str, refused: Refusal) -> Refreshed:
        way_out = (
            f"nothing is demoted. Look at {client.provider.name}'s status, then: "
            f"runbook connections refresh {claimed.connection.id}; "
            f"to ask the owner all the same: runbook reauth start {claimed.connection.id}"
        )

        async def have_it_looked_at(session: AsyncSession) -> Refreshed:
            await refresh.contest(session, claimed, cause=cause, way_out=way_out)
            return Refreshed(refresh=Refresh.UNCONFIRMED, version=refused.version, why=cause)

        return await self._unless_held_back(claimed, client, cause, refused, have_it_looked_at)

    async def _errored(self, claimed: Claim, client: OAuthClient, answer: TokenAnswer, refused: Refusal) -> Refreshed:
        cause = f"{client.provider.name} refuses our registration: {answer.heard.words}"
        way_out = f"{client.provider.registration_fix}; then: runbook connections refresh {claimed.connection.id}"
        told: dict[str, object] = evidence_of(claimed, answer)

        async def mark(session: AsyncSession) -> Refreshed:
            run = this_run()
            await refresh.mark_errored(session, claimed, cause=cause, way_out=way_out, evidence=told, run=run)
            return Refreshed(refresh=Refresh.OPERATOR_MUST_ACT, version=refused.version, why=cause)

        return await self._unless_held_back(claimed, client, cause, refused, mark)

    async def _unless_held_back(
        self, claimed: Claim, client: OAuthClient, cause: str, refused: Refusal, act: Acting
    ) -> Refreshed:
        """Decide and act in one transaction: between the two nobody else's refusal may be overlooked."""
        at = self.at(client.provider)
        async with self._sessions.begin() as session:
            aside = await refresh.set_aside(session, claimed, at, refused)
            held = None if aside is not None else await refresh.held_back(session, claimed, at, refused)
            if aside is None and held is None:
                return await act(session)
        if aside is not None:
            return set_aside(refused.version, cause, aside)
        return Refreshed(refresh=Refresh.SUSPECT, version=refused.version, why=f"{cause}; {held}")


def set_aside(version: int | None, cause: str, aside: str) -> Refreshed:
    """Of a refusal that is not believed. `aside`: why not, in words."""
    why = f"{cause}; set aside, {aside}: it is asked again when that is over"
    return Refreshed(refresh=Refresh.SET_ASIDE, version=version, why=why)


def watched(provider: Provider, limits: Limits) -> Watched:
    return Watched(provider.id, provider.name, provider.registration_fix, limits)


def refusal_of(claimed: Claim, answer: Answer, meaning: Meaning, words: str = "") -> Refusal:
    """A terminal answer, as it is counted. `words`: of one that says so in its own way."""
    version = claimed.credential.version
    return Refusal(claimed.connection.id, version, meaning, answer.verdict.rule, words or answer.heard.words)


def is_known(claimed: Claim, meaning: Meaning) -> bool:
    """Does the connection's status say so already? Then the same answer is no news, and no sign of a surge."""
    return _KNOWN.get(Status(claimed.connection.status)) is meaning
