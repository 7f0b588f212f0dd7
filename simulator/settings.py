"""How strict this provider is. Changed while it runs, and remembered."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from simulator.store import Store

YEAR_S = 365 * 86_400


class Settings(BaseModel):
    """The text under each one stands on the break-it page too: what it does, and what nobody may conclude from it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    pkce_required: bool = True
    """Requests for consent without a PKCE challenge are refused (RFC 7636, RFC 9700 section 2.1.1). Off, they are let
    through; an application has to send a challenge all the same, and it is verified then."""
    rotate: bool = True
    """Each refresh is answered with a new refresh token, and the old one is retired (RFC 9700 section 4.14.2). Off, the
    answer has none in it: the application has to keep the one it has."""
    rotation_grace_s: float = Field(300, ge=0, allow_inf_nan=False)
    """For so many seconds the token that was retired last is answered with the same successors again: a lost answer is
    no theft. Sent any later, it is refused."""
    reuse_detection: bool = True
    """A retired token that comes back after its grace revokes the whole grant (RFC 9700 section 4.14.2). An application
    must never send one to find out whether it still works."""
    access_token_ttl: int = Field(3600, ge=1)
    """Seconds that an access token lives. The 401 afterwards is no revocation: it asks for a refresh."""
    refresh_token_ttl: int | None = Field(None, ge=1)
    """Seconds that a refresh token lives; with nothing given, until it is revoked. An expired one is answered
    invalid_grant, and only then the owner has to be asked again."""
    echo_scope: bool = True
    """Token answers say which scopes were allowed (RFC 6749 section 5.1). Off, they say nothing, which must not be
    taken for a grant that has lost them all."""
    max_live_grants: int | None = Field(None, ge=1)
    """How many live grants of one account the application may hold; with nothing given, any number. A new consent
    revokes the oldest, so that another connection dies although nobody meant it."""
    introspection: bool = True
    """Applications may ask what a token is worth (RFC 7662). Off, they are answered 404, which says nothing about the
    token."""
    client_credentials: bool = True
    """The application may get a token of its own with its secret alone (RFC 6749 section 4.4). Off, that is answered
    unsupported_grant_type, which says nothing about what people allowed."""
    tell_revocations: bool = False
    """Whoever subscribed to webhooks is told of a permission that its owner took away. Off, an application finds out
    when a refresh is refused, which it must be ready for anyhow: a webhook may be lost."""
    clock_skew_s: float = Field(0, ge=-YEAR_S, le=YEAR_S)
    """Seconds that the provider's clock is ahead, or behind when negative: its dates are off, and tokens end early or
    late. An application has to count from its own clock, and to refresh when it is refused."""


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
