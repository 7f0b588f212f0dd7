"""HTML: templates, escaped, with headers that keep them out of frames and caches."""

from http import HTTPStatus
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

HEADERS = {
    "Cache-Control": "no-store",
    # Authorization requests carry a state in their address, which is nobody else's to see.
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    # No form-action: browsers apply it to the redirect after the consent form too, which leads to the application.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
}

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
)


def page(template: str, status: HTTPStatus = HTTPStatus.OK, **context: object) -> HTMLResponse:
    return HTMLResponse(_templates.get_template(template).render(context), status, HEADERS)


def error_page(status: HTTPStatus, title: str, text: str) -> HTMLResponse:
    return page("error.html", status, title=title, text=text)
