"""How strict this provider is. Changed while it runs, and remembered."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from simulator.store import Store


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    pkce_required: bool = True
    """Refuse authorization requests without a challenge (RFC 7636, RFC 9700 section 2.1.1)."""
    rotate: bool = True
    """Answer each refresh with a new refresh token and retire the old one (RFC 9700 section 4.14.2)."""
    rotation_grace_s: float = Field(300, ge=0, allow_inf_nan=False)
    """How long the token retired last is answered with its successors again: a lost response is no theft."""
    reuse_detection: bool = True
    """Revoke the whole grant when a retired token comes back (RFC 9700 section 4.14.2)."""
    access_token_ttl: int = Field(3600, ge=1)
    refresh_token_ttl: int | None = Field(None, ge=1)
    """Seconds a refresh token lives; null means until it is revoked."""


class SettingsBook:
    def __init__(self, store: Store) -> None:
        self._store = store
        remembered = store.row("SELECT value FROM settings")
        self.current = Settings.model_validate_json(remembered["value"]) if remembered else Settings()

    def change(self, changes: dict[str, Any]) -> Settings:
        """Apply only what is named; anything unknown or out of range raises and changes nothing."""
        self.current = Settings.model_validate({**self.current.model_dump(), **changes})
        self._store.run("INSERT OR REPLACE INTO settings VALUES (1, ?)", (self.current.model_dump_json(),))
        return self.current
