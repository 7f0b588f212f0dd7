"""The catalog: what we know of each provider, as data that is checked when it is read."""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationError

from integrations.domain.errors import NotReadyError, StopError
from integrations.domain.gate import Access
from integrations.domain.message import Message

BUILT_IN: Final = Path(__file__).with_name("catalog.toml")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class CatalogError(StopError):
    """A catalog file is wrong. The message names the file, the key and the nearest right one."""


def _duration(value: object) -> object:
    match = re.fullmatch(r"(\d{1,6})([smhd])", value) if isinstance(value, str) else None
    if not match:
        raise ValueError('must be a duration like "90s", "15m", "12h" or "3d"')
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


Duration = Annotated[timedelta, BeforeValidator(_duration)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Call(_Entry):
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    url: str


class Identity(_Entry):
    url: str
    field: str
    """Where the answer holds the account's own id."""
    name_field: str | None = None


class Capability(_Entry):
    access: Access
    requires: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    call: Call
    probe: Call
    """What proves the capability after a re-consent, without an effect of its own."""


class Provider(_Entry):
    id: str
    name: str
    authorize_url: str
    token_url: str
    revoke_url: str | None = None
    scope_separator: str = " "
    pkce: bool = True
    token_auth: Literal["post", "basic"] = "post"  # noqa: S105 - a method's name
    identity: Identity
    rotates_refresh_token: bool = False
    rotation_grace: Duration = timedelta(0)
    """How long a rotated token, sent again, is answered with its successor."""
    refresh_lead: Duration = timedelta(minutes=15)
    terminal_errors: frozenset[str] = frozenset()
    capabilities: dict[str, Capability]

    @property
    def registration_fix(self) -> str:
        """What an operator does when the provider does not accept our client."""
        stem = _variable(self.id)
        return f"correct {stem}_CLIENT_ID and {stem}_CLIENT_SECRET, then restart the workers"

    def capability(self, name: str) -> Capability:
        """Raises CatalogError, naming the nearest, when there is none of that name."""
        found = self.capabilities.get(name)
        if found is None:
            raise CatalogError(f"{self.name} has no capability {name!r}{_nearest(name, self.capabilities)}")
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


class ClientCredentials(Message):
    client_id: str
    client_secret: SecretStr


class Catalog:
    def __init__(self, providers: Mapping[str, Provider], environment: Mapping[str, str] = os.environ) -> None:
        self._providers = providers
        self._environment = environment

    def __iter__(self) -> Any:
        return iter(self._providers.values())

    def provider(self, provider_id: str) -> Provider:
        """Raises CatalogError, naming the nearest, when there is none of that id."""
        found = self._providers.get(provider_id)
        if found is None:
            raise CatalogError(f"there is no provider {provider_id!r}{_nearest(provider_id, self._providers)}")
        return found

    def credentials(self, provider_id: str) -> ClientCredentials:
        """The client's id and secret, from the environment. Raises NotReadyError naming the missing variable."""
        stem = _variable(provider_id)
        values = [self._environment.get(f"{stem}_{part}") for part in ("CLIENT_ID", "CLIENT_SECRET")]
        if not values[0] or not values[1]:
            missing = f"{stem}_CLIENT_ID" if not values[0] else f"{stem}_CLIENT_SECRET"
            raise NotReadyError(f"{missing} is not set: {provider_id} cannot be asked for tokens without it")
        return ClientCredentials(client_id=values[0], client_secret=SecretStr(values[1]))


def load(extra: Path | None = None, host: str | None = None, environment: Mapping[str, str] = os.environ) -> Catalog:
    """Read the built-in catalog and the file that extends it.

    `host` completes the simulator's addresses; without it there is no simulator. Raises CatalogError.
    """
    providers: dict[str, Provider] = {}
    for file in (BUILT_IN, extra):
        if file is None:
            continue
        for provider_id, entry in _read(file).items():
            needs_host = "{host}" in str(entry)
            if needs_host and host is None:
                continue
            providers[provider_id] = _provider(file, provider_id, _with_host(entry, host) if needs_host else entry)
    return Catalog(providers, environment)


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            content = tomllib.load(opened)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CatalogError(f"{file}: {error}") from None
    unknown = set(content) - {"providers"}
    if unknown:
        raise CatalogError(f"{file}: unknown key {min(unknown)!r}; an entry starts with [providers.ID]")
    entries = content.get("providers", {})
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise CatalogError(f"{file}: providers must hold a table for each provider: [providers.ID]")
    return entries


def _provider(file: Path, provider_id: str, entry: dict[str, Any]) -> Provider:
    if "id" in entry:
        raise CatalogError(f"{file}: providers.{provider_id}.id: unknown key; the table's name is the id")
    try:
        return Provider.model_validate({"id": provider_id} | entry)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in ("providers", provider_id, *first["loc"]))
        near = ""
        if first["type"] == "extra_forbidden":
            near = _nearest(str(first["loc"][-1]), _fields_at(first["loc"]))
        raise CatalogError(f"{file}: {place}: {first['msg']}{near}") from None


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the model at this place knows."""
    model: type[BaseModel] = Provider
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is None:
            continue  # a capability's own name
        inner = [a for a in (field.annotation, *get_args(field.annotation)) if isinstance(a, type)]
        model = next((a for a in inner if issubclass(a, BaseModel)), model)
    return list(model.model_fields)


def _with_host(entry: Any, host: str | None) -> Any:
    if isinstance(entry, dict):
        return {key: _with_host(value, host) for key, value in entry.items()}
    return entry.replace("{host}", host or "") if isinstance(entry, str) else entry


def _variable(provider_id: str) -> str:
    return f"RUNBOOK_PROVIDER_{re.sub('[^A-Z0-9]', '_', provider_id.upper())}"


def _nearest(name: str, known: Mapping[str, object] | list[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known)) or 'none'}"
