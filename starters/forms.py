"""The forms of a web page, as a browser sees them."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

import httpx


@dataclass
class Form:
    action: str
    method: str
    fields: list[tuple[str, str]] = field(default_factory=list)


class _Forms(HTMLParser):
    """The forms of a page, with the fields that a browser would send: hidden ones and ticked boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append(Form(values.get("action", ""), values.get("method", "get")))
        elif tag == "input" and self.found and "name" in values and _is_sent(values):
            self.found[-1].fields.append((values["name"], values.get("value", "")))


def _is_sent(values: dict[str, str]) -> bool:
    return values.get("type") not in {"checkbox", "radio"} or "checked" in values


def first_form(page: httpx.Response) -> Form:
    parser = _Forms()
    parser.feed(page.text)
    if not parser.found:
        raise RuntimeError(f"{page.url.path} has no form: {page.status_code}")
    return parser.found[0]
