"""The other provider's API: every endpoint of the dialect, behind the scopes that it needs."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from simulator.api import authorized
from simulator.dialect import Dialect, Endpoint, WhoAmI
from simulator.places import put_all
from simulator.provider import provider_of
from simulator.tokens import AccessToken

PATH = "/api/dialect"


async def answer(request: Request) -> Response:
    endpoint, dialect = request.scope.get("simulator.endpoint"), provider_of(request).dialects.current
    if not isinstance(endpoint, Endpoint) or dialect is None:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    absent = [name for name, value in endpoint.headers.items() if request.headers.get(name) != value]
    if absent:
        problem = {"error": "invalid_request", "error_description": f"{absent[0]} is missing or another one"}
        return JSONResponse(problem, HTTPStatus.BAD_REQUEST)
    token = _authorized(request, endpoint)
    if isinstance(token, Response):
        return token
    if endpoint.answers == "page":
        return HTMLResponse("<html><body>A file that somebody wrote.</body></html>")
    return JSONResponse(_body(request, dialect, endpoint, token))


def _authorized(request: Request, endpoint: Endpoint) -> AccessToken | Response:
    verdict = authorized(request, None)
    for scopes in endpoint.needs:
        verdict = authorized(request, " ".join(scopes))
        if isinstance(verdict, AccessToken):
            break
    return verdict


def _body(request: Request, dialect: Dialect, endpoint: Endpoint, token: AccessToken) -> object:
    body = None
    if isinstance(endpoint, WhoAmI):
        account = provider_of(request).accounts.get(token.account_id)
        assert account is not None
        body = endpoint.told(account.account_id, account.name)
    return put_all(body, dialect.api_members) or {}


ROUTES = [Route(PATH, answer, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])]
