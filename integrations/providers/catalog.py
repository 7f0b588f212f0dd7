"""The catalog: the built-in entries and the file that extends them, checked when they are read."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr, ValidationError

from integrations.domain.errors import NotReadyError
from integrations.domain.message import Message
from integrations.domain.nearest import nearest
from integrations.providers.entry import Provider, variable_stem
from integrations.providers.mistakes import CatalogError, mistakes
from integrations.providers.toml_file import parsed, tables

BUILT_IN: Final = Path(__file__).with_name("catalog.toml")
_HOST: Final = "{host}"


class ClientCredentials(Message):
    client_id: str
    client_secret: SecretStr


class Catalog:
    def __init__(self, providers: Mapping[str, Provider], environment: Mapping[str, str] = os.environ) -> None:
        self._providers = providers
        self._environment = environment

    def __iter__(self) -> Iterator[Provider]:
        return iter(self._providers.values())

    def provider(self, provider_id: str) -> Provider:
        """Raises CatalogError, naming the nearest, when there is none of that id."""
        found = self._providers.get(provider_id)
        if found is None:
            raise CatalogError(f"there is no provider {provider_id!r}{nearest(provider_id, self._providers)}")
        return found

    def name_of(self, provider_id: str) -> str:
        """Its name for people; its id, when the catalog does not know it any more."""
        found = self._providers.get(provider_id)
        return found.name if found else provider_id

    @property
    def families(self) -> dict[str, str]:
        """The family of each provider that is of one."""
        return {each.id: each.family for each in self if each.family}

    def credentials(self, provider_id: str) -> ClientCredentials:
        """The client's id and secret, from the environment. Raises NotReadyError naming the missing variable."""
        stem = variable_stem(provider_id)
        values = [self._environment.get(f"{stem}_{part}") for part in ("CLIENT_ID", "CLIENT_SECRET")]
        if not values[0] or not values[1]:
            missing = f"{stem}_CLIENT_ID" if not values[0] else f"{stem}_CLIENT_SECRET"
            raise NotReadyError(f"{missing} is not set: {provider_id} cannot be asked for tokens without it")
        return ClientCredentials(client_id=values[0], client_secret=SecretStr(values[1]))

    def is_configured(self, provider_id: str) -> bool:
        """Are the client's id and secret there? Without them the provider cannot be called."""
        stem = variable_stem(provider_id)
        return all(self._environment.get(f"{stem}_{part}") for part in ("CLIENT_ID", "CLIENT_SECRET"))


def load(extra: Path | None = None, host: str | None = None, environment: Mapping[str, str] = os.environ) -> Catalog:
    """Read the built-in catalog and the file that extends it.

    `host` completes the simulator's addresses; without it there is no simulator. Raises CatalogError.
    """
    providers: dict[str, Provider] = {}
    for file in (BUILT_IN, extra):
        if file is not None:
            providers |= read(file, host)
    return Catalog(providers, environment)


def read(file: Path, host: str | None = None) -> dict[str, Provider]:
    """The entries of one file by id. Raises CatalogError with a line for each mistake."""
    entries = _tables(file)
    said: list[str] = [*_same_variables(entries)]
    for provider_id in [each for each, entry in entries.items() if host is None and _HOST in str(entry)]:
        del entries[provider_id]
        if file != BUILT_IN:
            said.append(
                f"providers.{provider_id}: {_HOST} is where the simulator runs, and RUNBOOK_SIMULATOR_URL is not set"
            )
    providers: dict[str, Provider] = {}
    for provider_id, entry in entries.items():
        if "id" in entry:
            said.append(f"providers.{provider_id}.id: unknown key; the table's name is the id")
            continue
        try:
            providers[provider_id] = Provider.model_validate({"id": provider_id} | _with_host(entry, host))
        except ValidationError as error:
            said += mistakes(error, Provider, ("providers", provider_id))
    if said:
        raise CatalogError("\n".join(f"{file}: {line}" for line in said))
    return providers


def _tables(file: Path) -> dict[str, dict[str, Any]]:
    try:
        content = parsed(file, ("providers", "families"), "[providers.ID]")
        for key, entries in content.items():
            tables(file, key, entries)
    except ValueError as error:
        raise CatalogError(str(error)) from None
    families = content["families"]
    return {key: _of_family(file, key, entry, families) for key, entry in content["providers"].items()}


def _of_family(file: Path, provider_id: str, entry: dict[str, Any], families: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with what it shares with its vendor's others; what it says itself wins."""
    family = entry.get("family")
    if family is None:
        return entry
    if family not in families:
        message = f"there is no family {family!r}{nearest(str(family), families)}"
        raise CatalogError(f"{file}: providers.{provider_id}.family: {message}")
    return _merged(families[family], entry)


def _merged(shared: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    both = {key for key in shared if isinstance(shared[key], dict) and isinstance(own.get(key), dict)}
    return shared | own | {key: _merged(shared[key], own[key]) for key in both}


def _same_variables(entries: Mapping[str, object]) -> Iterator[str]:
    """Ids that differ only in what an environment variable's name cannot hold would share their secrets."""
    seen: dict[str, str] = {}
    for provider_id in entries:
        other = seen.setdefault(variable_stem(provider_id), provider_id)
        if other != provider_id:
            stem = variable_stem(provider_id)
            yield f"providers.{provider_id}: {other!r} already reads {stem}_CLIENT_ID: choose another id"


def _with_host(entry: Any, host: str | None) -> Any:
    if isinstance(entry, dict):
        return {key: _with_host(value, host) for key, value in entry.items()}
    return entry.replace(_HOST, host or "") if isinstance(entry, str) else entry
