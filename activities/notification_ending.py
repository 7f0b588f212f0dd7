"""How a message ends that does not arrive: told by the recipient's next channel, or dead, with what it was to say."""

from activities.notification_message import Composer
from integrations.db import contact_addresses
from integrations.db import notification_expand as expansion
from integrations.db.notification_claims import Claimed
from integrations.db.notification_flow import Settled, channels_of
from integrations.db.session import Executor
from integrations.domain.errors import StopError
from integrations.domain.ledger import Failure
from integrations.domain.notification import Definition, Mode
from integrations.domain.notification_addressing import Addressed, Unreached, addressed, audience_of
from integrations.providers.definitions import Definitions


class Ending:
    def __init__(self, definitions: Definitions, rules: expansion.Rules, composer: Composer) -> None:
        self._definitions = definitions
        self._rules = rules
        self._composer = composer

    async def give_up(self, run: Executor, item: Claimed, failure: Failure, *, tried: bool) -> Settled:
        """What a dispatch becomes that its channel does not deliver. In the caller's transaction.

        `tried`: it was tried once more, and that failed.
        """
        following = await self._next(run, item)
        if following is not None:
            await expansion.put(run, [(item.news, [following])])
            told = Failure(cause=f"Failover: {item.channel} gave up, {following.channel} follows", error=failure.error)
            return Settled(item, "dropped", told, tried)
        rendered, version = self._composer.kept(item)
        return Settled(item, "dead", failure, tried, rendered, version)

    async def reach(self, run: Executor, item: Claimed) -> Settled:
        """What becomes of a dispatch that once reached nobody: by what is known now, somebody may be told."""
        definition = self._definition(item.definition)
        if definition is None:
            return Settled(item, "dead", Failure.of("Definition", f"there is no definition {item.definition!r}"), False)
        found = [
            each
            for each in await expansion.addressed_now(run, self._rules, item.news, definition)
            if not item.recipient or each.recipient in {"", item.recipient}
        ]
        reached = [each for each in found if isinstance(each, Addressed)]
        if not reached:
            unreached = next((each for each in found if isinstance(each, Unreached)), None)
            failure = (
                unreached.failure if unreached else Failure.of("Nobody", f"{item.recipient} is no recipient any more")
            )
            return Settled(item, "nobody", failure, tried=False)
        await expansion.put(run, [(item.news, list(reached))])
        told = ", ".join(f"{each.recipient} by {each.channel}" for each in reached[:5])
        return Settled(item, "dropped", Failure(cause="Reached", error=f"there is somebody to tell now: {told}"), False)

    async def _next(self, run: Executor, item: Claimed) -> Addressed | None:
        """The recipient's next channel that has not been tried."""
        definition = self._definition(item.definition)
        if definition is None or definition.mode is not Mode.FAILOVER:
            return None
        moment = await expansion.now(run)
        if item.expires_at <= moment:
            # No other channel makes it news again: it is dead, and not old without ever having arrived.
            return None
        audience = audience_of(definition, item.news)
        people = (await contact_addresses.of(run, [audience], quiet=self._rules.quiet)).get(audience, [])
        used = await channels_of(run, item)
        for each in addressed(
            definition,
            item.news,
            [person for person in people if person.key == item.recipient],
            self._rules.unready(),
            moment,
            without=used,
        ):
            if isinstance(each, Addressed):
                return each
        return None

    def _definition(self, name: str) -> Definition | None:
        try:
            return self._definitions.get(name)
        except StopError:
            return None
