"""What can be done to a connection, whatever is spoken on it."""

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from simulator.faults import Fault

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER: on, for no time at all."""


def reset(transport: asyncio.Transport) -> None:
    """Cut it with a RST, as a crashed host or an impatient firewall does."""
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    transport.abort()


@contextmanager
def held(fault: Fault[Any], transport: asyncio.Transport) -> Iterator[None]:
    """Whatever takes long in here ends when its time is up or the fault is lifted: the connection is cut then."""
    timer = asyncio.get_running_loop().call_later(fault.order.seconds_hold, transport.abort)
    fault.held.add(transport.abort)
    try:
        yield
    finally:
        fault.held.discard(transport.abort)
        timer.cancel()
