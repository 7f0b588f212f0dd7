"""Templates become messages: compiled once, shown an event, and refused when they name what is not there."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import jinja2
from jinja2 import StrictUndefined, Template, meta, nodes

from integrations.domain.errors import StopError
from integrations.domain.nearest import nearest
from integrations.domain.notification import LINK, Definition, News, Rendered
from integrations.providers.sandbox import ZONE, Fields, Sandbox, one_line, value_of

LIMIT: Final = 256 * 1024
"""Bytes of a message, all parts together: what mail servers, chats and webhooks' receivers take without a thought."""
PARTS: Final = ("subject", "text", "html")
_NAMES: Final = frozenset({"event", "payload", "provider", "owner", "connection", "recipient", "link"})
"""What every template is shown."""
_MADE: Final = frozenset({"subject", "text"})
"""What that of the HTML is shown beside: the parts that are made already."""
_NO_LINK: Final = StrictUndefined(hint="there is no `link`: only events of an invitation have one")
_NO_CONNECTION: Final = StrictUndefined(hint="there is no `connection`: the event is about none")
# What a template can come to while it is rendered, beside Jinja's own: a text plus a number, a list without an end.
_TROUBLE: Final = (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError)


class TemplateError(StopError):
    """A message cannot be made. Names the definition, the template, and what is missing or wrong there."""


class Renderer:
    """What each part of a message is made by. Holds every template that it met, compiled."""

    def __init__(self, definitions: Iterable[Definition] = ()) -> None:
        plain = Sandbox(escapes=False)
        self._sandboxes = {"subject": plain, "text": plain, "html": Sandbox(escapes=True)}
        self._compiled: dict[tuple[str, str], Template] = {}
        for definition in definitions:
            for part in PARTS:
                self._template(definition, part)

    def render(
        self,
        definition: Definition,
        news: News,
        recipient_name: str,
        zone: str,
        provider_name: str,
        *,
        html: bool = True,
    ) -> Rendered:
        """What a recipient reads, with LINK in place of a link. Raises TemplateError.

        `html`: whether there is anybody to see it, which takes as long as the rest together.
        """
        try:
            told = _shown(news, recipient_name, zone, provider_name)
        except _TROUBLE as error:
            raise TemplateError(f"{definition.id}: {news.name} cannot be shown to a template: {_said(error)}") from None
        subject, size = self._made(definition, "subject", told, 0)
        told["subject"] = " ".join(one_line(subject).split())
        if not told["subject"]:
            raise TemplateError(f"{definition.id}.subject: nothing is left of it but spaces")
        text, size = self._made(definition, "text", told, size)
        told["text"] = text = text.strip("\n") + "\n"
        if not html:
            return Rendered(told["subject"], text)
        laid_out, _ = self._made(definition, "html", told, size)
        return Rendered(told["subject"], text, laid_out)

    def mistakes(self, definition: Definition) -> Iterator[str]:
        """What can be seen to be wrong with the templates without an event: the part, and what it is."""
        for part in PARTS:
            try:
                self._template(definition, part)
            except TemplateError as error:
                yield str(error).removeprefix(f"{definition.id}.")
                continue
            tree = self._sandboxes[part].parse(getattr(definition, part))
            known = _NAMES | _MADE if part == "html" else _NAMES
            for name in sorted(meta.find_undeclared_variables(tree) - known):
                yield f"{part}: there is no `{name}`{nearest(name, known)}"
            if next(meta.find_referenced_templates(tree), _NAMES) is not _NAMES:
                yield f"{part}: a template stands alone: it can include, import and extend no other"
            if tree.find(nodes.EvalContextModifier):
                yield f"{part}: what is escaped is decided by the part, and not by `autoescape`"

    def _made(self, definition: Definition, part: str, told: dict[str, Any], size: int) -> tuple[str, int]:
        """One part, and the size of the message so far: what grows beyond all limits is left off in time."""
        template = self._template(definition, part)
        pieces: list[str] = []
        try:
            # Shared, a context is what it is given, and nothing of what Jinja gives to every template.
            for piece in template.root_render_func(template.new_context(told, shared=True)):
                size += len(piece) if piece.isascii() else len(piece.encode())
                if size > LIMIT:
                    break
                pieces.append(piece)
        except _TROUBLE as error:
            raise TemplateError(f"{definition.id}.{part}: {_said(error)}") from None
        if size > LIMIT:
            raise TemplateError(
                f"{definition.id}.{part}: the message has {size:,} bytes or more, and may have {LIMIT:,}: shorten what "
                "the template takes of `payload`, as by `| truncate(1000)`"
            )
        return "".join(pieces), size

    def _template(self, definition: Definition, part: str) -> Template:
        source: str = getattr(definition, part)
        found = self._compiled.get((part, source))
        if found is None:
            try:
                found = self._sandboxes[part].from_string(source)
            except jinja2.TemplateSyntaxError as error:
                raise TemplateError(f"{definition.id}.{part}: line {error.lineno}: {error.message}") from None
            self._compiled[part, source] = found
        return found


def _shown(news: News, recipient_name: str, zone: str, provider_name: str) -> dict[str, Any]:
    event = {
        "id": str(news.event_id),
        "name": news.name,
        "occurred_at": news.occurred_at,
        "provider_id": news.provider_id,
    }
    return {
        "event": Fields("event", event),
        "payload": Fields("payload", news.payload),
        "provider": value_of(provider_name, "provider"),
        "owner": value_of(news.tenant, "owner"),
        "connection": _NO_CONNECTION if news.connection_id is None else str(news.connection_id),
        "recipient": value_of(recipient_name, "recipient"),
        "link": _NO_LINK if news.session_id is None else LINK,
        ZONE: zone,
    }


def _said(error: Exception) -> str:
    return "it goes round without an end" if isinstance(error, RecursionError) else str(error)[:500]
