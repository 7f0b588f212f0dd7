"""The first token of a connection that needs nobody's consent (RFC 6749 section 4.4)."""

from uuid import UUID

from activities.refresh_call import refresh_at
from activities.refused import set_aside
from activities.run import this_run
from integrations.db import leases, refresh_first
from integrations.db.credentials import Tokens
from integrations.db.leases import LEASE
from integrations.db.session import Sessions
from integrations.db.surge_counts import Refusal
from integrations.db.vault import Vault
from integrations.domain.errors import TryAgainError
from integrations.domain.refresh import Refresh, Refreshed
from integrations.domain.verdict import Meaning
from integrations.providers.oauth import OAuthClient, TokenAnswer


async def fetch(sessions: Sessions, vault: Vault, client: OAuthClient, connection_id: UUID) -> Refreshed:
    """Fetch it and make the connection active. Raises TryAgainError for whatever may pass by itself."""
    async with sessions.begin() as session:
        token = await leases.claim(session, connection_id, LEASE)
    if token is None:
        raise TryAgainError("somebody else fetches this connection's token", after=LEASE / 10)
    answer = await client.client_credentials(client.provider.asked_grants)
    if answer.granted is None:
        return await _refused(sessions, client, connection_id, token, answer)
    tokens = Tokens(access_token=answer.granted.access_token, refresh_token=answer.granted.refresh_token)
    granted = answer.granted.grants
    async with sessions.begin() as session:
        version = await refresh_first.connect(
            session,
            vault,
            connection_id,
            token,
            tokens,
            grants=client.provider.asked_grants if granted is None else granted,
            values=answer.granted.values,
            expires_at=answer.granted.expires_at,
            refresh_at=refresh_at(client.provider, tokens, answer.granted.expires_at),
            run=this_run(),
            evidence={"answer": answer.heard.words, "rule": answer.verdict.rule},
        )
    if version is None:
        return Refreshed(refresh=Refresh.NOT_CONNECTED, why="the connection was given up or connected meanwhile")
    return Refreshed(refresh=Refresh.REFRESHED, version=version, why="connected: its first token was fetched")


async def _refused(
    sessions: Sessions, client: OAuthClient, connection_id: UUID, token: int, answer: TokenAnswer
) -> Refreshed:
    aside = None
    somebody = answer.verdict.meaning in {Meaning.OWNER_MUST_ACT, Meaning.OPERATOR_MUST_ACT}
    async with sessions.begin() as session:
        if not somebody:
            await leases.release(session, connection_id, token, answered=True)
        else:
            cause = f"{client.provider.name} gives us no token: {answer.heard.words}"
            way_out = f"{client.provider.registration_fix}; then: runbook connections refresh {connection_id}"
            # Whatever it says: without an owner it is our own registration that is refused.
            refused = Refusal(connection_id, 0, Meaning.OPERATOR_MUST_ACT, answer.verdict.rule, answer.heard.words)
            aside = await refresh_first.refuse(
                session, token, refused, name=client.provider.name, cause=cause, way_out=way_out
            )
    if not somebody:
        raise TryAgainError(f"{client.provider.name}: {answer.verdict.because}", after=answer.verdict.after)
    if aside is not None:
        return set_aside(None, cause, aside)
    return Refreshed(refresh=Refresh.OPERATOR_MUST_ACT, why=cause)
