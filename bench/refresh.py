"""`refresh.sweep`: ten thousand connections that are due, until each has another version of its credential."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
from pydantic import SecretStr

from activities.refresh_sweep import LANES
from bench import bare_refresh as bare
from bench.connections import GRANTS
from bench.result import Result
from bench.stage import Stage
from integrations import temporal
from integrations.db.credentials import Tokens
from integrations.domain.refresh import SweepRequest
from workflows.refresh_sweep import SCHEDULE

REQUIRED: Final = 0.6
DUE: Final = 10_000
TURNS: Final = 2
"""Of half as many each, for the product and its bound."""
_MINTED: Final = 2_500
WARM_UP: Final = 200
_LOOK: Final = 0.05
_BEFORE: Final = timedelta(minutes=1)
_CONNECTION: Final = (
    *("id", "provider_id", "scope_type", "scope_id", "status", "status_reason", "account_id", "grants"),
    *("missing_grants", "variables"),
)
_CREDENTIAL: Final = (
    *("connection_id", "provider_id", "version", "state", "key_id", "sealed", "grants", "variables", "refresh_at"),
)


@dataclass(frozen=True)
class Ground:
    stage: Stage
    database: "asyncpg.Connection[Any]"

    async def product(self, count: int) -> float:
        """Seconds from the start of a sweep until it says that nothing is due any more, and each has its version."""
        await self._add("public", await self._minted(count))
        start = time.perf_counter()
        handle = await temporal.start_sweep(self.stage.temporal, SweepRequest(provider_id="simulator", lanes=LANES))
        done = await handle.result()
        if done.refreshed != count:
            raise RuntimeError(f"of {count} due connections the sweep tells: {done.words}")
        return self._took(start, count)

    async def bound(self, count: int) -> float:
        grants = await self._minted(count)
        await self._add("bench", grants)
        told = self.stage.stack.environment
        client = told["SIMULATOR_CLIENT_ID"], told["SIMULATOR_CLIENT_SECRET"]
        start = time.perf_counter()
        await bare.refresh(
            self.stage.dsn,
            f"{self.stage.stack.simulator_url}/oauth/token",
            client,
            [(connection_id, grant["refresh_token"]) for connection_id, grant in grants.items()],
        )
        return self._took(start, count)

    def _took(self, start: float, count: int) -> float:
        took = time.perf_counter() - start
        self.stage.advance(count)
        return took

    async def _minted(self, count: int) -> dict[UUID, dict[str, str]]:
        """Grants that live at the provider, each with a connection's id to be."""
        grants: list[dict[str, str]] = []
        for size in [min(_MINTED, count - done) for done in range(0, count, _MINTED)]:
            answer = await self.stage.http.post(
                f"{self.stage.stack.simulator_url}/admin/grants/mint", json={"count": size}
            )
            grants += answer.raise_for_status().json()
        return {uuid4(): grant for grant in grants}

    async def _add(self, schema: str, grants: dict[UUID, dict[str, str]]) -> None:
        """Connections that hold them, due since a minute."""
        vault, due = self.stage.vault, datetime.now(UTC) - _BEFORE
        rows = [
            (each, "simulator", 1, "active", vault.key_id, _tokens(g).sealed(vault, each, 1), GRANTS, "{}", due)
            for each, g in grants.items()
        ]
        if schema == "public":
            await self.database.copy_records_to_table(
                "service_connections",
                columns=_CONNECTION,
                records=[
                    (each, "simulator", "org", "acme", "active", "connected", g["account_id"], GRANTS, [], "{}")
                    for each, g in grants.items()
                ],
            )
            await self.database.copy_records_to_table("service_credentials", columns=_CREDENTIAL, records=rows)
            return
        await self.database.copy_records_to_table(
            "service_credentials",
            schema_name=schema,
            columns=("id", *_CREDENTIAL),
            records=[(number, *row) for number, row in enumerate(rows, await self._next(len(rows)))],
        )

    async def _next(self, count: int) -> int:
        """The first of so many ids."""
        sql = "SELECT min(nextval('bench.credential_ids')) FROM generate_series(1, $1)"
        return int(await self.database.fetchval(sql, count))


def _tokens(grant: dict[str, str]) -> Tokens:
    return Tokens(access_token=SecretStr(grant["access_token"]), refresh_token=SecretStr(grant["refresh_token"]))


async def sweep(stage: Stage) -> Sequence[Result]:
    """The Schedule is paused meanwhile: the clock starts with the sweep."""
    await stage.temporal.get_schedule_handle(SCHEDULE).pause(note="bench")
    database = await asyncpg.connect(stage.dsn)
    await database.execute(bare.SCHEMA)
    ground, count = Ground(stage, database), round(DUE * stage.scale / TURNS)
    product, bound = 0.0, 0.0
    await ground.product(WARM_UP)
    await ground.bound(WARM_UP)
    for turn in range(TURNS):
        for side in ("product", "bound") if turn % 2 == 0 else ("bound", "product"):
            await asyncio.sleep(_LOOK)
            if side == "product":
                product += await ground.product(count)
            else:
                bound += await ground.bound(count)
    await database.close()
    return [
        Result(
            "refresh.sweep",
            count * TURNS,
            count * TURNS / product,
            "connections/s",
            count * TURNS,
            count * TURNS / bound,
            REQUIRED,
            "a plain loop with the same calls and rows: httpx, asyncpg, 36 calls at once, rows 50 at a time",
        )
    ]
