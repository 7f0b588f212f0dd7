"""What a start of the simulator is told from outside: the one registered client, and where the data lives."""

import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict


class ConfigError(Exception):
    """The environment does not describe a provider that can start; the text names the variable."""


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    client_id: str
    client_secret: str
    client_name: str
    redirect_uris: frozenset[str]
    """Compared character by character (RFC 6749 section 3.1.2.3, RFC 9700 section 2.1)."""
    links: dict[str, str] = {}
    """Where a person looks at what the broken provider did, shown on the break-it page."""
    data: Path | None = None
    """The SQLite file; without one nothing survives a restart."""

    @classmethod
    def from_env(cls, env: Mapping[str, str], data: Path | None) -> "Config":
        redirect_uris = frozenset(_required(env, "SIMULATOR_REDIRECT_URIS").split())
        for uri in redirect_uris:
            _check_web_address("SIMULATOR_REDIRECT_URIS", uri)
        client_id = _required(env, "SIMULATOR_CLIENT_ID")
        return cls(
            client_id=client_id,
            client_secret=_required(env, "SIMULATOR_CLIENT_SECRET"),
            client_name=env.get("SIMULATOR_CLIENT_NAME") or client_id,
            redirect_uris=redirect_uris,
            links=_links(env.get("SIMULATOR_LINKS", "")),
            data=data,
        )


def _required(env: Mapping[str, str], name: str) -> str:
    value = env.get(name, "").strip()
    if not value:
        raise ConfigError(f"{name} is not set: the simulator needs its one registered client (see --help)")
    return value


def _links(text: str) -> dict[str, str]:
    if not text:
        return {}
    try:
        links = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"SIMULATOR_LINKS is not JSON: {error}") from error
    if not isinstance(links, dict) or not all(isinstance(url, str) for url in links.values()):
        raise ConfigError('SIMULATOR_LINKS is not an object of names and addresses, such as {"Web UI": "http://…"}')
    for url in links.values():
        _check_web_address("SIMULATOR_LINKS", url)
    return links


def _check_web_address(name: str, url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ConfigError(f"{name} holds {url!r}, which is no http or https address")
