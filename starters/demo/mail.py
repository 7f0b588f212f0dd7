"""What arrived in the owner's mailbox, as its reader's program has it."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Self

from starters.demo.simulator import Simulator


@dataclass(frozen=True)
class Letter:
    number: int
    subject: str
    text: str
    html: str
    links: tuple[str, ...] = field(repr=False)
    """Where its HTML leads to, link by link."""

    @classmethod
    def of(cls, mail: dict[str, Any]) -> Self:
        html = mail["html"] or ""
        reader = _Links()
        reader.feed(html)
        return cls(mail["number"], mail["subject"], mail["text"] or "", html, tuple(reader.found))

    @property
    def asks(self) -> bool:
        """An invitation: it wants something to be pressed."""
        return bool(self.links)

    def without_links(self) -> str:
        """Its HTML for others to look at."""
        html = self.html
        for link in self.links:
            html = html.replace(link, f"{link.rsplit('/', 1)[0]}/(for Ada alone)")
        return html


async def letters(simulator: Simulator, mailbox: str) -> list[Letter]:
    """The oldest first."""
    return [Letter.of(mail) for mail in await simulator.mails(mailbox)]


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]
