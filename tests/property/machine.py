"""Transitions, refreshes, revocations, callbacks and operator commands in any order.

hypothesis is synchronous and has a thread of its own; each rule is a coroutine on the loop in which everything else
lives, and ends when the system has come to rest.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial, wraps
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule

from tests.property.operators import Events, Orders, Refreshes
from tests.property.owners import Callbacks, Consents
from tests.property.person import Subject
from tests.property.scene import OUTAGES, Scene
from tests.property.world import World

_A_RULE = 90.0
P = ParamSpec("P")
R = TypeVar("R")

Act = Callable[[Scene, Subject], Awaitable[object]]

ACTS: dict[str, Act] = (
    {f"a consent comes {how}": partial(Scene.consents, how=how) for how in Consents}
    | {f"a callback comes {how}": partial(Scene.comes_back, how=how) for how in Callbacks}
    | {f"a refresh {how}": partial(Scene.refresh, how=how) for how in Refreshes}
    | {str(event): partial(Scene.at_the_provider, event=event) for event in Events}
    | {f"{event}, and a refresh notices": partial(Scene.is_noticed, event=event) for event in Events}
    | {f"an operator's order: {what}": partial(Scene.order, what=what) for what in Orders}
    | {"the lifecycle is killed": Scene.kill, "a sweep": Scene.sweep}
    | {f"an outage of {' and '.join(paths)}": partial(Scene.goes_down, paths=paths) for paths in OUTAGES}
    | {"the outage ends": Scene.comes_up}
)
REPAIR = f"a consent comes {Consents.WHOLLY}"
RACERS = {
    name: ACTS[name]
    for name in (
        REPAIR,
        f"a consent comes {Consents.PARTLY}",
        f"a consent comes {Consents.BY_A_STRANGER}",
        f"a refresh {Refreshes.HEALTHY}",
        str(Events.REVOKED),
        f"an operator's order: {Orders.ASK}",
        f"an operator's order: {Orders.CALL_DEAD}",
        f"an operator's order: {Orders.DISCONNECT}",
        f"an operator's order: {Orders.LET_EXPIRE}",
    )
} | {"one sweep": Scene.sweep_once}


def step(act: Callable[Concatenate["AnyOrder", P], Coroutine[Any, Any, R]]) -> Callable[Concatenate["AnyOrder", P], R]:
    """A rule on the world's loop, and then the system at rest."""

    @wraps(act)
    def run(self: "AnyOrder", *args: P.args, **kwargs: P.kwargs) -> R:
        async def to_rest() -> R:
            result = await act(self, *args, **kwargs)
            await self.scene.rests()
            return result

        return self.wait(to_rest())

    return run


class AnyOrder(RuleBasedStateMachine):
    world: ClassVar[World]
    loop: ClassVar[asyncio.AbstractEventLoop]
    connections: Bundle[Subject] = Bundle("connections")

    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene(self.world)
        self.wait(self.scene.begin())

    def wait(self, work: Coroutine[Any, Any, R]) -> R:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_A_RULE)

    @initialize(target=connections)
    @step
    async def one_that_works(self) -> Subject:
        subject = await self.scene.add()
        await self.scene.consents(subject, Consents.WHOLLY)
        return subject

    @initialize(target=connections)
    @step
    async def one_whose_grant_was_revoked(self) -> Subject:
        subject = await self.scene.add()
        await self.scene.consents(subject, Consents.WHOLLY)
        await self.scene.rests()
        await self.scene.is_noticed(subject, Events.REVOKED)
        return subject

    # One rule for all: hypothesis leaves rules out of whole examples, and here each act counts. Most often nothing else
    # happens meanwhile, and what was broken is repaired now and then, or little could be broken any more.
    @rule(
        connection=connections,
        act=st.sampled_from([*ACTS, *[REPAIR] * 8]),
        meanwhile=st.sampled_from([*["nothing"] * 20, *RACERS]),
    )
    @step
    async def happens(self, connection: Subject, act: str, meanwhile: str) -> None:
        racer = RACERS.get(meanwhile)
        both = [ACTS[act], *([racer] if racer else [])]
        await asyncio.gather(*(each(self.scene, connection) for each in both))

    def teardown(self) -> None:
        self.wait(self.scene.end())
