"""Asking a provider how it is: one call without an effect, by a connection of our own."""

import random
import secrets
from collections.abc import Collection, Sequence
from typing import Final

from pydantic import SecretStr

from activities.caller import caller
from integrations.db import credentials, probe_candidates
from integrations.db.session import Sessions
from integrations.db.tables import Connection, Credential
from integrations.db.vault import Vault
from integrations.domain.errors import RunbookError
from integrations.domain.gate import Purpose
from integrations.domain.outage_steps import Probe
from integrations.domain.verdict import Endpoint
from integrations.providers.entry import Call, Provider
from integrations.providers.oauth import OAuthClient, Providers, TokenAnswer

_TOKEN: Final = Endpoint.TOKEN.value
_IDENTITY: Final = "identity"
_TRIED: Final = 5
"""Connections, until one of them can be asked with."""
Candidate = tuple[Connection, Credential]


class Prober:
    def __init__(self, sessions: Sessions, vault: Vault, providers: Providers) -> None:
        self._sessions = sessions
        self._vault = vault
        self._providers = providers

    async def ask(
        self,
        provider_id: str,
        endpoint: str = "",
        *,
        among: Collection[str] = (),
        other_than: Collection[str] = (),
    ) -> Probe | None:
        """Probe one endpoint, or any that can be read from. None: nothing there can be asked without an effect.

        `among`, `other_than`: tenants whose connections are asked with, or not.
        """
        found = await self._candidates(provider_id, among, other_than)
        for connection, kept in random.sample(found, min(_TRIED, len(found))):
            try:
                probe = await self._ask(connection, kept, endpoint)
            except RunbookError:
                # A key or a value that this one connection lacks: another one may have it.
                continue
            if probe is not None:
                return probe
        return None

    async def is_alone(self, provider_id: str, tenants: Collection[str]) -> bool:
        """Has the provider no working connection of anybody else?"""
        return not await self._candidates(provider_id, (), tenants)

    async def _candidates(
        self, provider_id: str, among: Collection[str], other_than: Collection[str]
    ) -> Sequence[Candidate]:
        async with self._sessions.begin() as session:
            if among:
                return await probe_candidates.of_others(session, provider_id, among, among=True)
            fresh = await probe_candidates.freshest(session, provider_id)
            # Where nothing is ever refreshed, nothing is due.
            fresh = fresh or await probe_candidates.of_others(session, provider_id, ())
            others = [each for each in fresh if each[0].tenant not in other_than]
            if others or not other_than:
                return others
            return await probe_candidates.of_others(session, provider_id, other_than)

    async def _ask(self, connection: Connection, kept: Credential, endpoint: str) -> Probe | None:
        values = credentials.values(connection, kept)
        client = self._providers.client(connection.provider_id, values, caller(connection, Purpose.PROBE))
        if endpoint == _TOKEN:
            answer = await self._renew_nothing(client)
            name, verdict = _TOKEN, answer.verdict
        elif endpoint == _IDENTITY:
            told = await client.identity(credentials.opened(self._vault, kept).access_token)
            name, verdict = _IDENTITY, told.verdict
        else:
            readable = _readable(client.provider, endpoint, frozenset(connection.grants))
            if readable is None:
                return None
            heard = await client.call(readable, credentials.opened(self._vault, kept).access_token)
            name, verdict = client.provider.name_of(readable), client.judge_call(heard)
        return Probe(
            provider_id=connection.provider_id,
            endpoint=name,
            tenant=connection.tenant,
            fine=not verdict.is_transient,
            why=f"{name}: {verdict.because}",
            after=verdict.after,
        )

    @staticmethod
    async def _renew_nothing(client: OAuthClient) -> TokenAnswer:
        """Ask the token endpoint to renew what it never gave: its refusal shows that it works, and touches no grant.

        RFC 6749 section 5.2: an unknown refresh token is an `invalid_grant`. It belongs to no family of tokens that a
        detection of reuse could revoke.
        """
        if client.provider.needs_nobody:
            return await client.client_credentials(client.provider.asked_grants)
        return await client.refresh(SecretStr(f"probe-{secrets.token_hex(16)}"))


def _readable(provider: Provider, endpoint: str, granted: frozenset[str]) -> Call | None:
    """A call without an effect that says how this endpoint is; any endpoint's, when none is named."""
    capabilities = {endpoint: provider.capabilities.get(endpoint)} if endpoint else provider.capabilities
    calls = [
        each.probe
        for each in capabilities.values()
        # What a capability that writes is probed with is another endpoint's.
        if each is not None and each.call.method == "GET" and each.requires <= granted
    ]
    return random.choice(calls) if calls else None  # noqa: S311 - spreads probes, guards nothing
