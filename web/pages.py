"""Pages: every one says what happened and what to do."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from fastapi import Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates

if TYPE_CHECKING:
    from web.app import Platform

_TEMPLATES: Final = Jinja2Templates(directory=Path(__file__).parent / "templates")


def platform(request: Request) -> "Platform":
    return cast("Platform", request.app.state.platform)


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    return _TEMPLATES.TemplateResponse(request, template, values, status_code=status)


def sorry(request: Request, title: str, text: str, *, status: int) -> HTMLResponse:
    """The person in the browser did nothing wrong, or cannot know what: say what to do."""
    return page(request, "message.html", status=status, title=title, text=text)
