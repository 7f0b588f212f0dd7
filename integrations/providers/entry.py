"""One provider's entry in the catalog: every fact about it that code depends on, as data.

Addresses may hold `{name}` for what differs from connection to connection: a shop, an instance, a company. Each such
name is one of the entry's `variables`, which say where its value comes from and what it may look like.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from integrations.domain.answer import Reading, value_at
from integrations.domain.errors import NotReadyError
from integrations.domain.gate import Access
from integrations.domain.nearest import nearest
from integrations.domain.verdict import Endpoint, Vocabulary
from integrations.domain.webhook import Reaction
from integrations.providers.mistakes import CatalogError
from integrations.providers.webhooks import place

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")
_RANGE: Final = re.compile(r"([0-9]{1,4})-([0-9]{1,4})")
_OURSELVES: Final = frozenset({"127.0.0.1", "localhost", "::1"})
CLIENT_ID: Final = "client_id"
"""The one placeholder that is no variable: some APIs want the client's id in a header."""


def _duration(value: object) -> object:
    match = re.fullmatch(r"(\d{1,6})([smhd])", value) if isinstance(value, str) else None
    if not match:
        raise ValueError('must be a duration like "90s", "15m", "12h" or "3d"')
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _url(value: str) -> str:
    # A placeholder is completed later; nothing that a URL cannot hold stands for it meanwhile.
    parts = urlsplit(_PLACEHOLDER.sub("x", value))
    local = parts.scheme == "http" and parts.hostname in _OURSELVES
    if not parts.hostname or not (parts.scheme == "https" or local):
        raise ValueError(f"{value!r} must start with https:// (or http:// on this machine) and name a host")
    if parts.username or parts.fragment or re.search(r"\s", value):
        raise ValueError(f"{value!r} must hold no user name, no fragment and no space")
    return value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is no regular expression: {error}") from None
    return value


def _codes(value: object) -> object:
    """Error codes, of which "200-299" stands for a hundred."""
    if not isinstance(value, list):
        return value
    expanded: list[object] = []
    for code in value:
        ends = _RANGE.fullmatch(code) if isinstance(code, str) else None
        expanded += [str(n) for n in range(int(ends[1]), int(ends[2]) + 1)] if ends else [code]
    return expanded


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Url = Annotated[str, AfterValidator(_url)]
Text = Annotated[str, Field(min_length=1)]
Names = frozenset[Text]
Codes = Annotated[Names, BeforeValidator(_codes)]
Place = Annotated[str, AfterValidator(place.checked)]
Each = Annotated[str, AfterValidator(place.checked_each)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Call(_Entry):
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    url: Url
    answers: Literal["json", "any"] = "json"
    """`any` for what brings files: then a page of HTML may be the answer, and is none of a proxy."""


class Identity(_Entry):
    url: Url
    method: Literal["GET", "POST"] = "GET"
    field: Text | None = None
    """Where the answer holds the account's own id, dotted: `data.user.open_id`."""
    variable: Text | None = None
    """In place of a field: the variable whose value is the account's id, which the address then holds."""
    name_field: Text | None = None

    @model_validator(mode="after")
    def _says_where_the_id_lies(self) -> Self:
        if (self.field is None) is (self.variable is None):
            raise ValueError('needs either field = "..." or variable = "..."')
        return self


class Capability(_Entry):
    access: Access
    requires: Names = frozenset()
    optional: Names = frozenset()
    call: Call
    probe: Call
    """What proves the capability after a re-consent, without an effect of its own."""


class Errors(_Entry):
    """The provider's own error codes. Those of RFC 6749, 6750 and 7009 are known without being named."""

    at: tuple[Text, ...] = ()
    """Dotted places of the code in a JSON answer, the best first. `error` comes last by itself."""
    none: Codes = frozenset()
    scope: Codes = frozenset()
    token: Codes = frozenset()
    """The access token is not accepted, where no 401 says so."""
    operator: Codes = frozenset()
    throttled: Codes = frozenset()
    busy: Codes = frozenset()
    wait_statuses: frozenset[Annotated[int, Field(ge=400, le=599)]] = frozenset()
    """Statuses of the vendor's own making that only ask to come back."""
    wait_words: tuple[Text, ...] = ()
    """Parts of a refusal's text that only ask to come back, where no code of its own says so."""


class Quota(_Entry):
    """Headers that count calls: a 403 with none left is a throttle and no missing permission."""

    remaining: Text
    reset: Text | None = None
    """Seconds since 1970."""


class RefreshBy(_Entry):
    """For a provider that renews tokens by another grant than RFC 6749 section 6."""

    grant_type: Text = "refresh_token"
    parameter: Text = "refresh_token"
    sends: Literal["refresh_token", "access_token"] = "refresh_token"


class Variable(_Entry):
    source: Literal["connection", "callback", "token", "identity"]
    """Who gives the value: a person when the connection is added, the address of the callback, the token endpoint's
    answer, or the identity's answer."""
    field: Text | None = None
    """Its name there: a query parameter, or a dotted place. The variable's own name when left out."""
    pattern: Annotated[str, AfterValidator(_pattern)] = r"[A-Za-z0-9_.\-]{1,200}"
    """What the whole value must match. With a group, the group is the value."""
    about: str = ""
    """What a person is told that it is."""
    default: str | None = None
    required: bool = True
    """False: only some calls need it, and the others work without."""

    def read(self, value: object) -> str | None:
        """The value as addresses take it; None when it is not of the pattern."""
        text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
        match = re.fullmatch(self.pattern, text)
        return None if match is None else match[1] if match.re.groups else match[0]


class Webhook(_Entry):
    scheme: Literal[
        "hmac-sha256",
        "standard-webhooks",
        "stripe",
        "slack",
        "google-channel-token",
        "hubspot-v3",
        "microsoft-graph",
    ]
    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9_\-]+$")] | None = None
    """The signature's, where the scheme leaves its name open."""
    prefix: str = ""
    """What stands before the signature: `sha256=`, `v0=`; in Stripe's list of several, the name of the right ones."""
    encoding: Literal["hex", "base64"] = "hex"
    tolerance: Duration = timedelta(minutes=5)
    """How far the time that a provider signs may be from ours, where its scheme has one."""
    largest: Annotated[int, Field(ge=1)] = 1024 * 1024
    """Bytes of a body. More is refused."""
    silent: bool = False
    """Our answers have no body: the provider counts one that has as a failure."""
    greeting: Literal["url-verification", "validation-token", "hub-challenge", "intent-to-receive"] | None = None
    """The provider's handshake, by which it asks whether an address is ours: Slack's, Microsoft's, Meta's or Xero's."""
    each: tuple[Each, ...] = ()
    """Where the notifications of a delivery lie that holds several, such as `body:entry.*`: each is read."""
    delivery_id: tuple[Place, ...] = ()
    """Where a delivery's own id lies, the best place first. Empty: the provider sends none.

    A place is a header's name, or `body:` and a dotted place of the JSON, or `item:` and one of a notification; several
    with `+` between them are one value, joined by dots.
    """
    event: tuple[Place, ...] = ()
    account: tuple[Place, ...] = ()
    """Where it says of which external account it is."""
    accounts: dict[Text, tuple[Place, ...]] = {}
    """The same for single events, by name, where it lies elsewhere."""
    occurred: tuple[Place, ...] = ()
    """Where the signed body says when it happened: seconds or milliseconds since 1970, or RFC 3339."""
    resource: tuple[Place, ...] = ()
    """What a change is about, all of these together: the changes of one resource are coalesced."""
    coalesce: Duration | None = None
    """A window in which only the last change of each resource is handled."""
    reactions: dict[Text, Reaction] = {}
    """What an event, by its name, makes us do. Every other one becomes a lifecycle event."""

    @model_validator(mode="after")
    def _says_where_its_signature_lies(self) -> Self:
        if self.header is None and self.scheme not in {"standard-webhooks", "microsoft-graph"}:
            raise ValueError(f'scheme {self.scheme!r} needs header = "...", where the signature lies')
        if self.scheme == "stripe" and not self.prefix:
            raise ValueError("scheme 'stripe' needs prefix = \"v1=\", or the like")
        if self.coalesce and not self.resource:
            raise ValueError("coalesce needs resource = [...]: the last change of what is kept?")
        places = [*self.delivery_id, *self.event, *self.account, *self.occurred]
        if not self.each and any("item:" in place for place in places):
            raise ValueError('item: needs each = ["body:..."], where the notifications of a delivery lie')
        if proofs := [place for place in self._told_at() if self._is_its_proof(place)]:
            raise ValueError(
                f"{proofs[0]!r} is what proves a delivery: of each attempt another one, or the secret itself"
            )
        if unsigned := [place for place in self.occurred if not place.startswith(("body:", "item:"))]:
            raise ValueError(f"occurred = {unsigned!r}: headers are not signed, and are not believed")
        return self

    @property
    def may_lack_its_id(self) -> bool:
        """There is no place for one, or only in notifications, which need not have it."""
        return all(place.startswith("item:") for place in self.delivery_id)

    def _told_at(self) -> list[str]:
        """The places of all that is told, each by itself."""
        several = [self.delivery_id, self.event, self.account, self.occurred, self.resource, *self.accounts.values()]
        return [part for places in several for place in places for part in place.split("+")]

    def _is_its_proof(self, place: str) -> bool:
        if self.scheme == "microsoft-graph":
            return place.rpartition(":")[2].rpartition(".")[2] == "clientState"
        return place.lower() == (self.header or "webhook-signature").lower()

    def reaction(self, event: str) -> Reaction:
        return self.reactions.get(event, Reaction.EVENT)


class Provider(_Entry):
    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_\-]{0,62}$")]
    name: Text
    family: Text | None = None
    """Of the vendor's entries that have this in common: they may well fail together."""
    docs: tuple[Text, ...] = ()
    """The vendor's pages that these facts were taken from."""
    flow: Literal["authorization_code", "client_credentials"] = "authorization_code"
    authorize_url: Url
    token_url: Url
    revoke_url: Url | None = None
    """RFC 7009."""
    introspect_url: Url | None = None
    """RFC 7662."""
    authorize_parameters: dict[Text, str] = {}
    exchange_parameters: dict[Text, str] = {}
    """What the exchange of a code sends beside RFC 6749's."""
    scope_separator: Text = " "
    granted_field: Text = "scope"
    """Where a token answer names its scopes: text, or a list."""
    granted_separator: Text | None = None
    """Of the scopes in a token answer, where it is another one."""
    always_ask: tuple[Text, ...] = ()
    """Scopes that every consent asks for and no capability needs: their absence from an answer means nothing."""
    implied: dict[Text, Names] = {}
    """Grants that another one brings along without the answer naming them."""
    pkce: bool = True
    token_auth: Literal["post", "basic"] = "post"  # noqa: S105 - a method's name
    client_id_parameter: Text = CLIENT_ID
    token_header: Text = "Authorization"  # noqa: S105 - a header's name
    token_prefix: str = "Bearer "  # noqa: S105 - what stands before the token in the header
    api_headers: dict[Text, str] = {}
    identity: Identity
    rotates_refresh_token: bool = False
    rotation_grace: Duration = timedelta(0)
    """How long a rotated token, sent again, is answered with its successor."""
    refresh_lead: Duration = timedelta(minutes=15)
    refresh_by: RefreshBy = RefreshBy()
    assumed_life: Duration | None = None
    """Of an access token whose answer does not tell it."""
    max_live_grants: Annotated[int, Field(ge=1)] | None = None
    """Per account and client: one more consent revokes the oldest."""
    terminal_errors: Codes = frozenset()
    """The provider's own words for a dead grant, beside RFC 6749's."""
    errors: Errors = Errors()
    quota: Quota | None = None
    rate_limit: Annotated[float, Field(gt=0)] | None = None
    """Calls a second that the provider allows one client, all connections together."""
    redelivery_horizon: Duration | None = None
    """How long the provider goes on repeating a webhook that was not accepted."""
    capabilities: Annotated[dict[Text, Capability], Field(min_length=1)]
    webhook: Webhook | None = None
    variables: dict[Annotated[str, Field(pattern=r"^[a-z_]+$")], Variable] = {}

    @model_validator(mode="after")
    def _every_placeholder_is_a_variable(self) -> Self:
        used = {key: self.placeholders(text) - {CLIENT_ID} for key, text in self._texts()}
        used["identity.variable"] = {self.identity.variable} if self.identity.variable else set()
        for key, names in used.items():
            for name in sorted(names - set(self.variables)):
                raise ValueError(f"{key}: there is no variable {name!r}{nearest(name, self.variables)}")
        return self

    @property
    def needs_nobody(self) -> bool:
        """Does it give tokens in our own name, with no owner's consent (RFC 6749 section 4.4)?"""
        return self.flow == "client_credentials"

    @property
    def registration_fix(self) -> str:
        """What an operator does when the provider does not accept our client."""
        stem = variable_stem(self.id)
        return f"correct {stem}_CLIENT_ID and {stem}_CLIENT_SECRET, then restart the workers"

    def name_of(self, call: Call) -> str:
        """The first capability that is called or probed so; `api` for any other call."""
        those = (name for name, each in self.capabilities.items() if call in {each.call, each.probe})
        return next(those, Endpoint.API)

    def capability(self, name: str) -> Capability:
        """Raises CatalogError, naming the nearest, when there is none of that name."""
        found = self.capabilities.get(name)
        if found is None:
            raise CatalogError(f"{self.name} has no capability {name!r}{nearest(name, self.capabilities)}")
        return found

    @cached_property
    def asked_grants(self) -> list[str]:
        """Every grant that some capability wants: what a first consent asks for."""
        return sorted(frozenset().union(*(c.requires | c.optional for c in self.capabilities.values())))

    @cached_property
    def optional_grants(self) -> frozenset[str]:
        """Grants that no capability requires: without them some work less well, and none is blocked."""
        required = frozenset[str]().union(*(c.requires for c in self.capabilities.values()))
        return frozenset(self.asked_grants) - required

    @cached_property
    def vocabulary(self) -> Vocabulary:
        known = self.errors.model_dump(exclude={"at", "wait_words"})
        return Vocabulary(terminal=self.terminal_errors, **known)

    @cached_property
    def reading(self) -> Reading:
        quota = self.quota
        return Reading(
            error_at=self.errors.at,
            quota_remaining=quota.remaining if quota else None,
            quota_reset=quota.reset if quota else None,
            wait_words=self.errors.wait_words,
        )

    def with_implied(self, grants: Iterable[str]) -> frozenset[str]:
        """Grants with everything that they bring along."""
        found = frozenset(grants)
        more = found.union(*(self.implied.get(grant, frozenset()) for grant in found))
        return found if more == found else self.with_implied(more)

    def told_by(self, source: str) -> dict[str, Variable]:
        """The variables whose values this source gives."""
        return {name: variable for name, variable in self.variables.items() if variable.source == source}

    def values_of(self, source: str, told: object) -> dict[str, str]:
        """Those values, as far as what it told holds them in their pattern."""
        asked = self.told_by(source)
        found = {name: variable.read(value_at(told, variable.field or name)) for name, variable in asked.items()}
        return {name: value for name, value in found.items() if value is not None}

    @staticmethod
    def placeholders(text: str) -> set[str]:
        return set(_PLACEHOLDER.findall(text))

    def fill(self, text: str, values: Mapping[str, Any]) -> str:
        """An address or header with its placeholders filled. Raises NotReadyError naming a value that is not known."""

        def value(match: re.Match[str]) -> str:
            variable = self.variables.get(match[1])
            found = values.get(match[1], variable.default if variable else None)
            if not isinstance(found, str):
                raise NotReadyError(self._unknown(match[1]))
            return found

        return _PLACEHOLDER.sub(value, text)

    def _unknown(self, name: str) -> str:
        variable = self.variables[name]
        what = f"{self.name} needs {name!r}" + (f" ({variable.about})" if variable.about else "")
        if variable.source == "connection":
            return f"{what}: add the connection with --set {name}=..."
        return f"{what}, which its {variable.source} answer gives: consent again"

    def _texts(self) -> Iterator[tuple[str, str]]:
        """What may hold placeholders, each with its key."""
        for key in ("authorize_url", "token_url", "revoke_url", "introspect_url"):
            if (url := getattr(self, key)) is not None:
                yield key, url
        yield "identity.url", self.identity.url
        for name, capability in self.capabilities.items():
            yield f'capabilities."{name}".call.url', capability.call.url
            yield f'capabilities."{name}".probe.url', capability.probe.url
        for name, value in self.api_headers.items():
            yield f"api_headers.{name}", value


def variable_stem(provider_id: str) -> str:
    """The beginning of the environment variables that hold a provider's client id and secret."""
    return f"RUNBOOK_PROVIDER_{re.sub('[^A-Z0-9]', '_', provider_id.upper())}"
