"""`runbook notifications explain`: why an event is told, to whom, by which channel, in which words. Nothing is sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from activities.notification_kit import Kit
from integrations.db import contact_addresses, notification_dead, notification_expand
from integrations.db import notification_relevance as relevance
from integrations.db.notification_dead import Item
from integrations.db.notification_explain import Found, find
from integrations.domain.errors import StopError
from integrations.domain.notification import OWNER, Definition, Recipient, Rendered, dispatch_id, matches
from integrations.domain.notification_addressing import Addressed, Unreached, addressed, audience_of
from integrations.domain.notification_explained import Became, Explained, Mapped, Reader, ways
from integrations.domain.notification_page import next_of
from integrations.providers.rendering import TemplateError
from starters import notification_explained
from starters.notification_kit import kit_of
from starters.reach import reading
from starters.shell import Json, as_json, command, err

_NEXT: Final = {
    "waits": "runbook outbox status",
    "dead": "runbook outbox dead",
    "pending": "runbook notifications status",
    "unmapped": "a definition in the file that RUNBOOK_NOTIFICATIONS names tells somebody of the next one",
}


@command
async def explain(
    event_id: UUID,
    json: Json = False,
    html: Annotated[Path | None, typer.Option(help="Write the HTML of the first message to this file.")] = None,
) -> None:
    """Show which definitions are about an event, whom they tell and by what, the words, and what became of it.

    By what is known now, as a dispatcher would decide. Nothing is sent, and no link is made.

    Example: runbook notifications explain 3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11
    """
    async with reading() as reach, kit_of(reach.settings) as kit, reach.sessions.begin() as session:
        explanation = await _read(session, kit, await find(session, event_id))
        explained = explanation.whole()
    if html is not None:
        _write(html, explanation.html)
    as_json(explained) if json else notification_explained.show(explained, reach.settings)


@dataclass
class _Explanation:
    """Everything that was read of an event, and the words that come of it."""

    kit: Kit
    found: Found
    items: Sequence[Item]
    people: Mapping[str, Sequence[Recipient]]
    shown: Mapping[UUID, str]
    """Addresses, masked."""
    later: Mapping[UUID, str]
    inviting: bool
    """Its invitation, if it has one, waits for an answer."""
    now: datetime
    html: str = ""
    """Of the first message that has any."""

    def whole(self) -> Explained:
        news = self.found.news
        mapped = [self._mapped(definition) for definition in self.kit.rules.about(news.name)]
        says, following = self._how_far(mapped)
        return Explained(
            event_id=news.event_id,
            name=news.name,
            occurred_at=news.occurred_at,
            provider=news.provider_id,
            tenant=news.tenant,
            connection_id=news.connection_id,
            order_key=news.order_key,
            seq=news.seq,
            says=says,
            next=following,
            mapped=mapped,
            became=[_became(item) for item in self.items],
        )

    def _how_far(self, mapped: Sequence[Mapped]) -> tuple[str, str]:
        request, projection = self.found.request, self.found.projection
        if request is None:
            stands = f"the outbox has not passed it on: there it is {projection}"
            return stands, _NEXT["dead" if projection == "dead" else "waits"]
        if request == "unmapped" and mapped:
            return "no definition was about it when it was projected, and nothing comes of it: below is what would", ""
        if not mapped:
            return f"no definition is about {self.found.news.name!r}: nobody is told", _NEXT["unmapped"]
        if request == "pending":
            return "it waits to be expanded: whom it goes to is found out then", _NEXT["pending"]
        failed = [item for item in self.items if item.status in {"dead", "nobody"}]
        following = next_of(failed[0].status, failed[0].fingerprint) if failed else ""
        return "expanded: each message that came of it is below", following

    def _mapped(self, definition: Definition) -> Mapped:
        news = self.found.news
        audience = audience_of(definition, news)
        people = self.people[audience]
        unreached = [] if people else self._addressed(definition, [])
        return Mapped(
            definition=definition.id,
            pattern=next(each for each in definition.events if matches(news.name, [each])),
            file=str(self.kit.definitions.file_of(definition.id)),
            audience=f"{OWNER}, {audience}" if definition.audience == OWNER else audience,
            mode=definition.mode.value,
            channels=definition.channels,
            news_until=news.occurred_at + definition.relevant_for,
            old=self._old(definition),
            readers=[self._reader(definition, recipient) for recipient in people],
            nobody=next((each.failure.error for each in unreached if isinstance(each, Unreached)), ""),
        )

    def _old(self, definition: Definition) -> str:
        later = self.later.get(_key(definition, self.found))
        if later is not None:
            return f"{'collapsed into' if definition.is_about(later) else 'superseded by'} a later {later}"
        if self.found.news.occurred_at + definition.relevant_for <= self.now:
            return "it is no news any more"
        return ""

    def _reader(self, definition: Definition, recipient: Recipient) -> Reader:
        mine = [item for item in self.items if (item.definition, item.recipient) == (definition.id, recipient.key)]
        tried = {item.channel: item.status for item in mine if item.channel}
        # What was decided stands. What is still to be decided is so by what is known now.
        chosen = [] if mine else self._addressed(definition, [recipient])
        due = [item.due_at for item in mine if item.status == "pending"]
        due += [each.due_at for each in chosen if isinstance(each, Addressed)]
        rendered, mistake = self._rendered(definition, recipient)
        kept = rendered.kept() if rendered else {"subject": "", "text": ""}
        gone = "its invitation was answered, replaced, or has expired: not sent any more"
        return Reader(
            recipient=recipient.key,
            ways=ways(definition, recipient, self.shown, self.kit.rules.unready(), tried, chosen),
            due_at=min(due, default=None),
            subject=kept["subject"],
            text=kept["text"],
            mistake=mistake or (gone if rendered and rendered.has_link and not self.inviting else ""),
            unreached=next((each.failure.error for each in chosen if isinstance(each, Unreached)), ""),
        )

    def _addressed(self, definition: Definition, people: Sequence[Recipient]) -> list[Addressed | Unreached]:
        return addressed(definition, self.found.news, people, self.kit.rules.unready(), self.now)

    def _rendered(self, definition: Definition, recipient: Recipient) -> tuple[Rendered | None, str]:
        """What they would read; or what is wrong with the templates."""
        try:
            rendered = self.kit.composer.shown(definition, self.found.news, recipient.name, self.found.zone)
        except TemplateError as error:
            return None, str(error)
        self.html = self.html or rendered.kept()["html"]
        return rendered, ""


async def _read(session: AsyncSession, kit: Kit, found: Found) -> _Explanation:
    news, about = found.news, tuple(kit.rules.about(found.news.name))
    audiences = {audience_of(definition, news) for definition in about}
    people = await contact_addresses.of(session, audiences, quiet=kit.rules.quiet) if audiences else {}
    ids = {each for readers in people.values() for reader in readers for each in reader.addresses.values()}
    told = [relevance.Told(_key(definition, found), definition, news) for definition in about]
    return _Explanation(
        kit,
        found,
        await notification_dead.of_event(session, news.event_id),
        people,
        {each: row.shown for each, row in (await contact_addresses.rows_of(session, ids)).items()},
        await relevance.superseded(session, told),
        bool(news.session_id and await relevance.inviting(session, {news.session_id})),
        await notification_expand.now(session),
    )


def _key(definition: Definition, found: Found) -> UUID:
    return dispatch_id(found.news.event_id, definition.id, "", "")


def _became(item: Item) -> Became:
    alone = item.status == "retrying" or any(each.get("by") == _DELIVERY for each in item.history)
    return Became(
        id=item.id,
        definition=item.definition,
        recipient=item.recipient,
        channel=item.channel,
        status=item.status,
        attempts=item.attempts,
        cause=item.cause,
        error=item.error,
        workflow_id=item.workflow_id if alone else "",
    )


_DELIVERY: Final = "NotificationDeliveryWorkflow"


def _write(file: Path, html: str) -> None:
    """Raises StopError when there is none, or the file cannot be written."""
    if not html:
        raise StopError("there is no HTML of it: nobody would read it, or its definition has none")
    try:
        file.write_text(html)
    except OSError as error:
        raise StopError(f"--html {file}: {error.strerror}") from None
    err.print(f"The HTML is in {file}", markup=False)
