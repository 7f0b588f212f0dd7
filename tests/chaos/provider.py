"""The provider: it holds a request still at an exact place, and tells what it saw."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx

from starters.demo.simulator import Simulator
from tests.chaos.waiting import until

SLOW: Final = 50
"""Bytes a second: a token's answer, some 300 bytes, takes 6 s. The call itself gives up after 8."""


class Provider(Simulator):
    async def lift(self) -> None:
        """End every fault; requests that hang on one are cut."""
        (await self._http.delete("/admin/faults")).raise_for_status()

    @asynccontextmanager
    async def holding(self, *paths: str) -> AsyncIterator[None]:
        """Let requests to some paths hang, and handle nothing of them; cut them at the end."""
        await self.fault(kind="hang", path=list(paths))
        try:
            yield
        finally:
            await self.lift()

    @asynccontextmanager
    async def answering_slowly(self) -> AsyncIterator[None]:
        """Handle a code at once and answer byte by byte: it is used up there, and that is not yet known here."""
        await self.fault(kind="drip", path="/oauth/token", bytes_per_s=SLOW, count=1)
        try:
            yield
        finally:
            await self.lift()

    async def holds_a_request(self) -> None:
        async def probe() -> bool:
            return any(fault["holding"] for fault in await self._get("/admin/faults"))

        await until("a request hangs at the provider", probe)

    async def has_used(self, code: int) -> None:
        """A code is used up, the nth that it saw."""

        async def probe() -> bool:
            seen = await self.codes()
            return len(seen) > code and seen[code]["status"] == httpx.codes.OK

        await until("the provider used the code up", probe)

    async def codes(self) -> list[dict[str, Any]]:
        """Every request that brought a code, answered or not, as it was logged."""
        asked = await self.requests("/oauth/token")
        return [row for row in asked if row["detail"].get("grant_type") == "authorization_code"]
