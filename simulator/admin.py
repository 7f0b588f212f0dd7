"""The admin API: accounts, settings, the request log, secrets and faults; grants are in admin_grants.py.

It asks for no password and must not: it is a tool on loopback, and whoever reaches it may break and read everything.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from simulator.fault_order import FaultOrder
from simulator.problems import refusal
from simulator.provider import Provider, provider_of
from simulator.settings import Settings

Here = Annotated[Provider, Depends(provider_of)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]

router = APIRouter()


class NewAccount(BaseModel):
    model_config = ConfigDict(extra="forbid")

    email: Annotated[Text, Field(pattern=r"^[^@\s]+@[^@\s]+$")]
    name: Text
    password: Text


@router.get("/healthz")
async def healthz() -> dict[str, bool]:
    return {"ok": True}


@router.post("/admin/accounts", status_code=201, response_model=None)
async def add_account(here: Here, new: NewAccount) -> Response:
    account = here.accounts.add(new.email, new.name, new.password)
    if account is None:
        return refusal(f"email: {new.email} has an account already", 409)
    return JSONResponse({"id": account.account_id, "email": account.email, "name": account.name}, 201)


@router.get("/admin/settings")
async def read_settings(here: Here) -> Settings:
    return here.settings.current


@router.put("/admin/settings")
async def change_settings(here: Here, changes: Annotated[dict[str, Any], Body()]) -> Settings:
    try:
        return here.settings.change(changes)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


@router.get("/admin/requests")
async def read_requests(
    here: Here,
    since_seq: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
    path: str = "",
    limit: Annotated[int, Query(ge=1, le=200_000)] = 1_000,
) -> Response:
    return JSONResponse(here.log.read(since_seq=since_seq, path=path, limit=limit))


@router.get("/admin/secrets")
async def read_secrets(here: Here) -> Response:
    return JSONResponse({"secrets": here.sightings.everything()})


@router.get("/admin/faults")
async def list_faults(here: Here) -> list[dict[str, Any]]:
    return [fault.view() for fault in here.faults.listed()]


@router.post("/admin/faults", status_code=201)
async def add_fault(here: Here, order: FaultOrder) -> dict[str, Any]:
    return here.faults.add(order).view()


@router.post("/admin/faults/script", status_code=201)
async def add_script(here: Here, orders: Annotated[list[FaultOrder], Body(min_length=1)]) -> list[dict[str, Any]]:
    return [fault.view() for fault in here.faults.script(orders)]


@router.delete("/admin/faults")
async def lift_all_faults(here: Here) -> dict[str, int]:
    return {"lifted": here.faults.lift_all()}


@router.delete("/admin/faults/{fault_id}", response_model=None)
async def lift_fault(here: Here, fault_id: str) -> Response:
    if not here.faults.lift(fault_id):
        return refusal(f"no fault has the id {fault_id}", 404)
    return JSONResponse({"lifted": 1})
