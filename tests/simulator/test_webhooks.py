"""Webhooks that the simulator sends, received by a socket of ours and by its own inbox."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.simulator.conftest import Simulator, serving, until, visiting

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


@dataclass
class Receiver:
    """Takes requests and answers each with the next status, and 200 when there is none."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[1:-1]:
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head)}
                body = await reader.readexactly(int(headers["content-length"]))
                self.at_once += 1
                self.most_at_once = max(self.at_once, self.most_at_once)
                self.requests.append((headers, body))
                await asyncio.sleep(0.005)
                self.at_once -= 1
                status = self.statuses.pop(0) if self.statuses else 200
                writer.write(f"HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n".encode())
        except asyncio.IncompleteReadError:
            writer.close()

    def bodies(self) -> list[dict[str, object]]:
        return [json.loads(body) for _, body in self.requests]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    yield receiver
    server.close()


@pytest.fixture
async def subscribed(simulator: Simulator, receiver: Receiver) -> AsyncIterator[Receiver]:
    answer = await simulator.http.put("/admin/webhooks/subscriptions", json={"url": receiver.url, "secret": SECRET})
    assert answer.status_code == 201, answer.text
    yield receiver
    await simulator.http.delete("/admin/webhooks/subscriptions")


async def send(simulator: Simulator, **order: object) -> dict[str, object]:
    answer = await simulator.http.post("/admin/webhooks/send", json=order)
    assert answer.status_code == 200, answer.text
    return answer.json()


def verified(request: tuple[dict[str, str], bytes]) -> None:
    Webhook(SECRET).verify(request[1], request[0])


class TestDeliveries:
    async def test_are_signed_and_tell_what_was_ordered(self, simulator: Simulator, subscribed: Receiver) -> None:
        told = await send(simulator, type="note.changed", data={"resource": "notes/1"}, count=2, senders=1)

        assert told["statuses"] == {"200": 2}
        for request in subscribed.requests:
            verified(request)
        assert [headers["webhook-id"] for headers, _ in subscribed.requests] == told["webhook_ids"]
        assert [body["data"] for body in subscribed.bodies()] == [
            {"resource": "notes/1", "number": 1},
            {"resource": "notes/1", "number": 2},
        ]
        assert {body["type"] for body in subscribed.bodies()} == {"note.changed"}

    async def test_are_sent_again_with_their_ids(self, simulator: Simulator, subscribed: Receiver) -> None:
        told = await send(simulator, count=2)
        await send(simulator, webhook_ids=told["webhook_ids"], copies=3, shuffled=True)

        sent = [headers["webhook-id"] for headers, _ in subscribed.requests]
        assert sorted(sent) == sorted(told["webhook_ids"] * 4)

    @pytest.mark.parametrize("how", ["tampered", "stale", "unsigned"])
    async def test_are_as_bad_as_was_ordered(self, simulator: Simulator, subscribed: Receiver, how: str) -> None:
        await send(simulator, how=how)

        headers, body = subscribed.requests[0]
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(body, headers)
        signed = Webhook(SECRET).sign(
            headers["webhook-id"], datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC), body.decode()
        )
        assert (headers.get("webhook-signature") == signed) is (how == "stale")

    async def test_are_on_their_way_together_and_never_more_than_was_said(
        self, simulator: Simulator, subscribed: Receiver
    ) -> None:
        await send(simulator, count=40, senders=4)

        assert len(subscribed.requests) == 40
        assert 1 < subscribed.most_at_once <= 4

    async def test_are_counted_by_type_with_what_was_answered(self, simulator: Simulator, subscribed: Receiver) -> None:
        subscribed.statuses = [503, 401]
        told = await send(simulator, type="counted.once", count=3, senders=1)

        view = (await simulator.http.get("/admin/webhooks")).json()
        assert told["statuses"] == {"200": 1, "401": 1, "503": 1}
        assert view["subscribers"] == [subscribed.url]
        assert view["sent"]["counted.once"] == {"deliveries": 3, "webhook_ids": 3, "statuses": told["statuses"]}

    async def test_to_which_nobody_answers_are_counted_too(self, simulator: Simulator) -> None:
        subscription = {"url": "http://127.0.0.1:9/nobody", "secret": SECRET}
        await simulator.http.put("/admin/webhooks/subscriptions", json=subscription)

        assert (await send(simulator, count=2))["statuses"] == {"none": 2}

        await simulator.http.delete("/admin/webhooks/subscriptions")

    async def test_are_dated_by_the_providers_own_clock(self, simulator: Simulator, subscribed: Receiver) -> None:
        await simulator.settings(clock_skew_s=-600)
        await send(simulator)

        told = datetime.fromtimestamp(int(subscribed.requests[0][0]["webhook-timestamp"]), UTC)
        assert abs(datetime.now(UTC) - timedelta(seconds=600) - told) < timedelta(seconds=5)


class TestSubscriptions:
    async def test_nothing_is_sent_to_nobody(self, simulator: Simulator) -> None:
        answer = await simulator.http.post("/admin/webhooks/send", json={})

        assert answer.status_code == 409
        assert "/admin/webhooks/subscriptions" in answer.json()["error"]

    @pytest.mark.parametrize("secret", ["whsec_", "whsec_!", "whsec_A"])
    async def test_a_secret_that_signs_nothing_is_refused_and_not_repeated(
        self, simulator: Simulator, secret: str
    ) -> None:
        order = {"url": "http://127.0.0.1:9/", "secret": secret}
        answer = await simulator.http.put("/admin/webhooks/subscriptions", json=order)

        assert answer.status_code == 422
        assert answer.json() == {"error": "secret: must be whsec_ and base64"}

    async def test_their_secret_is_one_that_proofs_look_for_and_no_list_shows(
        self, simulator: Simulator, subscribed: Receiver
    ) -> None:
        secrets = (await simulator.http.get("/admin/secrets")).json()["secrets"]

        assert {"kind": "webhook_secret", "value": SECRET} in secrets
        assert SECRET not in (await simulator.http.get("/admin/webhooks")).text

    async def test_another_secret_replaces_the_first(self, simulator: Simulator, subscribed: Receiver) -> None:
        other = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        await simulator.http.put("/admin/webhooks/subscriptions", json={"url": subscribed.url, "secret": other})
        await send(simulator)

        assert len(subscribed.requests) == 1
        Webhook(other).verify(subscribed.requests[0][1], subscribed.requests[0][0])

    async def test_survive_a_restart(self, tmp_path: Path, receiver: Receiver) -> None:
        data = tmp_path / "simulator.sqlite"
        with serving(data) as address:
            async with visiting(address) as simulator:
                order = {"url": receiver.url, "secret": SECRET}
                await simulator.http.put("/admin/webhooks/subscriptions", json=order)
        with serving(data) as address:
            async with visiting(address) as simulator:
                await send(simulator)
        verified(receiver.requests[0])


class TestARevocation:
    async def test_is_told_when_that_is_set(self, simulator: Simulator, subscribed: Receiver) -> None:
        await simulator.settings(tell_revocations=True)
        await simulator.connect(who="bob")
        grant_id = (await simulator.grants())[-1]["grant_id"]

        await simulator.http.post("/admin/grants/revoke", json={"grant_id": grant_id})

        async def arrived() -> bool:
            return bool(subscribed.requests)

        await until(arrived)
        verified(subscribed.requests[0])
        [body] = subscribed.bodies()
        assert (body["type"], body["data"]) == ("grant.revoked", {"account_id": "acct_bob", "grant_id": grant_id})

    async def test_is_told_when_a_person_presses_the_button(self, simulator: Simulator, subscribed: Receiver) -> None:
        await simulator.settings(tell_revocations=True)
        await simulator.connect()
        grant_id = str((await simulator.grants())[-1]["grant_id"])

        await simulator.http.post("/break/revoke", data={"grant_id": grant_id})

        async def arrived() -> bool:
            return bool(subscribed.requests)

        await until(arrived)
        assert subscribed.bodies()[0]["type"] == "grant.revoked"

    async def test_is_not_told_otherwise(self, simulator: Simulator, subscribed: Receiver) -> None:
        await simulator.connect()
        grant_id = (await simulator.grants())[-1]["grant_id"]

        await simulator.http.post("/admin/grants/revoke", json={"grant_id": grant_id})
        await send(simulator, type="after.it")

        assert [body["type"] for body in subscribed.bodies()] == ["after.it"]
