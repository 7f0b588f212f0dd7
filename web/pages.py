"""Pages: every one says what happened and what to do."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import structlog
from fastapi import Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates
from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from web.app import Platform

log = structlog.get_logger("web")
_TEMPLATES: Final = Jinja2Templates(directory=Path(__file__).parent / "templates")


def platform(request: Request) -> "Platform":
    return cast("Platform", request.app.state.platform)


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    return _TEMPLATES.TemplateResponse(request, template, values, status_code=status)


def sorry(request: Request, title: str, text: str, *, status: int) -> HTMLResponse:
    """The person in the browser did nothing wrong, or cannot know what: say what to do."""
    return page(request, "message.html", status=status, title=title, text=text)


async def not_understood(request: Request, _error: Exception) -> HTMLResponse:
    """A parameter that is none of ours. It is not repeated: it may be half of somebody's secret."""
    text = "Please check that the whole link was copied, or open your invitation again and press its button."
    return sorry(request, "This link is not complete", text, status=400)


async def not_there(request: Request, error: Exception) -> HTMLResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return sorry(request, "There is nothing here", "Please check that the whole link was copied.", status=status)


async def not_ready(request: Request, error: Exception) -> HTMLResponse:
    """Ours to fix: a missing client id, a wrong key. The reason is for the log, not for the owner."""
    log.error("page.not_ready", why=str(error))
    text = "Something on our side is not set up right; we were told. Please try again later: your link stays good."
    return sorry(request, "This does not work at the moment", text, status=503)


def broken(request: Request) -> HTMLResponse:
    """A bug of ours: the log has it."""
    text = (
        "Something on our side went wrong, and nothing is lost. Please reload this page in a while; if that does not "
        "help, open your invitation again: its link stays good."
    )
    return sorry(request, "This does not work at the moment", text, status=500)
