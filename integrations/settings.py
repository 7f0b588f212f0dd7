"""Everything that can be set, read once at the edge of a process.

Order of precedence: the environment (prefix RUNBOOK_), then what a running `make up` left for commands in this
checkout (`live.json` in its data folder).
"""

import base64
import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy.engine import make_url

_PREFIX: Final = "RUNBOOK_"
_ELSEWHERE: Final = ("RUNBOOK_PROVIDER_", "RUNBOOK_TEST_")
"""Read by name: a provider's client credentials by the catalog, the test suite's by the test suite."""
_KEY_BYTES: Final = 32


class SettingsError(Exception):
    """A setting is missing, malformed or unknown. The message names it and says what it should be."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    database_url: SecretStr = Field(description="postgresql://user@host/database")
    key: SecretStr = Field(description="the encryption key: 32 bytes, base64")
    key_id: str = Field(default="k1", pattern=r"^[A-Za-z0-9_.\-]{1,32}$", description="the key's name, stored per row")
    web_url: str = Field(default="http://127.0.0.1:8000", description="where owners reach the web app")
    web_host: str = "127.0.0.1"
    web_port: int = 8000
    data: Path | None = Field(default=None, description="the embedded stack's folder")
    providers: Path | None = Field(default=None, description="a catalog file that extends the built-in one")
    simulator_url: str | None = Field(default=None, description="where the simulator runs: completes its entry")
    temporal_address: str | None = Field(default=None, description="set by `up`; yours goes into TEMPORAL_ADDRESS")
    temporal_namespace: str | None = None
    temporal_ui_url: str | None = None
    log_json: bool = Field(default=False, description="one JSON object a line instead of text for people")

    @field_validator("key")
    @classmethod
    def _key_is_a_key(cls, value: SecretStr) -> SecretStr:
        try:
            size = len(base64.b64decode(value.get_secret_value(), validate=True))
        except ValueError:
            size = 0
        if size != _KEY_BYTES:
            raise ValueError(f"must be {_KEY_BYTES} bytes in base64: make one with `openssl rand -base64 32`")
        return value

    @field_validator("database_url")
    @classmethod
    def _database_is_postgres(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("postgresql://", "postgresql+asyncpg://", "postgres://")):
            raise ValueError("must be an address like postgresql://user@host/database")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over what `load` passes in from a running stack."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings

    @property
    def raw_key(self) -> bytes:
        return base64.b64decode(self.key.get_secret_value())

    @property
    def sqlalchemy_url(self) -> str:
        url = make_url(self.database_url.get_secret_value()).set(drivername="postgresql+asyncpg")
        # libpq's name for it; asyncpg's is `ssl`, with the same values.
        mode = url.query.get("sslmode")
        if mode is not None:
            url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
        return url.render_as_string(hide_password=False)


def load(live: Mapping[str, Any] | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    `live` holds the fields that a running embedded stack stands for; its other entries are not settings and are
    left out. Raises SettingsError with one line for each field that is wrong.
    """
    _refuse_unknown(environment)
    known = {name: value for name, value in (live or {}).items() if name in Settings.model_fields}
    try:
        return Settings(**known)
    except ValidationError as error:
        lines = [f"{_PREFIX}{'_'.join(map(str, e['loc'])).upper()}: {_said(e['msg'])}" for e in error.errors()]
        raise SettingsError("\n".join(lines)) from None


def _said(message: str) -> str:
    if message == "Field required":
        return "is not set, and no `make up` is running in this checkout to take it from"
    return message.removeprefix("Value error, ")


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    names = [f"{_PREFIX}{name.upper()}" for name in Settings.model_fields]
    for name in environment:
        if name.startswith(_PREFIX) and not name.startswith(_ELSEWHERE) and name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{name} is not a setting{hint}")
