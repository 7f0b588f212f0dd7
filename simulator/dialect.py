"""How another provider speaks: the facts that its applications have to know, as one JSON document.

It says only how things are said. How strict the provider is, such as whether it rotates, the settings say.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from simulator.log import is_own
from simulator.places import Place, put_all

UNSCOPED = "simulator.unscoped"
"""What a grant allows for which no scope was asked: whatever needs none."""


def _another_providers(path: str) -> str:
    if not path.startswith("/") or is_own(path.partition("?")[0]):
        raise ValueError("must start with a slash, and be none of the simulator's own pages")
    return path


Path = Annotated[str, AfterValidator(_another_providers)]


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Word(_Fact):
    word: str | int
    status: int | None = Field(None, ge=200, le=499)
    """Of the answer that it comes in. An answer of 500 and above keeps its own: that is nobody's word."""


class Renewal(_Fact):
    grant_type: str = "refresh_token"
    parameter: str = "refresh_token"
    sends: Literal["refresh_token", "access_token"] = "refresh_token"
    """With access_token there are no refresh tokens: a living access token is renewed, and a dead one never."""


class Quota(_Fact):
    """Headers that tell of a used up quota, on every answer that says too_many_requests."""

    remaining: str
    reset: str | None = None


class Endpoint(_Fact):
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    path: Path
    """With a query, which then has to be the request's."""
    needs: list[list[str]] = []
    """Sets of scopes, any of which is enough; with none, a living token is."""
    headers: dict[str, str] = {}
    """What a request has to carry beside its token."""
    answers: Literal["json", "page"] = "json"


class WhoAmI(Endpoint):
    id_at: Place | None = None
    """Without a place, the answer does not hold the account's id: the address does."""
    name_at: Place | None = None
    members: dict[Place, Any] = {}
    """What else is in the answer; put in last, so that it may stand in the id's place."""

    def told(self, account_id: str, name: str) -> Any:
        account = {self.id_at: account_id, self.name_at: name}
        return put_all(None, {place: value for place, value in account.items() if place} | self.members)


class Dialect(_Fact):
    name: str
    authorize: Path
    token: Path
    revoke: Path | None = None
    introspect: Path | None = None
    client_auth: Literal["post", "basic"] = "post"
    """The only way in which a client may prove who it is (RFC 6749 section 2.3.1)."""
    client_id_parameter: str = "client_id"
    pkce: bool = True
    """False: it does not know PKCE, and takes no notice of a challenge or a verifier."""
    scopes: list[str] = []
    scope_separator: str = Field(" ", min_length=1)
    granted_at: Place = "scope"
    granted_separator: str | None = " "
    """Between the scopes in a token answer; null for a list."""
    implied: dict[str, list[str]] = {}
    """Scopes that an answer leaves out, because another one brings them along."""
    authorize_parameters: dict[str, str] = {}
    """What a request for consent must have beside RFC 6749's."""
    exchange_parameters: dict[str, str] = {}
    callback: dict[str, str] = {}
    """What the redirect back carries beside code and state."""
    renewal: Renewal = Renewal()
    expires_in: Literal["number", "text", "absent"] = "number"
    token_members: dict[Place, Any] = {}
    """What a token answer holds beside RFC 6749's."""
    token_header: str = "Authorization"  # noqa: S105 - a header's name
    token_prefix: str = "Bearer "  # noqa: S105 - what stands before the token in the header
    identity: WhoAmI
    endpoints: list[Endpoint] = []
    api_members: dict[Place, Any] = {}
    """What every good answer of the API holds, such as a word for "no error"."""
    token_error_at: Place = "error"  # noqa: S105 - a place
    api_error_at: Place = "error"
    words: dict[str, Word] = {}
    """Its own words for the simulator's: invalid_grant, invalid_client, insufficient_scope, too_many_requests and
    whatever else an answer or an ordered fault says."""
    quota: Quota | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Refuse places that cannot be in one answer while somebody listens, and not when it is given."""
        put_all(self.identity.told("", ""), self.api_members)
        put_all({}, self.token_members)
        return self
