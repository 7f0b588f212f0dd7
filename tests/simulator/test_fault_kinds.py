"""Each kind of fault, seen by a client; status, hang and drop are in test_faults.py."""

import asyncio
import json
from contextlib import suppress
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx
import pytest

from simulator.fault_kinds import KINDS
from tests.simulator.conftest import Simulator, bearer, until


async def spoken_raw(address: str, path: str) -> bytes:
    """Everything that arrives on a socket of our own until the other side ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(address).port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: simulator\r\n\r\n".encode())
    try:
        return await reader.read()
    finally:
        writer.close()


async def dripped(simulator: Simulator, path: str, headers: dict[str, str], seconds: float) -> bytes:
    """What arrives of a body before a client's own deadline."""
    arrived = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), simulator.http.stream("GET", path, headers=headers) as answer:
            async for part in answer.aiter_raw():
                arrived += part
    return arrived


class TestThrottle:
    async def test_says_when_to_come_back(self, simulator: Simulator) -> None:
        await simulator.fault(kind="throttle")

        answer = await simulator.http.get("/api/me")

        assert (answer.status_code, answer.json()) == (429, {"error": "too_many_requests"})
        assert answer.headers["retry-after"] == "30"

    async def test_says_it_as_a_date_of_the_moment_of_the_answer(self, simulator: Simulator) -> None:
        await simulator.fault(kind="throttle", retry_after=90, retry_after_as="date", body={"error": "slow_down"})

        answer = await simulator.http.get("/api/me")

        until_then = parsedate_to_datetime(answer.headers["retry-after"]) - parsedate_to_datetime(
            answer.headers["date"]
        )
        assert 89 <= until_then.total_seconds() <= 91
        assert answer.json() == {"error": "slow_down"}

    async def test_may_keep_it_to_itself(self, simulator: Simulator) -> None:
        await simulator.fault(kind="throttle", retry_after=None)

        assert "retry-after" not in (await simulator.http.get("/api/me")).headers


class TestHtml:
    @pytest.mark.parametrize(
        ("order", "status", "title"),
        [({}, 502, "502 Bad Gateway"), ({"status": 200}, 200, "200 OK"), ({"status": 599}, 599, "599")],
    )
    async def test_is_a_proxys_page(self, simulator: Simulator, order: dict[str, int], status: int, title: str) -> None:
        token = await simulator.connect()
        await simulator.fault(kind="html", path="/oauth/token", count=1, **order)

        answer = await simulator.refresh(token["refresh_token"])

        assert answer.status_code == status
        assert answer.headers["content-type"].startswith("text/html")
        assert f"<title>{title}</title>" in answer.text
        assert (await simulator.refresh(token["refresh_token"])).status_code == 200
        assert (await simulator.last("/oauth/token"))["detail"]["refresh"] == "rotated", "nothing was handled before"


class TestEmpty:
    @pytest.mark.parametrize(("order", "status"), [({}, 200), ({"status": 204}, 204), ({"status": 500}, 500)])
    async def test_is_a_status_without_a_body(self, simulator: Simulator, order: dict[str, int], status: int) -> None:
        await simulator.fault(kind="empty", **order)

        answer = await simulator.http.get("/api/me")

        assert (answer.status_code, answer.content) == (status, b"")
        assert "content-type" not in answer.headers


class TestReset:
    async def test_tears_the_connection_down_and_handles_nothing(self, simulator: Simulator, address: str) -> None:
        token = await simulator.connect()
        await simulator.fault(kind="reset", count=2)

        with pytest.raises(ConnectionResetError):
            await spoken_raw(address, "/api/me")
        with pytest.raises(httpx.ReadError):
            await simulator.refresh(token["refresh_token"])
        broken = await simulator.last("/oauth/token")

        assert (broken["status"], broken["detail"]["fault"]) == (None, "reset")
        assert (await simulator.refresh(token["refresh_token"])).status_code == 200
        assert (await simulator.last("/oauth/token"))["detail"]["refresh"] == "rotated"

    async def test_is_another_end_than_that_of_a_dropped_answer(self, simulator: Simulator, address: str) -> None:
        await simulator.fault(kind="drop")

        assert await spoken_raw(address, "/api/me") == b""


class TestDrip:
    async def test_is_ended_by_the_client_s_deadline_alone(self, simulator: Simulator) -> None:
        token = await simulator.connect()
        whole = await simulator.me(token["access_token"])
        await simulator.fault(kind="drip", path="/api/me", bytes_per_s=50)

        arrived = await dripped(simulator, "/api/me", bearer(token["access_token"]), seconds=0.4)

        assert 2 <= len(arrived) < len(whole.content)
        assert whole.content.startswith(arrived)

        async def let_go() -> bool:
            return (await simulator.faults())[0]["holding"] == 0

        await until(let_go)

    async def test_sends_everything_to_who_waits(self, simulator: Simulator) -> None:
        token = await simulator.connect()
        whole = await simulator.me(token["access_token"])
        await simulator.fault(kind="drip", path="/api/me", bytes_per_s=1000, count=1)

        patient = await simulator.me(token["access_token"])
        again = await simulator.me(token["access_token"])

        assert patient.content == whole.content
        assert patient.headers["content-length"] == whole.headers["content-length"]
        assert again.status_code == 200

    async def test_handles_the_request_and_is_cut_when_lifted(self, simulator: Simulator) -> None:
        token = await simulator.connect()
        fault_id = await simulator.fault(kind="drip", path="/oauth/token", count=1)
        waiting = asyncio.create_task(simulator.refresh(token["refresh_token"]))

        async def dripping() -> bool:
            return any(fault["holding"] for fault in await simulator.faults())

        await until(dripping)
        await simulator.http.delete(f"/admin/faults/{fault_id}")

        with pytest.raises(httpx.RemoteProtocolError):
            await waiting
        logged = await simulator.last("/oauth/token")
        assert (logged["status"], logged["detail"]["fault"], logged["detail"]["refresh"]) == (200, "drip", "rotated")


class TestTruncated:
    async def test_ends_in_the_middle_below_the_promised_length(self, simulator: Simulator) -> None:
        token = await simulator.connect()
        await simulator.fault(kind="truncated", path="/oauth/token", count=1)

        with pytest.raises(httpx.RemoteProtocolError, match=r"received \d+ bytes, expected \d+"):
            await simulator.refresh(token["refresh_token"])
        logged = await simulator.last("/oauth/token")

        assert (logged["status"], logged["detail"]["fault"], logged["detail"]["refresh"]) == (
            *(200, "truncated", "rotated"),
        )

    async def test_sends_half_of_the_body_under_the_real_headers(self, simulator: Simulator, address: str) -> None:
        whole = (await simulator.http.get("/api/me")).content
        await simulator.fault(kind="truncated")

        headers, _, half = (await spoken_raw(address, "/api/me")).partition(b"\r\n\r\n")

        assert headers.startswith(b"HTTP/1.1 401")
        assert f"content-length: {len(whole)}".encode() in headers
        assert half == whole[: len(whole) // 2]

    async def test_may_be_complete_http_with_half_of_the_json(self, simulator: Simulator) -> None:
        token = await simulator.connect()
        await simulator.fault(kind="truncated", path="/oauth/token", count=1, cut="body")

        answer = await simulator.refresh(token["refresh_token"])

        assert answer.status_code == 200
        assert answer.headers["content-length"] == str(len(answer.content))
        with pytest.raises(json.JSONDecodeError):
            answer.json()


class TestScope:
    async def broken(self, simulator: Simulator, token: dict[str, str], path: str = "/api/me") -> bool:
        """Is this call anything but answered well, and in time?"""
        try:
            async with asyncio.timeout(0.5):
                answer = await simulator.http.get(path, headers=bearer(token["access_token"]))
        except (TimeoutError, httpx.TransportError):
            return True
        return answer.status_code != 200 or not answer.content.startswith(b"{")

    @pytest.mark.parametrize("kind", KINDS)
    async def test_every_kind_is_for_one_account_and_a_number_of_requests(
        self, simulator: Simulator, kind: str
    ) -> None:
        ada, bob = await simulator.connect(), await simulator.connect(who="bob")
        await simulator.fault(kind=kind, path="/api/me", account_id="acct_ada", count=1)

        assert not await self.broken(simulator, ada, "/api/notes")
        assert not await self.broken(simulator, bob)
        assert await self.broken(simulator, ada)
        assert not await self.broken(simulator, ada)

    async def test_several_accounts_and_several_endpoints(self, simulator: Simulator) -> None:
        ada, bob = await simulator.connect(), await simulator.connect(who="bob")
        await simulator.fault(kind="status", account_id=["acct_bob", "acct_x"], path=["/oauth", "/api/notes"])

        assert [await self.broken(simulator, who, "/api/notes") for who in (ada, bob)] == [False, True]
        assert not await self.broken(simulator, bob)
        assert (await simulator.refresh(bob["refresh_token"])).status_code == 503
