"""The other side: what the simulator saw and holds, asked through its admin API."""

from datetime import datetime
from typing import Any

import httpx


class Simulator:
    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, trust_env=False, timeout=20.0)

    async def close(self) -> None:
        await self._http.aclose()

    async def requests(
        self, path: str, *, after: datetime | None = None, method: str | None = None
    ) -> list[dict[str, Any]]:
        """The logged requests to a path, oldest first."""
        rows: list[dict[str, Any]] = await self._get("/admin/requests", path=path, limit=1000)
        return [
            row
            for row in rows
            if (method is None or row["method"] == method) and (after is None or moment_of(row) > after)
        ]

    async def revoke(self, account_id: str) -> int:
        answer = await self._http.post("/admin/grants/revoke", json={"account_id": account_id})
        return int(answer.raise_for_status().json()["revoked"])

    async def settings(self, **changes: Any) -> None:
        (await self._http.put("/admin/settings", json=changes)).raise_for_status()

    async def fault(self, **order: Any) -> None:
        (await self._http.post("/admin/faults", json=order)).raise_for_status()

    async def secrets(self) -> list[str]:
        """Every token, code, verifier, state and secret that it ever issued or saw."""
        return [entry["value"] for entry in (await self._get("/admin/secrets"))["secrets"]]

    async def _get(self, where: str, /, **query: Any) -> Any:
        return (await self._http.get(where, params=query)).raise_for_status().json()


def moment_of(row: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(row["at"])
