"""The admin API of the mails that were caught, for programs and for people, and what the mail server does wrong."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import HTMLResponse, JSONResponse, Response

from simulator.admin import Here
from simulator.mail_order import MailOrder
from simulator.mailbox import KEPT
from simulator.pages import error_page, page
from simulator.problems import refusal

Accept = Annotated[str, Header()]

OF_A_MAIL = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    # A mail is somebody else's page: no scripts, no forms, nothing from elsewhere, and none of this origin's rights.
    "Content-Security-Policy": (
        "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline';"
        " img-src data:; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
}

router = APIRouter(prefix="/admin/mail")


@router.get("", response_model=None)
async def list_mails(
    here: Here, accept: Accept = "", to: str | None = None, limit: Annotated[int, Query(ge=1, le=KEPT)] = KEPT
) -> Response:
    """The newest first, as a page for browsers."""
    mails, mailbox = [mail.summary() for mail in here.mailbox.newest(to, limit)], here.mailbox
    if _from_a_person(accept):
        return page("mails.html", address=mailbox.address, caught=mailbox.caught, mails=mails)
    return JSONResponse({"address": mailbox.address, "caught": mailbox.caught, "mails": mails})


@router.delete("")
async def empty_mailbox(here: Here) -> dict[str, int]:
    return {"forgotten": here.mailbox.empty()}


@router.post("/faults", status_code=201)
async def add_mail_fault(here: Here, order: MailOrder) -> dict[str, Any]:
    """Listed and lifted with all the others, under /admin/faults."""
    return here.faults.add(order).view()


@router.get("/{number}", response_model=None)
async def read_mail(here: Here, number: int, accept: Accept = "") -> Response:
    mail = here.mailbox.get(number)
    if mail is None:
        told = f"mail {number} is not among the newest {KEPT}"
        return error_page(HTTPStatus.NOT_FOUND, "No such mail", told) if _from_a_person(accept) else refusal(told, 404)
    return page("mail.html", mail=mail.view()) if _from_a_person(accept) else JSONResponse(mail.view())


@router.get("/{number}/html", response_model=None)
async def read_html(here: Here, number: int) -> Response:
    """Only what the mail itself says, as its reader's program would show it."""
    mail = here.mailbox.get(number)
    sent = mail.body("html") if mail else None
    if sent is None:
        return error_page(HTTPStatus.NOT_FOUND, "Nothing to show", f"There is no mail {number} with an HTML part.")
    return HTMLResponse(sent, headers=OF_A_MAIL)


def _from_a_person(accept: str) -> bool:
    return "text/html" in accept
