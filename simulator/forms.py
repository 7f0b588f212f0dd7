"""Query strings and form bodies, read the one way OAuth sends them (application/x-www-form-urlencoded)."""

from collections import defaultdict
from urllib.parse import parse_qsl

from authlib.oauth2.rfc6749 import OAuth2Payload
from starlette.requests import Request


class Parameters(OAuth2Payload):  # type: ignore[misc] # Authlib ships no types
    """Authlib's view of parameters; also tells which of them came more than once."""

    def __init__(self, encoded: bytes) -> None:
        self._pairs = parse_qsl(encoded.decode("latin-1"), keep_blank_values=True)
        # RFC 6749 section 3.1: a parameter without a value is treated as if it were omitted.
        self._data = {name: value for name, value in reversed(self._pairs) if value}

    @property
    def data(self) -> dict[str, str]:
        return self._data

    @property
    def datalist(self) -> defaultdict[str, list[str]]:
        values: defaultdict[str, list[str]] = defaultdict(list)
        for name, value in self._pairs:
            values[name].append(value)
        return values

    def get(self, name: str) -> str | None:
        return self._data.get(name)

    def repeated(self) -> str | None:
        return next((name for name, values in self.datalist.items() if len(values) > 1), None)


async def read_form(request: Request) -> Parameters:
    return Parameters(await request.body())
