"""What an answer of a provider means, asked by hand."""

import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

import httpx
import typer

from integrations.domain.answer import hear
from integrations.domain.errors import WrongUsageError
from integrations.domain.verdict import Endpoint, Heard, Trouble, judge, row_of
from starters.known import known_providers
from starters.shell import Json, as_json, command, fields


class Silence(StrEnum):
    """What can go wrong below HTTP, in words that a person finds in an error's text."""

    DNS = "dns"
    TLS = "tls"
    REFUSED = "refused"
    CONNECT_TIMEOUT = "connect-timeout"
    READ_TIMEOUT = "read-timeout"
    RESET = "reset"
    CUT = "cut"


_SILENCE: Final = {
    Silence.DNS: (Trouble.NOT_SENT, "DnsFailure"),
    Silence.TLS: (Trouble.NOT_SENT, "TlsFailure"),
    Silence.REFUSED: (Trouble.NOT_SENT, "ConnectError"),
    Silence.CONNECT_TIMEOUT: (Trouble.NOT_SENT, "ConnectTimeout"),
    Silence.READ_TIMEOUT: (Trouble.LOST, "ReadTimeout"),
    Silence.RESET: (Trouble.LOST, "ReadError"),
    Silence.CUT: (Trouble.LOST, "RemoteProtocolError"),
}
"""As integrations.providers.http tells them."""


@command
async def verdict(
    provider: str,
    status: int | None = typer.Option(None, min=100, max=599, help="The answer's HTTP status."),
    body: str = typer.Option("", help="Its body; @FILE reads a file, - the standard input."),
    header: list[str] = typer.Option([], help='One of its headers, as "Retry-After: 60"; may be given again.'),
    silence: Silence | None = typer.Option(None, help="No answer came: what happened instead."),
    endpoint: Endpoint = typer.Option(Endpoint.TOKEN, help="Who answered: the token endpoint or the API."),
    json: Json = False,
) -> None:
    """Say what an answer means, which rule says so, who must act, and what to do.

    Example: runbook providers verdict github --status 503 --body '{"error":"invalid_grant"}'

    Without an answer: runbook providers verdict github --silence read-timeout
    """
    known = known_providers().provider(provider)
    if (status is None) is (silence is None):
        raise WrongUsageError("give --status for an answer, or --silence when there was none")
    if silence is not None:
        trouble, kind = _SILENCE[silence]
        heard = Heard(trouble=trouble, trouble_kind=kind)
    else:
        heard, _ = hear(status or 0, _headers(header), _bytes(body), known.reading, now=datetime.now(UTC))
    found = judge(heard, known.vocabulary, endpoint)
    row = row_of(found.rule)
    assert row is not None
    if json:
        as_json({"provider": known.id, "endpoint": endpoint, "heard": heard, "verdict": found, "row": row[0]})
        return
    fields(
        [
            ("verdict", found.meaning),
            ("because", found.because),
            ("rule", f"{found.rule} (row {row[0]} of {row[1]}; the first that matches decides)"),
            ("wait", f"{found.after.total_seconds():.0f} s, as the provider asks" if found.after else None),
            ("who acts", found.todo),
        ]
    )


def _headers(given: list[str]) -> httpx.Headers:
    pairs = [text.partition(":") for text in given]
    for name, found, _ in pairs:
        if not found or not name.strip():
            raise WrongUsageError(f'--header {name[:80]!r} is no header: write it as "Retry-After: 60"')
    return httpx.Headers([(name.strip(), value.strip()) for name, _, value in pairs])


def _bytes(body: str) -> bytes:
    if body == "-":
        return sys.stdin.buffer.read()
    if not body.startswith("@"):
        return body.encode()
    try:
        return Path(body[1:]).read_bytes()
    except OSError as error:
        raise WrongUsageError(f"--body {body}: {error.strerror}") from None
