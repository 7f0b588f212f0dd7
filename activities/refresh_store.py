"""Storing what one refresh brought: the same for one connection and for what is no plain renewal among fifty."""

from activities.refresh_call import brought, evidence_of, optional_of, refresh_at
from activities.run import this_run
from integrations.db import refresh
from integrations.db.credentials import Tokens
from integrations.db.refresh import Claim, Settled
from integrations.db.refresh_batch import Renewed
from integrations.db.session import Sessions, once_more
from integrations.db.vault import Vault
from integrations.providers.entry import Provider
from integrations.providers.granted import Granted
from integrations.providers.oauth import Answer


def renewed_by(provider: Provider, claim: Claim, kept: Tokens, granted: Granted) -> Renewed:
    tokens = brought(granted, kept)
    return Renewed(
        claim=claim,
        tokens=tokens,
        granted=granted.grants,
        values=granted.values,
        expires_at=granted.expires_at,
        refresh_at=refresh_at(provider, tokens, granted.expires_at),
    )


async def stored(
    sessions: Sessions, vault: Vault, provider: Provider, renewed: Renewed, answer: Answer
) -> Settled | None:
    """Store it. None when it is nobody's any more: the connection was given up or repaired meanwhile.

    A rotated token is the only one there is: a connection that breaks in the middle must not lose it.
    """

    async def settle() -> Settled | None:
        async with sessions.begin() as session:
            return await refresh.settle(
                session,
                vault,
                renewed.claim,
                renewed.tokens,
                granted=renewed.granted,
                wanted=provider.asked_grants,
                optional=optional_of(provider),
                variables=renewed.values,
                expires_at=renewed.expires_at,
                refresh_at=renewed.refresh_at,
                run=this_run(),
                evidence=evidence_of(renewed.claim, answer),
            )

    return await once_more(settle)
