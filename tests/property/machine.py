"""Transitions, refreshes, revocations, callbacks and operator commands in any order.

hypothesis is synchronous and has a thread of its own; each rule is a coroutine on the loop in which everything else
lives, and ends when the system has come to rest.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, precondition, rule

from tests.property import operators
from tests.property.operators import Events, Orders, Refreshes
from tests.property.owners import Callbacks, Consents
from tests.property.person import Subject
from tests.property.scene import Race, Scene
from tests.property.world import World

_A_RULE = 90.0
P = ParamSpec("P")
R = TypeVar("R")

RACES: dict[str, Race] = {
    "the owner consents": lambda scene, subject: scene.consents(subject, Consents.WHOLLY),
    "the owner gives less": lambda scene, subject: scene.consents(subject, Consents.PARTLY),
    "a stranger consents": lambda scene, subject: scene.consents(subject, Consents.BY_A_STRANGER),
    "the owner revokes": lambda scene, subject: operators.at_the_provider(scene.world, subject, Events.REVOKED),
    "a refresh": lambda scene, subject: scene.refresh(subject, Refreshes.HEALTHY),
    "an operator asks": lambda scene, subject: operators.order(scene.world, subject, Orders.ASK),
    "an operator calls it dead": lambda scene, subject: operators.order(scene.world, subject, Orders.CALL_DEAD),
    "an operator disconnects": lambda scene, subject: operators.order(scene.world, subject, Orders.DISCONNECT),
    "the deadline passes": lambda scene, subject: operators.order(scene.world, subject, Orders.LET_EXPIRE),
    "a sweep": lambda scene, _: scene.world.sweep(),
}


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
        await operators.at_the_provider(self.world, subject, Events.REVOKED)
        await self.scene.refresh(subject, Refreshes.HEALTHY)
        return subject

    @rule(connection=connections)
    @step
    async def the_owner_consents(self, connection: Subject) -> None:
        await self.scene.consents(connection, Consents.WHOLLY)

    @rule(connection=connections, how=st.sampled_from(Consents))
    @step
    async def a_consent_comes(self, connection: Subject, how: Consents) -> None:
        await self.scene.consents(connection, how)

    @rule(connection=connections, how=st.sampled_from(Callbacks))
    @step
    async def a_callback_comes(self, connection: Subject, how: Callbacks) -> None:
        await self.scene.comes_back(connection, how)

    @rule(connection=connections, how=st.sampled_from(Refreshes))
    @step
    async def it_is_refreshed(self, connection: Subject, how: Refreshes) -> None:
        await self.scene.refresh(connection, how)

    @rule(connection=connections, event=st.sampled_from(Events), noticed=st.booleans())
    @step
    async def at_the_provider(self, connection: Subject, event: Events, *, noticed: bool) -> None:
        await operators.at_the_provider(self.world, connection, event)
        if noticed:
            await self.scene.refresh(connection, Refreshes.HEALTHY)

    @rule(connection=connections, what=st.sampled_from(Orders))
    @step
    async def an_operator_orders(self, connection: Subject, what: Orders) -> None:
        await operators.order(self.world, connection, what)

    @rule(connection=connections, one=st.sampled_from(sorted(RACES)), other=st.sampled_from(sorted(RACES)))
    @step
    async def at_once(self, connection: Subject, one: str, other: str) -> None:
        await self.scene.at_once(connection, RACES[one], RACES[other])

    @rule(connection=connections, consent=st.sampled_from([Consents.WHOLLY, Consents.PARTLY]))
    @step
    async def a_consent_overtakes_a_refresh(self, connection: Subject, consent: Consents) -> None:
        await asyncio.gather(self.scene.refresh(connection, Refreshes.SLOWLY), self.scene.consents(connection, consent))

    @rule(connection=connections)
    @step
    async def its_lifecycle_is_killed(self, connection: Subject) -> None:
        await operators.kill_lifecycle(self.world, connection)

    @rule()
    @step
    async def a_sweep(self) -> None:
        await self.scene.sweep()

    @rule(paths=st.sampled_from([("/api/",), ("/oauth/token", "/api/"), ("/api/notes",)]))
    @precondition(lambda self: self.scene.outage is None)
    @step
    async def the_provider_goes_down(self, paths: Sequence[str]) -> None:
        await self.scene.goes_down(paths)

    @rule()
    @precondition(lambda self: self.scene.outage is not None)
    @step
    async def the_provider_comes_up(self) -> None:
        await self.scene.comes_up()

    def teardown(self) -> None:
        self.wait(self.scene.end())
