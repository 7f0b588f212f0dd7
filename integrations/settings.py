"""Everything that can be set, read once at the edge of a process.

Order of precedence: the environment (prefix RUNBOOK_), then what a running `make up` left for commands in this
checkout (`live.json` in its data folder).
"""

import difflib
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy.engine import make_url

from integrations.domain.automation import Conduct
from integrations.domain.call import TAIL
from integrations.domain.durations import duration
from integrations.domain.job import PATIENCE as JOB_PATIENCE
from integrations.domain.keyring import KEY_ID, Ring, key_of, root_of
from integrations.domain.mail import MailServer, Sender
from integrations.domain.notification_delivery import BATCH as NOTIFY_BATCH
from integrations.domain.notification_delivery import RETRYING as SENDING
from integrations.domain.outage import Limits as OutageLimits
from integrations.domain.outbox import BATCH, Retrying
from integrations.domain.quiet_hours import QuietHours
from integrations.domain.reauth import PATIENCE, Reminding, Terms
from integrations.domain.retention import Kept
from integrations.domain.surge import Limits
from integrations.domain.webhook import BATCH as WEBHOOK_BATCH
from integrations.domain.webhook import RETRYING as HANDLING
from integrations.domain.webhook_audit import SECRET_AGE
from integrations.keyring import GivenKeys, Keys, KeysFile

_PREFIX: Final = "RUNBOOK_"
_ELSEWHERE: Final = ("RUNBOOK_PROVIDER_", "RUNBOOK_TEST_")
"""Read by name: a provider's client credentials by the catalog, the test suite's by the test suite."""
_KEYS: Final = ("key", "key_id", "old_keys", "root_key", "keys_file")
_NOT_SET: Final = "is not set, and no `make up` is running in this checkout to take it from"
TERM_VARIABLES: Final = tuple(
    f"{_PREFIX}{name}"
    for name in ("REAUTH_PATIENCE", "REAUTH_REMIND_AFTER", "REAUTH_ACKNOWLEDGE_WITHIN", "OWNER_ZONE", "QUIET_HOURS")
)
"""What a re-consent is begun with: a person may set them for an embedded stack too."""
KEY_VARIABLES: Final = tuple(f"{_PREFIX}{name.upper()}" for name in _KEYS)


def _durations(value: object) -> object:
    return tuple(duration(word) for word in value.split()) if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(lambda value: duration(value) if isinstance(value, str) else value)]
Durations = Annotated[tuple[timedelta, ...], NoDecode, BeforeValidator(_durations)]
Words = Annotated[
    tuple[str, ...], NoDecode, BeforeValidator(lambda value: tuple(value.split()) if isinstance(value, str) else value)
]
_REMINDING: Final = Reminding()
_RETRYING: Final = Retrying()
_SURGE: Final = Limits()
_OUTAGE: Final = OutageLimits()
_KEPT: Final = Kept()


class SettingsError(Exception):
    """A setting is missing, malformed or unknown. The message names it and says what it should be."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    database_url: SecretStr = Field(description="postgresql://user@host/database")
    keys_file: Path | None = Field(default=None, description="the ring of keys: a file that `runbook keys` changes")
    key: SecretStr | None = Field(
        default=None, validate_default=True, description="the encryption key, without a file: 32 bytes, base64"
    )
    key_id: str = Field(default="k1", pattern=f"^{KEY_ID}$", description="the key's name, stored per row")
    old_keys: SecretStr = Field(default=SecretStr(""), description="keys that only open: `id:base64 id:base64`")
    root_key: SecretStr | None = Field(default=None, description="what links are derived from once the key is another")
    web_url: str = Field(default="http://127.0.0.1:8000", description="where owners reach the web app")
    ingress_url: str | None = Field(default=None, description="where workers reach it, for self-tests of webhooks")
    web_host: str = "127.0.0.1"
    web_port: int = 8000
    web_private_host: str = "127.0.0.1"
    web_private_port: int = Field(default=8001, description="where readiness and metrics are, and nothing for others")
    data: Path | None = Field(default=None, description="the embedded stack's folder")
    providers: Path | None = Field(default=None, description="a catalog file that extends the built-in one")
    notifications: Path | None = Field(default=None, description="a file of definitions that extends the built-in one")
    simulator_url: str | None = Field(default=None, description="where the simulator runs: completes its entry")
    temporal_address: str | None = Field(default=None, description="set by `up`; yours goes into TEMPORAL_ADDRESS")
    temporal_namespace: str | None = None
    temporal_ui_url: str | None = None
    smtp_url: SecretStr | None = Field(default=None, description="the mail server: smtp://user:password@host:587")
    mail_from: str | None = Field(default=None, description="whom mails are from: `Runbook <runbook@acme.example>`")
    webhook_internal: Words = Field(default=(), description="hosts inside our network that webhooks may go to")
    log_json: bool = Field(default=False, description="one JSON object a line instead of text for people")
    reauth_patience: Duration = Field(default=PATIENCE, description="how long an owner is waited for, as 14d")
    reauth_remind_after: Durations = Field(
        default=_REMINDING.after, description="when an owner is reminded, as `1d 3d 6d`"
    )
    reauth_acknowledge_within: Duration = Field(
        default=_REMINDING.acknowledge_within, description="after that a blocked connection's task escalates"
    )
    owner_zone: str = Field(default="UTC", description="the clock of owners of whom nothing else is known")
    outbox_batch: int = Field(default=BATCH, ge=1, le=10_000, description="events in one transaction of the drain")
    outbox_attempts: int = Field(default=_RETRYING.attempts, ge=2, le=1000, description="then a projection is dead")
    outbox_retry_first: Duration = Field(default=_RETRYING.first, description="the wait before the second retry")
    outbox_retry_most: Duration = Field(default=_RETRYING.most, description="to which that wait doubles")
    notify_batch: int = Field(default=NOTIFY_BATCH, ge=1, le=1000, description="messages in one claim of a channel")
    notify_attempts: int = Field(default=SENDING.attempts, ge=2, le=1000, description="then a channel gives up")
    notify_retry_first: Duration = Field(default=SENDING.first, description="the wait before the second attempt")
    notify_retry_most: Duration = Field(default=SENDING.most, description="to which that wait doubles")
    webhook_batch: int = Field(default=WEBHOOK_BATCH, ge=1, le=10_000, description="deliveries in one batch")
    webhook_attempts: int = Field(default=HANDLING.attempts, ge=2, le=1000, description="then a delivery is dead")
    webhook_retry_first: Duration = Field(default=HANDLING.first, description="the wait before its second retry")
    webhook_retry_most: Duration = Field(default=HANDLING.most, description="to which that wait doubles")
    outbox_lag_slo: Duration = Field(
        default=timedelta(seconds=60), description="how old the oldest pending event may be, as 60s"
    )
    notify_backlog_slo: Duration = Field(
        default=timedelta(minutes=15), description="how long the oldest message that is due may wait, as 15m"
    )
    credentials_kept: Duration = Field(
        default=_KEPT.credentials, description="how long retired credentials are kept, as 7d"
    )
    calls_kept: Duration = Field(default=_KEPT.calls, description="how long calls of providers are remembered, as 7d")
    webhooks_kept: Duration = Field(default=_KEPT.webhooks, description="how long settled webhooks are kept, as 30d")
    webhook_secret_age: Duration = Field(default=SECRET_AGE, description="of a webhook secret, before it is a finding")
    dead_kept: Duration = Field(default=_KEPT.dead, description="how long webhooks that were given up are, as 90d")
    ledger_kept: Duration = Field(default=_KEPT.events, description="how long delivered events and messages are")
    surge_window: Duration = Field(default=_SURGE.window, description="in which terminal answers are counted, as 10m")
    surge_connections: int = Field(default=_SURGE.connections, ge=1, description="so many are a surge, if they are")
    surge_share: int = Field(default=_SURGE.share, ge=0, le=100, description="per cent of those that were answered too")
    job_patience: Duration = Field(default=JOB_PATIENCE, description="then a job that waits is parked, as 1h")
    outage_every: Duration = Field(default=_OUTAGE.every, description="between two looks for outages, as 15s")
    outage_window: Duration = Field(default=_OUTAGE.window, description="in which calls are counted for one, as 60s")
    outage_calls: int = Field(default=_OUTAGE.calls, ge=1, description="so many calls in it are an outage, if they are")
    outage_share: int = Field(default=_OUTAGE.share, ge=1, le=100, description="per cent of these that fail")
    outage_quiet_calls: int = Field(
        default=_OUTAGE.quiet_calls, ge=1, le=TAIL, description="where there are fewer: last calls that all failed"
    )
    outage_quiet_probes: int = Field(default=_OUTAGE.quiet_probes, ge=1, description="probes that have to fail as well")
    outage_lease: Duration = Field(default=_OUTAGE.lease, description="for which a brake outlives its workflow, as 2m")
    outage_probe_first: Duration = Field(default=_OUTAGE.probe_first, description="the wait before the second probe")
    outage_probe_most: Duration = Field(default=_OUTAGE.probe_most, description="to which that wait doubles")
    outage_probes: int = Field(default=_OUTAGE.probes, ge=1, description="successes in a row, and the ramp begins")
    outage_step: Duration = Field(default=_OUTAGE.step, description="the least time of a step of the ramp, as 30s")
    outage_step_calls: int = Field(default=_OUTAGE.step_calls, ge=1, description="calls that a step is judged by")
    outage_step_share: int = Field(
        default=_OUTAGE.step_share, ge=1, le=100, description="per cent of these that have to be fine"
    )
    outage_step_quiet: Duration = Field(
        default=_OUTAGE.step_quiet, description="after this a step with fewer calls is over, if none failed"
    )
    outage_slack: int = Field(
        default=_OUTAGE.slack, ge=0, le=100, description="points by which success may stay under what it was before"
    )
    database_cores: int | None = Field(default=None, ge=1, description="of the database's machine, when it is another")
    approve_above: int = Field(default=10_000, ge=0, description="a replay of more items needs another person's word")
    mode: Conduct = Field(default=Conduct.ACT, description="`observe`: the worker does nothing by itself")
    quiet_hours: str = Field(default="20-8", description="hours in which owners are not reminded; 0-0 for none")

    @field_validator("key")
    @classmethod
    def _key_is_a_key(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None and info.data.get("keys_file") is None:
            raise ValueError(_NOT_SET)
        return value if value is None else _checked(value)

    @field_validator("root_key")
    @classmethod
    def _root_is_a_key(cls, value: SecretStr | None) -> SecretStr | None:
        return value if value is None else _checked(value)

    @field_validator("old_keys")
    @classmethod
    def _old_keys_are_keys(cls, value: SecretStr) -> SecretStr:
        _old_keys(value)
        return value

    @field_validator(
        "reauth_patience",
        "reauth_acknowledge_within",
        "outbox_retry_first",
        "outbox_retry_most",
        "outbox_lag_slo",
        "notify_retry_first",
        "notify_retry_most",
        "notify_backlog_slo",
        "webhook_retry_first",
        "webhook_retry_most",
        "calls_kept",
        "credentials_kept",
        "webhooks_kept",
        "webhook_secret_age",
        "dead_kept",
        "ledger_kept",
        "surge_window",
        "job_patience",
        "outage_every",
        "outage_window",
        "outage_lease",
        "outage_probe_first",
        "outage_probe_most",
        "outage_step",
        "outage_step_quiet",
    )
    @classmethod
    def _is_some_time(cls, value: timedelta) -> timedelta:
        if not value:
            raise ValueError("must be longer than nothing")
        return value

    @field_validator("owner_zone")
    @classmethod
    def _zone_is_known(cls, value: str) -> str:
        return QuietHours.read(value, "0-0").zone

    @field_validator("quiet_hours")
    @classmethod
    def _hours_are_of_a_clock(cls, value: str) -> str:
        QuietHours.read("UTC", value)
        return value

    @field_validator("database_url")
    @classmethod
    def _database_is_postgres(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("postgresql://", "postgresql+asyncpg://", "postgres://")):
            raise ValueError("must be an address like postgresql://user@host/database")
        return value

    @field_validator("smtp_url")
    @classmethod
    def _mail_server_is_one(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            MailServer.read(value.get_secret_value())
        return value

    @field_validator("mail_from")
    @classmethod
    def _sender_is_a_mailbox(cls, value: str | None) -> str | None:
        if value is not None:
            Sender.read(value)
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
    def mail_server(self) -> MailServer | None:
        return MailServer.read(self.smtp_url.get_secret_value()) if self.smtp_url else None

    @property
    def sender(self) -> Sender | None:
        return Sender.read(self.mail_from) if self.mail_from else None

    @property
    def terms(self) -> Terms:
        """What a re-consent is begun with, unless its owner has quiet hours of their own."""
        quiet = QuietHours.read(self.owner_zone, self.quiet_hours)
        reminding = Reminding(
            after=self.reauth_remind_after, quiet=quiet, acknowledge_within=self.reauth_acknowledge_within
        )
        return Terms(patience=self.reauth_patience, reminding=reminding)

    @property
    def retrying(self) -> Retrying:
        """How a projection is retried. Raises SettingsError when the longest wait is shorter than the first."""
        if self.outbox_retry_most < self.outbox_retry_first:
            raise SettingsError("RUNBOOK_OUTBOX_RETRY_MOST is shorter than RUNBOOK_OUTBOX_RETRY_FIRST")
        return Retrying(attempts=self.outbox_attempts, first=self.outbox_retry_first, most=self.outbox_retry_most)

    @property
    def sending(self) -> Retrying:
        """How a message is retried. Raises SettingsError when the longest wait is shorter than the first."""
        if self.notify_retry_most < self.notify_retry_first:
            raise SettingsError("RUNBOOK_NOTIFY_RETRY_MOST is shorter than RUNBOOK_NOTIFY_RETRY_FIRST")
        return Retrying(attempts=self.notify_attempts, first=self.notify_retry_first, most=self.notify_retry_most)

    @property
    def web_base(self) -> str:
        return self.web_url.rstrip("/")

    @property
    def ingress_base(self) -> str:
        return (self.ingress_url or self.web_url).rstrip("/")

    @property
    def handling(self) -> Retrying:
        """How a webhook delivery is retried. Raises SettingsError when the longest wait is shorter than the first."""
        if self.webhook_retry_most < self.webhook_retry_first:
            raise SettingsError("RUNBOOK_WEBHOOK_RETRY_MOST is shorter than RUNBOOK_WEBHOOK_RETRY_FIRST")
        return Retrying(attempts=self.webhook_attempts, first=self.webhook_retry_first, most=self.webhook_retry_most)

    @property
    def kept(self) -> Kept:
        return Kept(
            calls=self.calls_kept,
            credentials=self.credentials_kept,
            webhooks=self.webhooks_kept,
            dead=self.dead_kept,
            events=self.ledger_kept,
        )

    @property
    def surge_limits(self) -> Limits:
        return Limits(window=self.surge_window, connections=self.surge_connections, share=self.surge_share)

    @property
    def outage_limits(self) -> OutageLimits:
        """What an outage is. Raises SettingsError for what cannot be meant: two of them that contradict each other."""
        limits = OutageLimits(**{name: getattr(self, f"outage_{name}") for name in OutageLimits.model_fields})
        if limits.window < limits.every:
            raise SettingsError(
                "RUNBOOK_OUTAGE_WINDOW is shorter than RUNBOOK_OUTAGE_EVERY: nobody saw what is between"
            )
        if limits.probe_most < limits.probe_first:
            raise SettingsError("RUNBOOK_OUTAGE_PROBE_MOST is shorter than RUNBOOK_OUTAGE_PROBE_FIRST")
        if limits.step_quiet < limits.step:
            raise SettingsError("RUNBOOK_OUTAGE_STEP_QUIET is shorter than RUNBOOK_OUTAGE_STEP: no step would be over")
        return limits

    @property
    def keys(self) -> Keys:
        """Where the ring of keys comes from. Raises SettingsError when two places are named, or links would change."""
        if self.keys_file is None:
            return GivenKeys(self.given_ring())
        if self.key is not None:
            raise SettingsError(
                "RUNBOOK_KEYS_FILE and RUNBOOK_KEY are both set: `runbook keys init` takes the key over into the file; "
                "then unset RUNBOOK_KEY, RUNBOOK_KEY_ID, RUNBOOK_OLD_KEYS and RUNBOOK_ROOT_KEY"
            )
        return KeysFile(self.keys_file)

    def given_ring(self) -> Ring:
        """The ring that the environment spells out. Raises SettingsError when its links would not be the old ones."""
        assert self.key is not None
        key, old = key_of(self.key.get_secret_value()), _old_keys(self.old_keys)
        if self.key_id in old:
            raise SettingsError(f"RUNBOOK_OLD_KEYS: {self.key_id!r} is the current key's id (RUNBOOK_KEY_ID)")
        if old and self.root_key is None:
            raise SettingsError(
                "RUNBOOK_OLD_KEYS is set without RUNBOOK_ROOT_KEY, and every link that was mailed would die with the "
                "key: `runbook keys rotate` prints how to make it from the first key"
            )
        root = key_of(self.root_key.get_secret_value()) if self.root_key else root_of(key)
        return Ring(self.key_id, {**old, self.key_id: key}, root)

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
    if any(name in os.environ for name in KEY_VARIABLES):
        # A person's keys replace the stack's as a whole: half of each would be nobody's.
        known = {name: value for name, value in known.items() if name not in _KEYS}
    try:
        return Settings(**known)
    except ValidationError as error:
        lines = [f"{_PREFIX}{'_'.join(map(str, e['loc'])).upper()}: {_said(e['msg'])}" for e in error.errors()]
        raise SettingsError("\n".join(lines)) from None


def _said(message: str) -> str:
    said = message.removeprefix("Value error, ")
    return _NOT_SET if said == "Field required" else said


def _checked(value: SecretStr) -> SecretStr:
    key_of(value.get_secret_value())
    return value


def _old_keys(value: SecretStr) -> dict[str, bytes]:
    """`id:base64 id:base64`. Raises ValueError, which names the id and shows no key."""
    old = {}
    for word in value.get_secret_value().split():
        key_id, _, key = word.partition(":")
        if not re.fullmatch(KEY_ID, key_id) or not key or key_id in old:
            raise ValueError("must be `id:base64 id:base64`, each id once")
        try:
            old[key_id] = key_of(key)
        except ValueError as error:
            raise ValueError(f"{key_id}: {error}") from None
    return old


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    names = [f"{_PREFIX}{name.upper()}" for name in Settings.model_fields]
    for name in environment:
        if name.startswith(_PREFIX) and not name.startswith(_ELSEWHERE) and name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{name} is not a setting{hint}")
