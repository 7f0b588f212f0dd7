"""May a ledger have more dispatchers? Only when the database they all work in can do more than it does."""

from typing import Final

from integrations.domain.message import Message

_MOSTLY: Final = 0.6
"""The share of a drain's work that waits for the disk or a lock: beyond it more dispatchers wait with it."""
_BUSY: Final = 0.5
"""Drain sessions at work, on average, for their waits to say anything: an idle drain's few looks do not."""


class Load(Message):
    """What the database did while it was looked at: sessions that work are on the CPU, or wait for disk or a lock.

    Sessions that wait for their client, a timer (`pg_sleep`) or another process cost the database nothing.
    """

    seconds: float
    looks: int
    working: float
    """Sessions at work, on average over all looks."""
    drain_active: int
    """How often a drain's session was seen in a statement, waiting for a timer included."""
    drain_waiting: int
    """How often of these it waited for the disk or a lock."""
    waits_for: str = ""
    """What for, mostly: `IO:WalSync`."""
    free_connections: int
    """That the server still accepts."""
    hidden: int = 0
    """Sessions of other roles that could not be looked into, at most."""


def verdict(load: Load, cores: int | None, *, more: int) -> str | None:
    """Why `more` dispatchers would gain nothing, with what was measured; None when they may.

    `cores`: of the database's machine, None when nobody knows.
    """
    seen = f"over {load.seconds:.1f} s ({load.looks} looks)"
    if load.free_connections < more:
        return (
            f"each dispatcher needs a connection, and of {more} more the server accepts {max(0, load.free_connections)}"
            " (max_connections)"
        )
    if cores is not None and load.working >= cores:
        return f"the database is saturated: {load.working:.1f} sessions worked on its {cores} cores {seen}"
    busy = load.drain_active >= _BUSY * load.looks > 0
    if busy and load.drain_waiting >= _MOSTLY * load.drain_active:
        share = load.drain_waiting / load.drain_active
        what = f", mostly {load.waits_for}" if load.waits_for else ""
        return f"the drain waits for the database: {share:.0%} of its work for disk or locks{what}, {seen}"
    return None
