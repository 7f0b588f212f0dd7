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

    async def calls(self, after: datetime) -> list[dict[str, Any]]:
        """Whatever reached its API or its token endpoint, the oldest first."""
        rows: list[dict[str, Any]] = await self._get("/admin/requests", limit=10_000)
        return [row for row in rows if row["path"].startswith(("/api/", "/oauth/token")) and moment_of(row) > after]

    async def mint(self, count: int) -> list[dict[str, Any]]:
        """So many new accounts, each with a grant that lives: its tokens, its account's id and address."""
        answer = await self._http.post("/admin/grants/mint", json={"count": count})
        return list(answer.raise_for_status().json())

    async def revoke(self, account_id: str) -> int:
        answer = await self._http.post("/admin/grants/revoke", json={"account_id": account_id})
        return int(answer.raise_for_status().json()["revoked"])

    async def settings(self, **changes: Any) -> None:
        (await self._http.put("/admin/settings", json=changes)).raise_for_status()

    async def fault(self, **order: Any) -> str:
        """Its id."""
        answer = await self._http.post("/admin/faults", json=order)
        return str(answer.raise_for_status().json()["id"])

    async def mend(self, fault_id: str) -> None:
        (await self._http.delete(f"/admin/faults/{fault_id}")).raise_for_status()

    async def subscribe(self, url: str, secret: str) -> None:
        """Have it send its webhooks there."""
        answer = await self._http.put("/admin/webhooks/subscriptions", json={"url": url, "secret": secret})
        answer.raise_for_status()

    async def send(self, kind: str, **order: Any) -> dict[str, Any]:
        """Have it send webhooks: their ids, and how many were answered with which status."""
        answer = await self._http.post("/admin/webhooks/send", json={"type": kind, **order})
        return dict(answer.raise_for_status().json())

    async def sent(self, kind: str) -> dict[str, Any]:
        """What it sent of one type so far: deliveries, webhook_ids, and statuses of the answers."""
        found: dict[str, Any] = (await self._get("/admin/webhooks"))["sent"].get(kind, {})
        return {"deliveries": 0, "webhook_ids": 0, "statuses": {}} | found

    async def mails(self, to: str) -> list[dict[str, Any]]:
        """Those that it caught for a mailbox, whole, the oldest first."""
        caught = (await self._get("/admin/mail", to=to))["mails"]
        return [await self._get(f"/admin/mail/{mail['number']}") for mail in reversed(caught)]

    async def lose_mails(self) -> None:
        (await self._http.delete("/admin/mail")).raise_for_status()

    async def inboxes(self) -> dict[str, Any]:
        """What each has counted."""
        found: dict[str, Any] = await self._get("/admin/inbox")
        return found

    async def arrivals(self, inbox: str) -> list[dict[str, Any]]:
        """What was posted to an inbox, the oldest first."""
        found: list[dict[str, Any]] = await self._get(f"/admin/inbox/{inbox}/arrivals", limit=1000)
        return found

    async def secrets(self) -> list[str]:
        """Every token, code, verifier, state and secret that it ever issued or saw."""
        return [entry["value"] for entry in (await self._get("/admin/secrets"))["secrets"]]

    async def _get(self, where: str, /, **query: Any) -> Any:
        return (await self._http.get(where, params=query)).raise_for_status().json()


def moment_of(row: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(row["at"])
