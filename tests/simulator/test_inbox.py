"""What other systems post to the simulator: counted by key, kept for a while, and refused on order."""

import asyncio
from typing import Any

import httpx
import pytest

from simulator.fault_choice import FaultChoice
from simulator.fault_order import FaultOrder
from simulator.faults import Faults
from simulator.identity import Identity
from simulator.inbox import BODY_KEPT, KEPT, Inbox
from tests.simulator.conftest import Simulator

ALWAYS = {"kind": "status", "path": "/inbox", "share_of": "keys", "share": 0.01}
FIRST = {"kind": "status", "path": "/inbox", "share_of": "keys", "share": 0.1, "per_key": 1}


async def post(simulator: Simulator, key: str | None = None, name: str = "pager", body: bytes = b"{}") -> int | None:
    """What it is answered; None when nothing is."""
    headers = {} if key is None else {"Idempotency-Key": key}
    try:
        return (await simulator.http.post(f"/inbox/{name}", content=body, headers=headers)).status_code
    except httpx.TransportError:
        return None


async def counts(simulator: Simulator, name: str = "pager") -> dict[str, Any]:
    return (await simulator.http.get("/admin/inbox")).json()[name]


async def arrivals(simulator: Simulator, name: str = "pager", **query: str | int) -> list[dict[str, Any]]:
    return (await simulator.http.get(f"/admin/inbox/{name}/arrivals", params=query)).json()


class TestArrivals:
    async def test_are_kept_with_what_tells_them_apart(self, simulator: Simulator) -> None:
        headers = {"webhook-id": "msg_1", "Idempotency-Key": "key-1", "Content-Type": "application/json"}

        answer = await simulator.http.post("/inbox/pager", content=b'{"text": "down"}', headers=headers)

        (kept,) = await arrivals(simulator)
        assert answer.status_code == 202
        assert kept.pop("at").endswith("Z")
        assert kept == {
            "idempotency_key": "key-1",
            "webhook_id": "msg_1",
            "content_type": "application/json",
            "size": 16,
            "body": '{"text": "down"}',
            "accepted": True,
            "status": 202,
        }

    async def test_of_a_big_body_keep_its_beginning(self, simulator: Simulator) -> None:
        await post(simulator, body=b"\xff" + b"x" * BODY_KEPT)

        (kept,) = await arrivals(simulator)

        assert kept["size"] == BODY_KEPT + 1
        assert kept["body"] == "\N{REPLACEMENT CHARACTER}" + "x" * (BODY_KEPT - 1)

    async def test_are_read_newest_last_by_name_and_by_key(self, simulator: Simulator) -> None:
        for key in ("a", "b", "a", "c"):
            await post(simulator, key)
        await post(simulator, "a", name="chat")

        assert [each["idempotency_key"] for each in await arrivals(simulator, limit=2)] == ["a", "c"]
        assert len(await arrivals(simulator, key="a")) == 2
        assert len(await arrivals(simulator, "chat")) == 1
        assert await arrivals(simulator, "nobody") == []

    async def test_come_by_post_to_a_name(self, simulator: Simulator) -> None:
        got = await simulator.http.get("/inbox/pager")
        nameless, deeper = await simulator.http.post("/inbox/"), await simulator.http.post("/inbox/a/b")

        assert [answer.status_code for answer in (got, nameless, deeper)] == [404, 404, 404]
        assert (await simulator.http.get("/admin/inbox")).json() == {}

    def test_are_kept_in_bounds_and_counted_without(self) -> None:
        inbox = Inbox()
        for number in range(KEPT + 5):
            inbox.arrives("pager", {b"idempotency-key": str(number).encode()}, b"")

        kept = inbox.newest("pager", None, KEPT * 2)

        assert (len(kept), kept[0]["idempotency_key"]) == (KEPT, "5")
        assert inbox.view()["pager"]["keys"] == KEPT + 5


class TestCounts:
    async def test_tell_repeats_from_news(self, simulator: Simulator) -> None:
        for key in ("a", "b", "b", "b", None):
            await post(simulator, key)

        assert await counts(simulator) == {
            "arrivals": 5,
            "accepted": 5,
            "keys": 2,
            "accepted_keys": 2,
            "accepted_twice": 1,
            "after_acceptance": 2,
            "attempts": {"1": 1, "3": 1},
        }

    async def test_hold_what_a_fault_refused_swallowed_or_tore_away(self, simulator: Simulator) -> None:
        for order in ({"kind": "status", "status": 429}, {"kind": "hang", "seconds_hold": 0.02}, {"kind": "reset"}):
            await simulator.fault(path="/inbox/pager", count=1, **order)

        answers = [await post(simulator, "a") for _ in range(4)]

        assert answers == [429, None, None, 202]
        assert [(each["status"], each["accepted"]) for each in await arrivals(simulator)] == [
            *((429, False), (None, False), (None, False), (202, True)),
        ]
        told = await counts(simulator)
        assert told["attempts"] == {"4": 1}
        assert (told["accepted_twice"], told["after_acceptance"]) == (0, 0)

    async def test_know_what_was_accepted_although_its_sender_does_not(self, simulator: Simulator) -> None:
        await simulator.fault(kind="drop", path="/inbox", count=1)

        answers = [await post(simulator, "a"), await post(simulator, "a")]

        assert answers == [None, 202]
        assert [(each["status"], each["accepted"]) for each in await arrivals(simulator)] == [(None, True), (202, True)]
        assert (await counts(simulator))["accepted_twice"] == 1

    async def test_begin_anew_when_the_inbox_is_emptied(self, simulator: Simulator) -> None:
        await post(simulator, "a")

        emptied = await simulator.http.delete("/admin/inbox")

        assert emptied.json() == {"forgotten": 1}
        assert await arrivals(simulator) == []
        await post(simulator, "a")
        assert (await counts(simulator))["after_acceptance"] == 0


class TestSharesOfKeys:
    async def test_break_exactly_so_many_keys_again_and_again(self, simulator: Simulator) -> None:
        """In any hundred keys one is refused for good, and ten are the first time, whatever came before."""
        await simulator.fault(**ALWAYS)
        await simulator.fault(**FIRST)
        for key in range(37):
            await post(simulator, f"before {key}", name="other")

        first = await asyncio.gather(*(post(simulator, f"key {number}") for number in range(200)))
        again = [await post(simulator, f"key {number}") for number, status in enumerate(first) if status == 503]
        third = [await post(simulator, f"key {number}") for number, status in enumerate(first) if status == 503]

        assert (first.count(503), first.count(202)) == (20, 180)
        assert (again.count(503), again.count(202)) == (2, 18)
        assert third == again
        assert (await counts(simulator))["accepted_keys"] == 198

    @pytest.mark.parametrize("share", [0.29, 0.57, 1.0])
    def test_are_exact_in_spite_of_binary_fractions(self, share: float) -> None:
        faults = Faults()
        faults.add(FaultOrder(**ALWAYS | {"share": share}))
        choice = FaultChoice(faults)

        hits = [choice.take(choice.candidates("/inbox/x", "POST"), Identity(), str(key)) for key in range(100)]

        assert sum(hit is not None for hit in hits) == round(share * 100)

    async def test_spare_what_has_no_key(self, simulator: Simulator) -> None:
        await simulator.fault(kind="status", share_of="keys")
        await simulator.fault(kind="status", per_key=1)

        assert await post(simulator) == 202

    async def test_are_one_thing_and_how_often_a_key_is_broken_another(self, simulator: Simulator) -> None:
        await simulator.fault(kind="status", path="/inbox", per_key=2)

        assert [await post(simulator, key) for key in ("a", "a", "b", "a", "b", "b")] == [503, 503, 503, 202, 503, 202]
