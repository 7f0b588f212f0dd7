"""Fifty connections of one provider, refreshed beside each other: few transactions, and one call for each.

What goes well stays in here. What does not leaves: it is refreshed or confirmed by a workflow of its own. When the
provider itself seems to be in trouble nothing more is sent, and what was not sent stays due.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.exc import DBAPIError
from temporalio import activity

from activities.caller import caller
from activities.refresh_call import Send, sending
from activities.refresh_store import renewed_by, stored
from integrations.db import credentials, refresh_batch, refresh_due
from integrations.db.leases import LEASE
from integrations.db.refresh import Claim, Settled
from integrations.db.refresh_batch import Renewed
from integrations.db.session import Sessions
from integrations.db.together import Together
from integrations.db.vault import Vault
from integrations.domain.errors import RunbookError
from integrations.domain.gate import Purpose
from integrations.domain.verdict import TERMINAL, Meaning, Trouble
from integrations.providers.http import TIMEOUT
from integrations.providers.oauth import OAuthClient, Providers, TokenAnswer

AT_ONCE: Final = 12
"""Calls of one chunk: what a kill at a bad moment leaves without an answer."""
_AT_FIRST: Final = 4
"""Of these, until one shows that the provider is there: a storm is met with few."""
_SENDS_WITHIN: Final = (LEASE - TIMEOUT) * 0.7
"""After its claim: what is sent later could come back when the lease is another's."""
_SOME: Final = 5


@dataclass(frozen=True, slots=True)
class Failed:
    """One connection that could not be refreshed."""

    claim: Claim
    why: str
    answer: TokenAnswer | None = None
    """None: nothing was sent, for a reason that is this connection's own."""

    @property
    def is_transient(self) -> bool:
        return self.answer is not None and self.answer.verdict.meaning not in TERMINAL

    @property
    def is_refused(self) -> bool:
        """Does the answer say who must act?"""
        return self.answer is not None and not self.is_transient

    @property
    def is_unknown(self) -> bool:
        """An answer that no rule has, which may be about this connection alone."""
        return self.answer is not None and self.answer.verdict.meaning is Meaning.UNKNOWN

    @property
    def is_lost(self) -> bool:
        return self.answer is not None and self.answer.heard.trouble is Trouble.LOST

    @property
    def answered(self) -> bool:
        return self.answer is not None and not self.is_lost

    @property
    def after(self) -> timedelta | None:
        return self.answer.verdict.after if self.answer else None


@dataclass
class Outcome:
    refreshed: list[UUID] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    unsent: list[Claim] = field(default_factory=list)
    hopeless: list[Claim] = field(default_factory=list)
    """There is nothing to refresh them with."""
    followed_up: list[tuple[Claim, Settled]] = field(default_factory=list)
    """More came back than tokens, and somebody has to hear of it."""

    @property
    def is_heard(self) -> bool:
        """Did the provider answer something that is about a connection?"""
        return bool(self.refreshed) or any(each.is_refused for each in self.failed)

    @property
    def trouble(self) -> list[Failed]:
        """What says that the provider is in trouble, and not these connections: then nothing more is sent."""
        transient = [each for each in self.failed if each.is_transient]
        heard = len(self.refreshed) + sum(each.is_refused for each in self.failed)
        return transient if len(transient) >= _SOME and len(transient) > heard else []


class ChunkRun:
    """One chunk on its way. `provider_id` has client credentials."""

    def __init__(self, sessions: Sessions, vault: Vault, providers: Providers, provider_id: str) -> None:
        self._sessions = sessions
        self._vault = vault
        self._providers = providers
        self.provider = providers.catalog.provider(provider_id)
        # Whoever is cancelled takes along what is not written yet. Nobody is here: `heart.finished` shields the chunk.
        self._mark = Together(self._mark_all)
        self._unmark = Together(self._unmark_all)
        self._store = Together(self._store_all)
        self._is_there = asyncio.Event()
        self._until = time.monotonic() + _SENDS_WITHIN.total_seconds()
        self.outcome = Outcome()

    async def refresh(self, claims: Iterable[Claim]) -> Outcome:
        """Refresh them all, as far as the provider answers. Raises what the database does, after the last answer."""
        left = iter(claims)
        lanes = [self._lane(left, waits=number >= _AT_FIRST) for number in range(AT_ONCE)]
        ends = await asyncio.gather(*lanes, return_exceptions=True)
        # Never one of them alone: a call that is given up in the middle is a rotation whose answer is lost.
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        self.outcome.unsent += left
        return self.outcome

    async def _lane(self, left: Iterable[Claim], *, waits: bool) -> None:
        if waits:
            await self._is_there.wait()
        try:
            for claim in left:
                if self._is_over():
                    self.outcome.unsent.append(claim)
                    return
                await self._one(claim)
                if self.outcome.is_heard:
                    self._is_there.set()
        finally:
            # It ends for whatever reason: nobody has to be waited for any more.
            self._is_there.set()

    def _is_over(self) -> bool:
        """Is nothing more to be sent? A worker or a run that is being ended waits for what is on its way."""
        ended = activity.is_worker_shutdown() or activity.is_cancelled()
        return bool(self.outcome.trouble) or ended or time.monotonic() > self._until

    async def _one(self, claim: Claim) -> None:
        try:
            values = credentials.values(claim.connection, claim.credential)
            client = self._providers.client(self.provider.id, values, caller(claim.connection, Purpose.REFRESH))
            kept = credentials.opened(self._vault, claim.credential)
            send = sending(client, kept)
        except RunbookError as error:
            self.outcome.failed.append(Failed(claim, str(error)))
            return
        if send is None:
            self.outcome.hopeless.append(claim)
            return
        if self.provider.rotates_refresh_token and not claim.forgiven(self.provider.rotation_grace):
            self.outcome.failed.append(Failed(claim, "the answer to its last refresh never came"))
            return
        if self.provider.rotates_refresh_token and not await self._mark(claim):
            return  # Somebody else has the lease: it is theirs.
        await self._ask(claim, client, kept, send)

    async def _ask(self, claim: Claim, client: OAuthClient, kept: credentials.Tokens, send: Send) -> None:
        try:
            answer = await send()
        except RunbookError as error:
            self.outcome.failed.append(Failed(claim, str(error)))
            return
        if answer.granted is None:
            # At once: whatever becomes of this process, what was answered is not taken for lost.
            if self.provider.rotates_refresh_token and claim.certain and answer.heard.trouble is not Trouble.LOST:
                await self._unmark(claim)
            self.outcome.failed.append(Failed(claim, f"{client.provider.name}: {answer.verdict.because}", answer))
            return
        renewed = renewed_by(self.provider, claim, kept, answer.granted)
        if renewed.is_plain and await self._store(renewed):
            self.outcome.refreshed.append(claim.connection.id)
            return
        await self._settle(renewed, answer)

    async def _mark_all(self, claims: Sequence[Claim]) -> list[bool]:
        async with self._sessions.begin() as session:
            held = await refresh_due.mark_sent(session, claims)
        return [claim.connection.id in held for claim in claims]

    async def _unmark_all(self, claims: Sequence[Claim]) -> list[None]:
        async with self._sessions.begin() as session:
            await refresh_due.unmark(session, claims)
        return [None] * len(claims)

    async def _store_all(self, renewed: Sequence[Renewed]) -> list[bool]:
        try:
            async with self._sessions.begin() as session:
                stored = await refresh_batch.store(session, self._vault, renewed)
        except DBAPIError:
            # Somebody has added a candidate since the claim, or the connection broke. What came back is worth another
            # try, one by one: versions are counted again, and what is stored after all stays stored.
            return [False] * len(renewed)
        return [each.claim.connection.id in stored for each in renewed]

    async def _settle(self, renewed: Renewed, answer: TokenAnswer) -> None:
        settled = await stored(self._sessions, self._vault, self.provider, renewed, answer)
        # None: it was given up or repaired while it was being refreshed, and what came back is nobody's.
        if settled is not None:
            self.outcome.refreshed.append(renewed.claim.connection.id)
            if settled.detection_id or settled.repaired:
                self.outcome.followed_up.append((renewed.claim, settled))
