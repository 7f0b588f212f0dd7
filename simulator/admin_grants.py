"""The admin API of grants: what an owner does in the provider's own pages, by hand or for thousands at once."""

import time
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, model_validator

from simulator.admin import Here, Text
from simulator.mint import MintOrder, mint
from simulator.problems import refusal
from simulator.revocation import take_away
from simulator.scopes import Scopes

router = APIRouter(prefix="/admin/grants")


class RevokeOrder(BaseModel):
    model_config = ConfigDict(extra="forbid")

    account_id: Text | None = None
    grant_id: Text | None = None

    @model_validator(mode="after")
    def names_something(self) -> "RevokeOrder":
        if self.account_id is None and self.grant_id is None:
            raise ValueError("give account_id or grant_id, or both")
        return self


class ScopesOrder(BaseModel):
    model_config = ConfigDict(extra="forbid")

    grant_id: Text
    scopes: Scopes


@router.get("")
async def list_grants(here: Here) -> list[dict[str, Any]]:
    return [grant.view() for grant in here.grants.all()]


@router.post("/revoke", response_model=None)
async def revoke_grants(here: Here, order: RevokeOrder) -> Response:
    revoked = take_away(here, time.time(), **order.model_dump())
    if not revoked:
        named = " and ".join(f"{name} {value}" for name, value in order.model_dump(exclude_none=True).items())
        return refusal(f"no live grant has {named}", 404)
    return JSONResponse({"revoked": revoked})


@router.post("/scopes", response_model=None)
async def change_scopes(here: Here, order: ScopesOrder) -> Response:
    """Narrow or widen a grant: refreshes answer with these scopes, and access tokens lose what is not among them."""
    if not here.grants.change_scope(order.grant_id, " ".join(order.scopes)):
        return refusal(f"no live grant has grant_id {order.grant_id}", 404)
    return JSONResponse({"grant_id": order.grant_id, "scopes": order.scopes})


@router.post("/mint", status_code=201, response_model=None)
async def mint_grants(here: Here, order: MintOrder) -> Response:
    """Open many grants without anybody's consent, all or none of them."""
    unknown = next((name for name in order.account_ids or () if here.accounts.get(name) is None), None)
    if unknown:
        return refusal(f"no account has the id {unknown}", 404)
    return JSONResponse(mint(here, order, time.time()), 201)
