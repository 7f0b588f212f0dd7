"""The page on which people break this provider: plain forms, each of which says what will happen elsewhere."""

import time
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from simulator.faults import FaultOrder
from simulator.forms import read_form
from simulator.pages import error_page, page
from simulator.provider import Provider, provider_of

ACCOUNTS_SHOWN, GRANTS_SHOWN, REQUESTS_SHOWN = 20, 5, 30


@dataclass(frozen=True, slots=True)
class Button:
    name: str
    label: str
    effect: str
    """What the platform on the other side will see, and what it must not do about it."""
    order: FaultOrder


BUTTONS = (
    Button(
        "outage",
        "503 for 60 s",
        "Every call is answered 503, the next refresh too. That is an outage and says nothing about any grant:"
        " calls wait and are tried again, and no connection may be demoted.",
        FaultOrder(kind="status", status=503, seconds=60),
    ),
    Button(
        "hang",
        "Hang for 60 s",
        "Connections are accepted and nothing is ever answered. Calls must run into their own timeouts, other"
        " providers must not slow down, and no connection may be demoted.",
        FaultOrder(kind="hang", seconds=60, seconds_hold=60),
    ),
    Button(
        "drop",
        "Drop the next rotation",
        "The next refresh is carried out, but its answer is lost: this side has new tokens that nobody received."
        " Sent again within the grace period, the old token is answered with the same new pair; later, it looks"
        " stolen and the whole grant is revoked.",
        FaultOrder(kind="drop", path="/oauth/token", method="POST", grant_type="refresh_token", count=1),
    ),
)


async def show(request: Request) -> Response:
    here = provider_of(request)
    return page(
        "break.html",
        app_name=here.config.client_name,
        links=here.config.links,
        accounts=[(account, _grants(here, account.account_id)) for account in here.accounts.first(ACCOUNTS_SHOWN)],
        hidden_accounts=max(0, here.accounts.count() - ACCOUNTS_SHOWN),
        buttons=BUTTONS,
        faults=[fault.view() for fault in here.faults.listed()],
        requests=here.log.read(limit=REQUESTS_SHOWN)[::-1],
    )


def _grants(here: Provider, account_id: str) -> list[dict[str, object]]:
    return [grant.view() for grant in here.grants.newest_of(account_id, GRANTS_SHOWN)]


async def press(request: Request) -> Response:
    """Carry out one form, whichever, and show the page again."""
    here, form, action = provider_of(request), await read_form(request), request.path_params["action"]
    orders = {button.name: button.order for button in BUTTONS}
    if not _from_this_page(request):
        return error_page(HTTPStatus.FORBIDDEN, "Not from this page", "Another site sent this form. Nothing was done.")
    if action in orders:
        here.faults.add(orders[action])
    elif action == "heal":
        here.faults.lift_all()
    elif action == "lift":
        here.faults.lift(form.get("fault_id") or "")
    elif action == "revoke":
        here.grants.revoke(time.time(), grant_id=form.get("grant_id") or "")
    else:
        return error_page(HTTPStatus.NOT_FOUND, "No such button", "Go back to the page and choose one that is there.")
    return RedirectResponse("/", HTTPStatus.SEE_OTHER)


def _from_this_page(request: Request) -> bool:
    """Any page in the same browser can post forms to loopback; browsers tell whose page it was."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


ROUTES = [
    Route("/", show, methods=["GET"]),
    Route("/break", show, methods=["GET"]),
    Route("/break/{action}", press, methods=["POST"]),
]
