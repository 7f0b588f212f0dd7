"""Ports on 127.0.0.1, the same again after a restart, so that links in mails stay good."""

import json
import random
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import psutil

from starters.embedded.errors import EmbeddedError
from starters.embedded.files import read_object, write_atomic

HOST = "127.0.0.1"
NAME = "ports.json"

CANDIDATES = range(20_000, 32_768)
"""Below the ports that Linux (32768) and macOS (49152) give to outgoing connections, so none slips in between."""


def choose_ports(folder: Path, asked: Mapping[str, int | None]) -> dict[str, int]:
    """Return a port per name: the one asked for, else the one used last time if it is free, else a new one.

    Remembers them in `ports.json`; call with the lock held. Raises EmbeddedError when a port asked for is taken.
    """
    remembered = read_object(folder / NAME) or {}
    chosen: dict[str, int] = {}
    with ExitStack() as held:
        for name, port in asked.items():
            if port is not None:
                chosen[name] = _hold_asked(held, name, port)
        for name in asked.keys() - chosen.keys():
            last = remembered.get(name)
            if isinstance(last, int) and _hold(held, last):
                chosen[name] = last
        for name in asked:
            if name not in chosen:
                chosen[name] = _hold_new(held)
    write_atomic(folder / NAME, json.dumps({**remembered, **chosen}, indent=1))
    return {name: chosen[name] for name in asked}


def free_port() -> int:
    """Return a port that nobody listens on now."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that nobody listens on now."""
    with ExitStack() as held:
        return [_hold_new(held) for _ in range(count)]


def _hold_asked(held: ExitStack, name: str, port: int) -> int:
    if not _hold(held, port):
        raise EmbeddedError(f"Port {port} for {name} is taken{_by(port)}; stop that, or ask for another port.")
    return port


def _hold_new(held: ExitStack) -> int:
    for port in random.sample(CANDIDATES, len(CANDIDATES)):
        if _hold(held, port):
            return port
    raise EmbeddedError(f"No port between {CANDIDATES.start} and {CANDIDATES.stop - 1} is free; stop some servers.")


def _hold(held: ExitStack, port: int) -> bool:
    """Bind the port until all are chosen, so that no two of a batch are the same; False when it is taken."""
    with ExitStack() as attempt:
        probe = attempt.enter_context(socket.socket())
        if probe.connect_ex((HOST, port)) == 0:
            return False  # macOS lets us bind beside a server that listens on every address
        listener = attempt.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # yesterday's connections do not count
        try:
            listener.bind((HOST, port))
            listener.listen()
        except (OSError, OverflowError):
            return False
        held.enter_context(listener)
        attempt.pop_all()
        probe.close()
    return True


def _by(port: int) -> str:
    """Name the process that listens there, when the system tells us."""
    try:
        connections = psutil.net_connections(kind="tcp")
        pids = {
            c.pid for c in connections if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port and c.pid
        }
        return "".join(f" by {psutil.Process(pid).name()} (pid {pid})" for pid in sorted(pids)[:1])
    except psutil.Error:
        return ""
