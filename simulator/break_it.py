"""The page on which people break this provider: plain forms, each of which says what will happen elsewhere."""

import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from urllib.parse import urlsplit

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from simulator import api, authorize, inbox_middleware, token_routes
from simulator.admin_grants import ScopesOrder
from simulator.break_forms import fault_order, settings_changes, settings_lines
from simulator.buttons import BUTTONS, Button
from simulator.fault_kinds import KINDS
from simulator.forms import Parameters, read_form
from simulator.identity import GRANT_TYPES
from simulator.pages import error_page, page
from simulator.problems import told
from simulator.provider import Provider, provider_of
from simulator.revocation import take_away
from simulator.scopes import SCOPES

ENDPOINTS = list(dict.fromkeys(route.path for room in (authorize, token_routes, api) for route in room.ROUTES))
ENDPOINTS.append(inbox_middleware.PREFIX)
ACCOUNTS_SHOWN, GRANTS_SHOWN, REQUESTS_SHOWN = 20, 5, 30


async def show(request: Request) -> Response:
    here = provider_of(request)
    return page(
        "break.html",
        app_name=here.config.client_name,
        links=here.config.links,
        accounts=[(account, _grants(here, account.account_id)) for account in here.accounts.first(ACCOUNTS_SHOWN)],
        hidden_accounts=max(0, here.accounts.count() - ACCOUNTS_SHOWN),
        buttons=BUTTONS,
        kinds=KINDS,
        endpoints=ENDPOINTS,
        grant_types=sorted(GRANT_TYPES),
        scopes=SCOPES,
        settings=settings_lines(here.settings.current),
        mailbox=here.mailbox,
        inbox=here.inbox.view(),
        faults=[fault.view() for fault in here.faults.listed()],
        requests=here.log.read(limit=REQUESTS_SHOWN)[::-1],
    )


def _grants(here: Provider, account_id: str) -> list[dict[str, object]]:
    return [grant.view() for grant in here.grants.newest_of(account_id, GRANTS_SHOWN)]


async def press(request: Request) -> Response:
    """Carry out one form, whichever, and show the page again."""
    action = ACTIONS.get(request.path_params["action"])
    if not _from_this_page(request):
        return error_page(HTTPStatus.FORBIDDEN, "Not from this page", "Another site sent this form. Nothing was done.")
    if action is None:
        return error_page(HTTPStatus.NOT_FOUND, "No such button", "Go back to the page and choose one that is there.")
    try:
        action(provider_of(request), await read_form(request))
    except ValidationError as error:
        return error_page(HTTPStatus.UNPROCESSABLE_ENTITY, "Nothing was changed", told(error.errors()))
    return RedirectResponse("/", HTTPStatus.SEE_OTHER)


def _order(button: Button, here: Provider, _form: Parameters) -> None:
    for order in button.orders:
        here.faults.add(order)


def _order_by_hand(here: Provider, form: Parameters) -> None:
    here.faults.add(fault_order(form))


def _heal(here: Provider, _form: Parameters) -> None:
    here.faults.lift_all()


def _lift(here: Provider, form: Parameters) -> None:
    here.faults.lift(form.get("fault_id") or "")


def _revoke(here: Provider, form: Parameters) -> None:
    take_away(here, time.time(), grant_id=form.get("grant_id") or "")


def _change_scopes(here: Provider, form: Parameters) -> None:
    order = ScopesOrder.model_validate({"grant_id": form.get("grant_id"), "scopes": form.datalist["scopes"]})
    here.grants.change_scope(order.grant_id, " ".join(order.scopes))


def _change_settings(here: Provider, form: Parameters) -> None:
    here.settings.change(settings_changes(form))


ACTIONS: dict[str, Callable[[Provider, Parameters], None]] = {
    **{button.name: partial(_order, button) for button in BUTTONS},
    "fault": _order_by_hand,
    "heal": _heal,
    "lift": _lift,
    "revoke": _revoke,
    "scopes": _change_scopes,
    "settings": _change_settings,
}


def _from_this_page(request: Request) -> bool:
    """Any page in the same browser can post forms to loopback; browsers tell whose page it was."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


ROUTES = [
    Route("/", show, methods=["GET"]),
    Route("/break", show, methods=["GET"]),
    Route("/break/{action}", press, methods=["POST"]),
]
