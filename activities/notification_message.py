"""From a claimed dispatch to the message that a channel is given, or to the reason why it is not sent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from integrations.db import notification_relevance as relevance
from integrations.db.contact_addresses import open_address
from integrations.db.notification_claims import Claimed
from integrations.db.notification_flow import Settled
from integrations.db.notification_relevance import Told
from integrations.db.session import Executor
from integrations.db.vault import Vault
from integrations.domain.errors import NotReadyError, StopError
from integrations.domain.ledger import Failure
from integrations.domain.notification import LAID_OUT, Address, Definition, News, Outgoing, Rendered, idempotency_key
from integrations.providers.definitions import Definitions
from integrations.providers.rendering import Renderer, TemplateError

_OLD: Final = "Old"


@dataclass(frozen=True, slots=True)
class Known:
    """What the database says of a batch: asked once for all of it."""

    later: Mapping[UUID, str]
    inviting: set[UUID]
    opened: dict[bytes, Address] = field(default_factory=dict, repr=False)
    """Addresses that this batch has met, by what was sealed: one that a thousand messages go to is opened once."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A dispatch that may be sent, and what is sent."""

    item: Claimed
    outgoing: Outgoing
    version: str


class Composer:
    def __init__(
        self,
        definitions: Definitions,
        renderer: Renderer,
        vault: Vault,
        provider_name: Callable[[str], str],
        *,
        web_url: str,
        zone: str,
    ) -> None:
        """`zone`: the clock of recipients of whom nothing else is known."""
        self._definitions = definitions
        self._renderer = renderer
        self._vault = vault
        self._provider_name = provider_name
        self._web_url = web_url.rstrip("/")
        self._zone = zone

    async def known(self, run: Executor, items: Sequence[Claimed]) -> Known:
        told = [
            Told(item.id, definition, item.news) for item in items if (definition := self._definition(item)) is not None
        ]
        sessions = {item.news.session_id for item in items} - {None}
        return Known(
            await relevance.superseded(run, told),
            await relevance.inviting(run, {each for each in sessions if each is not None}),
        )

    def compose(self, item: Claimed, known: Known) -> Ready | Settled:
        """What is sent, or what the dispatch becomes instead: `retrying` when this process lacks its address's key."""
        definition = self._definition(item)
        if definition is None:
            return _unsent(item, "dead", "Definition", f"there is no definition {item.definition!r} any more")
        unwanted = _old(item, definition, known) or _unreached(item)
        if unwanted is not None:
            return unwanted
        assert item.address is not None
        try:
            rendered = self._linked(item, self.rendered(item, definition), known)
            to = known.opened.get(item.address.sealed)
            if to is None:
                to = known.opened[item.address.sealed] = open_address(self._vault, item.address)
        except TemplateError as error:
            return _unsent(item, "dead", "Template", str(error))
        except NotReadyError as error:
            return _unsent(item, "retrying", "NotReady", str(error))
        if rendered is None:
            return _unsent(item, "dropped", _OLD, "its invitation was answered, replaced, or has expired")
        key = idempotency_key(item.news.event_id, item.definition, item.recipient, item.channel)
        return Ready(item, Outgoing(key, definition.id, item.news, to, rendered), definition.version)

    def _linked(self, item: Claimed, rendered: Rendered, known: Known) -> Rendered | None:
        """With its link, if it has one. None when that leads nowhere any more."""
        if not rendered.has_link:
            return rendered
        session_id = item.news.session_id
        if session_id is None or session_id not in known.inviting:
            return None
        return rendered.with_link(f"{self._web_url}/reconsent/{self._vault.link_token(session_id)}")

    def rendered(self, item: Claimed, definition: Definition) -> Rendered:
        """What the recipient would read, without a link. Raises TemplateError."""
        name = item.address.name if item.address else ""
        return self.shown(definition, item.news, name, item.zone, html=item.channel in LAID_OUT)

    def shown(self, definition: Definition, news: News, name: str, zone: str | None, *, html: bool = True) -> Rendered:
        """The same for somebody who may never be sent it: of a name, and by the owner's clock. Raises TemplateError."""
        return self._renderer.render(
            definition,
            news,
            recipient_name=name,
            zone=zone or self._zone,
            provider_name=self._provider_name(news.provider_id),
            html=html,
        )

    def kept(self, item: Claimed) -> tuple[dict[str, str] | None, str | None]:
        """What is kept of what is dead, and the version of its templates. None of either when it cannot be rendered."""
        definition = self._definition(item)
        if definition is None:
            return None, None
        try:
            return self.rendered(item, definition).kept() | {
                "to": item.address.shown if item.address else ""
            }, definition.version
        except TemplateError:
            return None, definition.version

    def _definition(self, item: Claimed) -> Definition | None:
        try:
            return self._definitions.get(item.definition)
        except StopError:
            return None


def _old(item: Claimed, definition: Definition, known: Known) -> Settled | None:
    later = known.later.get(item.id)
    if later is not None:
        what = "collapsed into" if definition.is_about(later) else "superseded by"
        return _unsent(item, "dropped", _OLD, f"{what} a later {later}")
    if item.expires_at <= datetime.now(UTC):
        return _unsent(item, "dropped", _OLD, f"it was news until {item.expires_at:%Y-%m-%d %H:%M} UTC")
    return None


def _unreached(item: Claimed) -> Settled | None:
    if item.address is not None:
        return None
    return _unsent(item, "nobody", "Nobody", f"the address of {item.recipient} for {item.channel} was removed since")


def _unsent(item: Claimed, status: str, kind: str, why: str) -> Settled:
    return Settled(item, status, Failure.of(kind, why), tried=False)
