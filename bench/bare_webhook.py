"""The bound of `webhook`: the least that verifies an HMAC and inserts the row, by Starlette and asyncpg.

`python -m bench.bare_webhook PORT`. Served as the product is, over tables of the same shape. One secret, known from the
start; one statement, and one more that counts a duplicate; no bound for a body, no other scheme, nobody is woken up.
"""

import asyncio
import hmac
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

import asyncpg
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from web.wiring import served

SECRET: Final = b"the bench's secret"
HOST: Final = "127.0.0.1"
_TABLE: Final = "bench.service_webhook_deliveries"
SCHEMA: Final = f"""
CREATE SCHEMA IF NOT EXISTS bench;
CREATE TABLE IF NOT EXISTS {_TABLE} (LIKE public.service_webhook_deliveries INCLUDING ALL);
CREATE TABLE IF NOT EXISTS bench.service_webhook_repeats (LIKE public.service_webhook_repeats INCLUDING ALL);
"""
_INSERT: Final = f"""
INSERT INTO {_TABLE} (id, provider_id, channel, delivery_id, identity, event, reaction, headers, body, part)
VALUES ($1, $2, $3, $4, 'id', $5, 'event', $6, $7, $8) ON CONFLICT (provider_id, channel, delivery_id) DO NOTHING
RETURNING true
"""  # noqa: S608 - ours
_REPEATED: Final = """
INSERT INTO bench.service_webhook_repeats (provider_id, channel, delivery_id) VALUES ($1, $2, $3)
"""


async def take(request: Request) -> JSONResponse:
    body = await request.body()
    expected = "sha256=" + hmac.digest(SECRET, body, "sha256").hex()
    if not hmac.compare_digest(request.headers.get("x-hub-signature-256", "").encode(), expected.encode()):
        return JSONResponse({"status": "rejected"}, 401)
    event = request.headers["x-github-event"]
    key = (*request.path_params.values(), request.headers["x-github-delivery"])
    # The product's ids are in the order of time too: one end of an index is cheaper than all of it.
    row_id = UUID(int=(time.time_ns() // 1_000_000) << 80 | 7 << 76 | 2 << 62 | secrets.randbits(62))
    async with request.app.state.pool.acquire() as connection:
        fresh = await connection.fetchval(
            _INSERT,
            row_id,
            *key,
            event,
            json.dumps(dict(request.headers)),
            body,
            row_id.int % 16,
        )
        if not fresh:
            await connection.execute(_REPEATED, *key)
    return JSONResponse({"status": "accepted" if fresh else "duplicate"})


@asynccontextmanager
async def _pool(app: Starlette) -> AsyncIterator[None]:
    async def nothing(_: object) -> None:
        """As the product has it: no second round trip."""

    dsn = os.environ["BENCH_DSN"]
    async with asyncpg.create_pool(dsn, min_size=0, max_size=10, reset=nothing) as pool:
        await pool.execute(SCHEMA)
        app.state.pool = pool
        yield


def main() -> None:
    app = Starlette(routes=[Route("/webhooks/{provider_id}/{channel}", take, methods=["POST"])], lifespan=_pool)
    asyncio.run(uvicorn.Server(served(app, HOST, int(sys.argv[1]))).serve())


if __name__ == "__main__":
    main()
