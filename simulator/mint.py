"""Grants in bulk, for load tests and benches: nobody wants to click through ten thousand consents."""

import secrets
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulator.clock import iso
from simulator.provider import Provider
from simulator.scopes import SCOPES, Scopes
from simulator.tokens import new_access_token, new_refresh_token

MOST = 100_000
PASSWORD = "minted"  # noqa: S105 of invented people; whoever tests their consents has to log in
"""The password of every minted account."""


class MintOrder(BaseModel):
    model_config = ConfigDict(extra="forbid")

    account_ids: Annotated[list[str], Field(min_length=1, max_length=MOST)] | None = None
    """One grant for each, of accounts that are here."""
    count: Annotated[int, Field(ge=1, le=MOST)] | None = None
    """This many new accounts, with one grant each."""
    scopes: Scopes = list(SCOPES)

    @model_validator(mode="after")
    def names_one_of_two(self) -> "MintOrder":
        if (self.account_ids is None) == (self.count is None):
            raise ValueError("give account_ids or count, and not both")
        return self


def mint(here: Provider, order: MintOrder, now: float) -> list[dict[str, str]]:
    with here.store.transaction():
        account_ids = order.account_ids or [_new_account(here) for _ in range(order.count or 0)]
        minted = [_mint_one(here, account_id, " ".join(order.scopes), now) for account_id in account_ids]
        if keep := here.settings.current.max_live_grants:
            for account_id in set(account_ids):
                here.grants.keep_newest(account_id, here.config.client_id, keep, now)
    return minted


def _new_account(here: Provider) -> str:
    name = secrets.token_hex(8)
    account = here.accounts.add(f"{name}@minted.example", f"Minted {name}", PASSWORD)
    assert account is not None, "sixty-four random bits were drawn twice"
    return account.account_id


def _mint_one(here: Provider, account_id: str, scope: str, now: float) -> dict[str, str]:
    settings, provider_now = here.settings.current, here.clock.at(now)
    access_token, refresh_token = new_access_token(), new_refresh_token()
    grant_id = here.grants.add(account_id, here.config.client_id, scope, now)
    here.tokens.add_access(access_token, grant_id, scope, provider_now, settings.access_token_ttl)
    here.tokens.add_refresh(refresh_token, grant_id, provider_now, settings.refresh_token_ttl)
    account = here.accounts.get(account_id)
    assert account is not None
    return {
        "account_id": account_id,
        "email": account.email,
        "grant_id": grant_id,
        "access_token": access_token,
        "refresh_token": refresh_token,
        "expires_at": iso(now + settings.access_token_ttl),
    }
