"""A channel's drain at work: requests become dispatches, those that are due are sent, and settled by the batch.

 expand ──▶ holds that are over ──▶ claim ──▶ senders, so many at once ──▶ settle ──▶ replays ──▶ nothing? wait a little
   ▲                                  └──────────── while there is more ──────┘                             │
   └────────────────────────────────────────────────────────────────────────────────────────────────────────┘

What fails leaves the flow and gets a workflow of its own. Where twenty in a row failed at one origin, that is out: the
last of them tries for all, and the others are held without a workflow each.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from activities.notification_ending import Ending
from activities.notification_message import Composer, Ready
from activities.notification_senders import Done, Senders, Trouble
from activities.starting import Starting
from integrations.db import notification_claims as claims
from integrations.db import notification_expand as expansion
from integrations.db import notification_flow as flow
from integrations.db import notification_holds as holding
from integrations.db import notification_replay as replays
from integrations.db import replay
from integrations.db.dedicated import take, transaction
from integrations.db.dispatchers import Seat
from integrations.db.notification_claims import Claimed
from integrations.db.notification_flow import Settled
from integrations.db.session import Executor, Sessions
from integrations.domain.ledger import SUSPECTED, Failure
from integrations.domain.notification import LEDGER, Answer, part_of
from integrations.domain.notification_delivery import Left, Sending
from integrations.domain.replay import Window
from integrations.domain.verdict import Meaning
from integrations.providers.channels.channel import Channel

_IDLE: Final = 0.25
"""Seconds between two looks when there is nothing to do."""
_SOON: Final = 0.05
"""Seconds, in the first second after a step of a replay: what goes on by steps waits less."""
_TURN: Final = 1.0
"""Seconds after which it looks around also in a backlog."""
_BEAT: Final = 1.0
_IDLE_BEAT: Final = 5.0
_LONG: Final = 5 * 60.0
"""Seconds after which it ends by itself: the workflow's history shows that it lives, and another worker may go on."""
_AFTER_TROUBLE: Final = 15.0
_LOST: Final = 5.0
"""Seconds between two looks for what a process took with it."""
_JITTER: Final = 0.25
"""Added share of a wait at most."""
_REQUESTS: Final = 500
"""Expanded in one transaction."""


@dataclass
class ChannelDrain:
    seat: Seat
    connection: AsyncConnection
    channel: Channel
    rules: expansion.Rules
    composer: Composer
    ending: Ending
    starting: Starting[Left]
    leaving: Callable[[], bool]
    """Whether the process is about to end."""
    done: Done
    """What was sent and is not settled yet: empty, but for what an attempt before could not write down."""
    trouble: Trouble
    full: int
    """Dispatches of one claim."""
    width: int
    """Messages on their way at once."""
    first_wait: timedelta
    """Until the second attempt at what failed."""
    items: int = 0
    """Taken out of the backlog."""
    _batch: int = 0
    _told: int = 0
    _own: bool = False
    _beat_at: float = 0.0
    _lost_at: float = 0.0
    _stepped_at: float = 0.0

    @property
    def part(self) -> int:
        return part_of(self.channel.name)

    async def run(self, *, again: bool) -> Sending:
        """Work until the process ends, or it has been long enough.

        `again`: not the first attempt. Then it ends soon after it works, so that the next trouble is met afresh.
        Raises DBAPIError when the database has trouble.
        """
        found = await self.seat.take(self.connection, self.full)
        self._batch, suspect = found.batch, found.suspect
        began, long, why = time.monotonic(), _AFTER_TROUBLE if again else _LONG, ""
        while not why:
            busy = False
            # Whoever had it may have to be found dead first.
            self._own = self._own or bool(await take(self.connection, LEDGER, [self.part]))
            if self._own:
                if suspect is not None:
                    await self._set_aside(suspect)
                    suspect = None
                await self._settle()
                busy = await self._turn()
            await self._beat(busy=busy)
            if self.leaving():
                why = "the worker is being stopped"
            elif time.monotonic() - began > long:
                why = "it works again" if again else "it has been long enough"
            elif not busy:
                await asyncio.sleep(_SOON if time.monotonic() - self._stepped_at < _TURN else _IDLE)
        await self.seat.leave(self.connection, self.items - self._told)
        return Sending(items=self.items, why=why)

    async def leave_behind(self, sessions: Sessions) -> None:
        """Settle what arrived, of a drain that ends in the middle: its own connection may be of no use any more.

        Of what failed reconcile starts the workflows.
        """
        done = self.done.take()
        try:
            async with sessions.begin() as session:
                await self._settled(session, done)
        except BaseException:
            self.done.put_back(done)
            raise

    async def _turn(self) -> bool:
        """What there is to do, for a second or two. Whether there is more."""
        sweep = time.monotonic() - self._lost_at > _LOST
        if sweep:
            self._lost_at = time.monotonic()
            await flow.recover(self.connection, self.part)
        found = await claims.look(self.connection, self.part)
        more = found.requests and await self._expanded()
        if found.held:
            more |= await self._gone_on(sweep=sweep)
        else:
            self.trouble.out.clear()
        if found.due or found.requests:
            more |= await self._flowed()
        if more or self.leaving():
            return more
        # Live traffic first.
        for window in await replay.windows(self.connection, LEDGER, [self.part]):
            more |= bool(await self._replayed(window))
        if more:
            self._stepped_at = time.monotonic()
        return more

    async def _expanded(self) -> bool:
        ends = time.monotonic() + _TURN
        while await expansion.expand(self.connection, self.rules, _REQUESTS) == _REQUESTS:
            if time.monotonic() > ends or self.leaving():
                return True
        return False

    async def _gone_on(self, *, sweep: bool) -> bool:
        """Let go on what was held for what is settled by now. Whether anything was.

        `sweep`: look as well for what leads elsewhere since, and for what was held until it was no news any more.
        """
        holds = await holding.holds(self.connection, self.part)
        self.trouble.out = set(holds.out)
        for origin in holds.released:
            self.trouble.in_a_row.pop(origin, None)
        if sweep:
            await self._bury_the_held()
        if holds.released or sweep:
            await holding.go_on(self.connection, self.part, holds.released)
        return bool(holds.released)

    async def _bury_the_held(self) -> None:
        """Nothing arrived where they go to for as long as they were news: dead, and told as such."""
        failure = Failure.of("Out", f"nothing arrived where {self.channel.name} leads for as long as it was news")
        async with transaction(self.connection):
            items = await claims.claim_expired(self.connection, self.part, self.full)
            buried = [await self.ending.give_up(self.connection, item, failure, tried=False) for item in items]
            await flow.settle(self.connection, buried, by=f"{self.channel.name} dispatcher")

    async def _flowed(self) -> bool:
        """Send what is due. Whether there is more of it."""
        ends = time.monotonic() + _TURN
        async with Senders(self.channel, self.width, self.trouble, self.done, self.leaving) as senders:
            while True:
                size = self._batch
                if size == 1:
                    # Written down before it is tried: should the process end now, the next one knows what ended it.
                    await self.seat.suspect(self.connection, await claims.next_due(self.connection, self.part))
                claimed_at = time.monotonic()
                claimed = await claims.claim(self.connection, self.part, size)
                self.items += len(claimed)
                await self._while(senders.give(await self._composed(claimed), claimed_at))
                over = len(claimed) < size or time.monotonic() > ends or self.leaving()
                if over or size < self.full:
                    break
                await self._settle()
            await self._while(senders.finish())
        await self._settle()
        self._grow(size)
        return len(claimed) == size

    def _grow(self, size: int) -> None:
        """A batch went well, whatever ended the process before: the next may be larger."""
        self._batch = min(self.full, max(self._batch, size * 10))

    async def _while(self, sending: Coroutine[Any, Any, None]) -> None:
        """Wait for receivers that may be slow. Meanwhile what arrived is settled: a silent session is ended."""
        task = asyncio.create_task(sending)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=_BEAT)
                await self._settle()
                await self._beat(busy=True)
            await task
        finally:
            task.cancel()

    async def _composed(self, claimed: Sequence[Claimed]) -> list[Ready]:
        """Those of a claim that are sent. The others are settled."""
        if not claimed:
            return []
        known = await self.composer.known(self.connection, claimed)
        composed = [self.composer.compose(item, known) for item in claimed]
        unsent = [each for each in composed if isinstance(each, Settled) and each.status != "retrying"]
        for each in composed:
            if isinstance(each, Settled) and each.status == "retrying":
                self._locked(each)
        if unsent:
            await flow.settle(self.connection, unsent, by=f"{self.channel.name} dispatcher")
        return [each for each in composed if isinstance(each, Ready)]

    def _locked(self, settled: Settled) -> None:
        """Its address does not open. As what a receiver did not take: many in a row start no workflow each."""
        item = settled.item
        if item.origin in self.trouble.out:
            self.done.held.append(item)
            return
        answer = Answer(meaning=Meaning.OPERATOR_MUST_ACT, kind="NotReady", why=settled.failure.error)
        self.done.failed.append((item, answer, self.trouble.judge(item, answer)))

    async def _settle(self) -> None:
        """Write down what became of messages, and then start the workflows of those that failed."""
        if not self.done:
            return
        done = self.done.take()
        try:
            async with transaction(self.connection):
                left = await self._settled(self.connection, done)
        except BaseException:
            self.done.put_back(done)
            raise
        for each in left:
            self.starting.begin(each)

    async def _settled(self, run: Executor, done: Done) -> list[Left]:
        """In the caller's transaction. Those that left the flow."""
        left: list[Left] = []
        await flow.sent(run, self.part, self.channel.name, done.sent)
        await holding.hold(run, done.held)
        await flow.give_back(run, done.late)
        settled: list[Settled] = []
        mine = await claims.in_hand(run, [item for item, _, _ in done.failed])
        for item, answer, whole in done.failed:
            if item.id not in mine:
                continue
            failure = Failure.of(answer.kind, answer.why)
            if answer.refused:
                settled.append(await self.ending.give_up(run, item, failure, tried=True))
                continue
            wait = self._wait(answer)
            settled.append(Settled(item, "retrying", failure, tried=True, lease=wait + flow.UNHEARD))
            tries_for_all = whole and await holding.brake(run, item, self.part)
            left.append(left_of(item, failure, whole=tries_for_all, wait=wait, answered=True))
        await flow.settle(run, settled, by=f"{self.channel.name} dispatcher")
        return left

    def _wait(self, answer: Answer) -> timedelta:
        """Until the second attempt: what was asked for, if it was. Those that failed together do not come together."""
        return max(self.first_wait, answer.after or timedelta()) * (1 + random.random() * _JITTER)  # noqa: S311 - no secret

    async def _replayed(self, window: Window) -> int:
        """One batch of a replay. How many items have an outcome now."""
        size = min(self._batch, 2 * self.width)
        if size == 1:
            await self.seat.suspect(self.connection, await replay.next_one(self.connection, window))
        taken = await replays.take(self.connection, window, size)
        if not taken.claimed:
            return await replays.settle(self.connection, window, taken, [], [], [])
        claimed_at = time.monotonic()
        known = await self.composer.known(self.connection, taken.claimed)
        composed = [
            self.composer.compose(item, known) if item.channel else await self.ending.reach(self.connection, item)
            for item in taken.claimed
        ]
        # An origin that is out may be back: that is what a replay is for.
        done = Done()
        async with Senders(self.channel, self.width, Trouble(limit=math.inf), done, lambda: False) as senders:
            await self._while(senders.give([each for each in composed if isinstance(each, Ready)], claimed_at))
            await self._while(senders.finish())
        unsent = [
            self._dead_again(each.item, each.failure) if each.status == "retrying" else each
            for each in composed
            if isinstance(each, Settled)
        ]
        unsent += [self._dead_again(item, Failure.of(answer.kind, answer.why)) for item, answer, _ in done.failed]
        settled = await replays.settle(self.connection, window, taken, done.sent, unsent, [*done.late, *done.held])
        self._grow(size)
        return settled

    def _dead_again(self, item: Claimed, failure: Failure) -> Settled:
        rendered, version = self.composer.kept(item)
        return Settled(item, "dead", failure, tried=True, rendered=rendered, version=version)

    async def _set_aside(self, dispatch_id: UUID) -> None:
        """Take away what ended the process each time: its own workflow tries it, and nothing else with it."""
        if await replays.give_up(self.connection, self.part, dispatch_id, SUSPECTED):
            return
        item = await claims.claim_suspect(self.connection, dispatch_id)
        if item is not None:
            await flow.settle(self.connection, [Settled(item, "retrying", SUSPECTED, tried=True)], by="a crash")
            self.starting.begin(left_of(item, SUSPECTED))

    async def _beat(self, *, busy: bool) -> None:
        now = time.monotonic()
        if now - self._beat_at > (_BEAT if busy or self.items != self._told else _IDLE_BEAT):
            parts = [self.part] if self._own else []
            await self.seat.beat(self.connection, parts, self._batch, self.items - self._told)
            self._beat_at, self._told = now, self.items


def left_of(
    item: Claimed, failure: Failure, *, whole: bool = False, wait: timedelta = timedelta(), answered: bool = False
) -> Left:
    return Left(
        dispatch_id=item.id,
        definition=item.definition,
        channel=item.channel,
        recipient=item.recipient,
        event_id=item.news.event_id,
        event=item.news.name,
        provider_id=item.news.provider_id,
        tenant=item.news.tenant,
        connection_id=item.news.connection_id,
        cause=failure.cause,
        expires_at=item.expires_at,
        answered=answered,
        whole=whole,
        wait=wait,
    )
