import asyncio
import itertools
import time
from datetime import datetime

import pytest

from simulator.fault_order import FaultOrder
from simulator.faults import Faults
from tests.simulator.conftest import Simulator, until


async def script(simulator: Simulator, *orders: dict[str, object]) -> list[dict[str, object]]:
    answer = await simulator.http.post("/admin/faults/script", json=orders)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def status(simulator: Simulator) -> int:
    return (await simulator.http.get("/api/me")).status_code


class TestScript:
    async def test_plays_one_fault_after_the_other_and_then_heals(self, simulator: Simulator) -> None:
        await script(
            simulator,
            {"kind": "status", "status": 503, "seconds": 1.5},
            # Ended by a count: a window of a second can pass between two looks of a busy machine.
            {"kind": "throttle", "after_s": 1.5, "count": 1},
        )
        seen: dict[int, None] = {}

        async def healthy() -> bool:
            seen[await status(simulator)] = None
            return 401 in seen

        await until(healthy, seconds=20)

        assert list(seen) == [503, 429, 401]
        assert await simulator.faults() == []

    @pytest.mark.parametrize("off", [-1e-4, -1e-9, 0, 1e-9, 1e-4])
    def test_one_fault_begins_as_another_ends(self, off: float, monkeypatch: pytest.MonkeyPatch) -> None:
        ticks = itertools.count(100.0, 1e-5)  # Each look at the clock takes time, as it does.
        monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
        faults = Faults()
        faults.script([FaultOrder(kind="hang", seconds=7), FaultOrder(kind="reset", after_s=7)])

        monkeypatch.setattr(time, "monotonic", lambda: 107.0 + off)

        assert len(faults.live(FaultOrder)) == 1

    async def test_lists_what_waits_with_its_start(self, simulator: Simulator) -> None:
        before = time.time()

        first, second = await script(simulator, {"kind": "hang"}, {"kind": "status", "after_s": 60, "seconds": 10})

        assert (first["waiting"], second["waiting"]) == (False, True)
        assert before + 59.9 < datetime.fromisoformat(str(second["starts_at"])).timestamp() < time.time() + 60.1
        assert second["seconds_left"] == 10
        assert [fault["id"] for fault in await simulator.faults()] == [first["id"], second["id"]]

    async def test_what_waits_breaks_nothing_and_can_be_lifted(self, simulator: Simulator) -> None:
        (fault,) = await script(simulator, {"kind": "status", "after_s": 0.3})
        waiting = await status(simulator)

        lifted = await simulator.http.delete(f"/admin/faults/{fault['id']}")
        await asyncio.sleep(0.31)

        assert waiting == 401
        assert lifted.json() == {"lifted": 1}
        assert await status(simulator) == 401

    @pytest.mark.parametrize(
        ("orders", "named"),
        [
            ([{"kind": "status"}, {"kind": "explode"}], "1.kind: "),
            ([{"kind": "status"}, {"kind": "hang", "after_s": -1}], "1.after_s: "),
            ([], "body: "),
            ({"kind": "status"}, "body: "),
        ],
    )
    async def test_is_taken_whole_or_not_at_all(self, simulator: Simulator, orders: object, named: str) -> None:
        answer = await simulator.http.post("/admin/faults/script", json=orders)

        assert answer.status_code == 422
        assert answer.json()["error"].startswith(named)
        assert await simulator.faults() == []
