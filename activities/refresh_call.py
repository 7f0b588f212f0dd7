"""What a refresh sends, and what its answer brings: the same for one connection and for fifty."""

import random
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from functools import partial

from pydantic import SecretStr

from activities.run import this_run
from integrations.db.credentials import Tokens
from integrations.db.refresh import Claim
from integrations.domain.refresh import due_at
from integrations.domain.verdict import Meaning
from integrations.providers.entry import Provider
from integrations.providers.granted import Granted
from integrations.providers.oauth import Answer, OAuthClient, TokenAnswer

Send = Callable[[], Awaitable[TokenAnswer]]


def renews(provider: Provider, tokens: Tokens) -> SecretStr | None:
    """The token that is sent to renew; None where none is, or the provider gave none that could be."""
    if provider.needs_nobody:
        return None
    return tokens.access_token if provider.refresh_by.sends == "access_token" else tokens.refresh_token


def sending(client: OAuthClient, tokens: Tokens) -> Send | None:
    """The call that renews; None when there is nothing to renew with.

    A client credentials grant renews by asking again, in our own name (RFC 6749 section 4.4.3).
    """
    if client.provider.needs_nobody:
        return partial(client.client_credentials, client.provider.asked_grants)
    token = renews(client.provider, tokens)
    return partial(client.refresh, token) if token else None


def brought(granted: Granted, kept: Tokens) -> Tokens:
    """RFC 6749 section 6: a refresh that returns no new refresh token leaves the old one in force."""
    return Tokens(access_token=granted.access_token, refresh_token=granted.refresh_token or kept.refresh_token)


def refresh_at(provider: Provider, tokens: Tokens, expires_at: datetime | None) -> datetime | None:
    """When a sweep is to renew these tokens; None when nothing could be sent for it."""
    if not provider.needs_nobody and renews(provider, tokens) is None:
        return None
    # Spreads calls, guards nothing.
    return due_at(datetime.now(UTC), expires_at, provider.refresh_lead, random.random())  # noqa: S311


def meaning_of(provider: Provider, answer: TokenAnswer) -> Meaning:
    """Who must act. Where no owner ever consented, it is always us."""
    meaning = answer.verdict.meaning
    if provider.needs_nobody and meaning is Meaning.OWNER_MUST_ACT:
        return Meaning.OPERATOR_MUST_ACT
    return meaning


def optional_of(provider: Provider) -> Collection[str]:
    """The grants whose loss is no owner's business: none could give them back where none ever consented."""
    return provider.asked_grants if provider.needs_nobody else provider.optional_grants


def evidence_of(claimed: Claim, answer: Answer) -> dict[str, object]:
    """What decided, for whoever asks why: the provider's answer without its secrets, and the rule that it met."""
    return {
        "answer": answer.heard.words,
        "verdict": answer.verdict.because,
        "rule": answer.verdict.rule,
        "version": claimed.credential.version,
        "noticed_in": this_run().model_dump(),
    }
