"""The bound of `refresh.sweep`: a plain loop over httpx and asyncpg, with the same calls and the same rows.

Tokens are in memory and are stored as they came: no encryption. Fifty at a time are claimed and marked in one
statement, called beside each other, and stored in another one. Nothing is looked at again after the claim, nobody's
connection is locked, and what is on its way when it ends is lost.
"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import httpx

SCHEMA: Final = """
CREATE SCHEMA IF NOT EXISTS bench;
CREATE TABLE IF NOT EXISTS bench.service_credentials (
  LIKE public.service_credentials INCLUDING ALL EXCLUDING IDENTITY
);
CREATE SEQUENCE IF NOT EXISTS bench.credential_ids;
CREATE TABLE IF NOT EXISTS bench.service_refresh_leases (LIKE public.service_refresh_leases INCLUDING ALL);
"""
LANES: Final = 3
CHUNK: Final = 50
WIDTH: Final = 12
"""Calls of one lane at once, as the product has them."""
_CLAIM: Final = """
INSERT INTO bench.service_refresh_leases AS lease (connection_id, token, until, sent_version, sent_at)
SELECT connection_id, 1, now() + interval '30 s', 1, now() FROM unnest($1::uuid[]) AS due (connection_id)
ON CONFLICT (connection_id) DO UPDATE SET token = lease.token + 1, until = excluded.until,
  sent_version = excluded.sent_version, sent_at = excluded.sent_at
"""
_STORE: Final = """
WITH ours AS (
  SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::timestamptz[], $4::timestamptz[])
    AS ours (connection_id, sealed, expires_at, refresh_at)
), released AS (
  UPDATE bench.service_refresh_leases AS lease SET until = now(), sent_version = NULL, sent_at = NULL
  FROM ours WHERE lease.connection_id = ours.connection_id
), retired AS (
  UPDATE bench.service_credentials AS kept SET state = 'retired', retired_at = now()
  FROM ours WHERE kept.connection_id = ours.connection_id AND kept.state = 'active'
  RETURNING kept.connection_id, kept.provider_id, kept.version, kept.key_id, kept.grants, kept.variables
)
INSERT INTO bench.service_credentials (id, connection_id, provider_id, version, state, key_id, sealed, grants,
                                       variables, expires_at, refresh_at, activated_at)
SELECT nextval('bench.credential_ids'), connection_id, provider_id, version + 1, 'active', key_id, sealed, grants,
       variables, expires_at, refresh_at, now()
FROM ours JOIN retired USING (connection_id)
"""

Due = tuple[UUID, str]
"""A connection, and its refresh token."""


class Bare:
    def __init__(self, pool: "asyncpg.Pool[Any]", http: httpx.AsyncClient, url: str, client: tuple[str, str]) -> None:
        self._pool = pool
        self._http = http
        self._url = url
        self._client = client

    async def refresh(self, due: Sequence[Due]) -> None:
        chunks = iter([due[start : start + CHUNK] for start in range(0, len(due), CHUNK)])
        async with asyncio.TaskGroup() as group:
            for _ in range(LANES):
                group.create_task(self._lane(chunks))

    async def _lane(self, chunks: Iterator[Sequence[Due]]) -> None:
        for chunk in chunks:
            await self._pool.execute(_CLAIM, [connection_id for connection_id, _ in chunk])
            left, answers = iter(chunk), list[tuple[UUID, bytes, datetime]]()
            async with asyncio.TaskGroup() as group:
                for _ in range(WIDTH):
                    group.create_task(self._calls(left, answers))
            ids, tokens, expire = zip(*answers, strict=True)
            await self._pool.execute(
                _STORE, list(ids), list(tokens), list(expire), [each - timedelta(minutes=15) for each in expire]
            )

    async def _calls(self, left: Iterator[Due], answers: list[tuple[UUID, bytes, datetime]]) -> None:
        client_id, secret = self._client
        for connection_id, token in left:
            form = {"grant_type": "refresh_token", "refresh_token": token}
            form |= {"client_id": client_id, "client_secret": secret}
            answer = await self._http.post(self._url, data=form)
            answer.raise_for_status()
            got = answer.json()
            expires = datetime.now(UTC) + timedelta(seconds=got["expires_in"])
            answers.append((connection_id, f"{got['access_token']}\n{got['refresh_token']}".encode(), expires))


async def refresh(dsn: str, url: str, client: tuple[str, str], due: Sequence[Due]) -> None:
    """Until each has its second version."""
    pool, http = asyncpg.create_pool(dsn, min_size=LANES, max_size=LANES), httpx.AsyncClient(trust_env=False)
    async with pool, http:
        await Bare(pool, http, url, client).refresh(due)
