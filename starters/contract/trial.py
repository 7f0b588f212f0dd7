"""One entry on the stage: who takes part, what is known so far, and what was found."""

import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from integrations.domain.errors import RunbookError
from integrations.providers.catalog import ClientCredentials
from integrations.providers.entry import Provider
from integrations.providers.granted import Granted
from integrations.providers.oauth import OAuthClient, TokenAnswer
from starters.contract.outcome import Check, State
from starters.contract.stage import Stage
from starters.contract.visitor import CALLBACK, Consent, Visitor


class CannotGoOnError(RunbookError):
    """A check failed that everything after it needs. It is told already."""


@dataclass
class Trial:
    entry: Provider
    """At the simulator's addresses."""
    dialect: dict[str, Any]
    """What the simulator speaks."""
    stage: Stage
    visitor: Visitor
    values: dict[str, str]
    """What completes the addresses, as far as somebody has told it."""
    granted: Granted | None = None
    """Everything that the entry asks for, allowed."""
    checks: list[Check] = field(default_factory=list)

    def says(self, name: str, ok: bool, *, expected: str, heard: str, correct: Collection[str]) -> bool:
        state = State.PASSED if ok else State.FAILED
        keys = () if ok else tuple(correct)
        self.checks.append(Check(name=name, state=state, expected=expected, heard=heard, correct=keys))
        return ok

    def must(self, name: str, ok: bool, *, expected: str, heard: str, correct: Collection[str]) -> None:
        """As `says`. Raises CannotGoOnError when it is not so."""
        if not self.says(name, ok, expected=expected, heard=heard, correct=correct):
            raise CannotGoOnError(name)

    def client(self, secret: str | None = None) -> OAuthClient:
        """Our own client, as the platform uses it; with another secret when one is given."""
        credentials = self.stage.credentials
        if secret is not None:
            credentials = ClientCredentials(client_id=credentials.client_id, client_secret=SecretStr(secret))
        return OAuthClient(self.entry, credentials, self.stage.http, self.values)

    async def asks(self, *, without: Collection[str] = ()) -> "Asked":
        """Go for the owner's consent to everything that the entry asks for, of which some is not given."""
        verifier = secrets.token_urlsafe(48)
        link = self.client().authorize_url(
            redirect_uri=CALLBACK, grants=self.entry.asked_grants, state=secrets.token_urlsafe(32), verifier=verifier
        )
        return Asked(await self.visitor.consents(link, without=without), verifier)

    async def exchanges(self, asked: "Asked") -> TokenAnswer:
        return await self.client().exchange(asked.consent.code or "", redirect_uri=CALLBACK, verifier=asked.verifier)

    def can_leave_out(self, left_out: Collection[str]) -> bool:
        """Nobody can consent to nothing: a token without these scopes exists when another scope is asked for."""
        return bool({*self.entry.always_ask, *self.entry.asked_grants} - set(left_out))

    async def connects(self, *, without: Collection[str] = ()) -> Granted:
        """Tokens, by the way that is checked already."""
        if self.entry.flow == "client_credentials":
            grants = [grant for grant in self.entry.asked_grants if grant not in without]
            answer = await self.client().client_credentials(grants)
        else:
            answer = await self.exchanges(await self.asks(without=without))
        if answer.granted is None:
            raise CannotGoOnError(answer.verdict.because)
        return answer.granted

    def renews_with(self, granted: Granted) -> SecretStr | None:
        """The token that a refresh sends."""
        return granted.access_token if self.entry.refresh_by.sends == "access_token" else granted.refresh_token

    def told(self, values: dict[str, str]) -> None:
        self.values |= values


@dataclass(frozen=True, slots=True)
class Asked:
    consent: Consent
    verifier: str
