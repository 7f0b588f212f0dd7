"""An entry's addresses at the simulator: the vendor's host becomes the first part of the path."""

import re
from typing import Final

from integrations.providers.entry import Call, Provider

_SCHEME: Final = re.compile(r"^https?://")
_ENDPOINTS: Final = ("authorize_url", "token_url", "revoke_url", "introspect_url")


def path(url: str) -> str:
    """`https://api.github.com/user` as the path that it has at the simulator."""
    return _SCHEME.sub("/", url)


def moved(entry: Provider, to: str) -> Provider:
    """The same entry with the simulator in every vendor's place."""
    urls = {name: url and to + path(url) for name in _ENDPOINTS for url in [getattr(entry, name)]}
    capabilities = {
        name: capability.model_copy(update={"call": _at(capability.call, to), "probe": _at(capability.probe, to)})
        for name, capability in entry.capabilities.items()
    }
    identity = entry.identity.model_copy(update={"url": to + path(entry.identity.url)})
    return entry.model_copy(update=urls | {"capabilities": capabilities, "identity": identity})


def _at(call: Call, to: str) -> Call:
    return call.model_copy(update={"url": to + path(call.url)})
