"""The admin API of the dialect: speak as another provider does, or as oneself again."""

import time

from fastapi import APIRouter

from simulator.admin import Here
from simulator.dialect import Dialect

router = APIRouter(prefix="/admin/dialect")


@router.get("")
async def read_dialect(here: Here) -> Dialect | None:
    return here.dialects.current


@router.put("")
async def speak(here: Here, dialect: Dialect) -> Dialect:
    here.dialects.speak(dialect, time.time())
    return dialect


@router.delete("")
async def speak_own(here: Here) -> None:
    here.dialects.speak(None, time.time())
