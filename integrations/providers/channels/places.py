"""Where webhooks may go: anywhere on the internet by https, to this machine also by http, and not into our network.

Whoever gives us an address is not always one of ours. A name may lead to a database, or to a cloud's metadata service
(169.254.169.254), and a receiver may change where its name leads: so the rule is kept twice, for what is written when
an address is given, and for what its name resolves to at each connection.
"""

import socket
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address

from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver

from integrations.domain.mail import THIS_MACHINE


class InsideError(OSError):
    """A name leads into our own network."""


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is written as, in any of its spellings: `10.0.0.1`, `167772161`, `0x0a.1`."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def is_inside(address: IPv4Address | IPv6Address) -> bool:
    """Private, link-local, this machine, shared by carriers, multicast: whatever is no single place on the internet."""
    return not address.is_global or address.is_multicast


class Resolver(ThreadedResolver):
    """The system's, which names no address inside but for hosts that may be there."""

    def __init__(self, internal: Collection[str]) -> None:
        super().__init__()
        self._may_be_inside = THIS_MACHINE.union(internal)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        if host not in self._may_be_inside and any(is_inside(ip_address(one["host"])) for one in found):
            raise InsideError
        return found
