"""The admin API of the inbox: what arrived, and what became of each key."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from simulator.admin import Here

router = APIRouter(prefix="/admin/inbox")


@router.get("")
async def read_counts(here: Here) -> dict[str, Any]:
    return here.inbox.view()


@router.get("/{name}/arrivals")
async def read_arrivals(
    here: Here, name: str, key: str | None = None, limit: Annotated[int, Query(ge=1, le=20_000)] = 100
) -> list[dict[str, Any]]:
    return here.inbox.newest(name, key, limit)


@router.delete("")
async def empty_inbox(here: Here) -> dict[str, int]:
    return {"forgotten": here.inbox.empty()}
