"""Where a data folder lies. Standard library only: `make clean` needs it without `.venv`."""

import hashlib
import os
from pathlib import Path

SHARED = Path("/var/tmp")  # noqa: S108 - the place for root's folders; each is checked for its owner before use
"""Holds root's folders: reachable for the account that PostgreSQL runs as, kept over a reboot, mode left alone."""


PURPOSES = ("demo", "bench")
"""Stacks that may run beside the default one, each in a folder of its own."""


def checkout() -> Path:
    """Return the folder above the `starters` package when it is a checkout, else the current folder."""
    above = Path(__file__).resolve().parents[2]
    return above if (above / "pyproject.toml").is_file() else Path.cwd()


def locate(explicit: Path | None = None, *, purpose: str = "") -> Path:
    """Return the absolute path of the data folder, which need not exist.

    `explicit` wins, then `RUNBOOK_DATA`, then `.runbook` in the checkout, or a folder under /var/tmp for root: a
    checkout in root's 0700 home cannot be reached by the account that PostgreSQL then runs as.
    `purpose`, one of PURPOSES, names a second stack beside the default one.
    """
    if explicit is not None:
        return explicit.expanduser().resolve()
    suffix = f"-{purpose}" if purpose else ""
    named = os.environ.get("RUNBOOK_DATA")
    folder = Path(named).expanduser().resolve() if named else default()
    return folder.with_name(folder.name + suffix)


def locations() -> list[Path]:
    """Return every folder that this checkout may have made: the default ones, and those that RUNBOOK_DATA names."""
    bases = [default()]
    if os.environ.get("RUNBOOK_DATA"):
        bases.append(locate())
    return [base.with_name(base.name + suffix) for base in bases for suffix in ("", *(f"-{p}" for p in PURPOSES))]


def default() -> Path:
    """Return where commands of this checkout look when nothing names another folder."""
    if os.geteuid() == 0:
        return SHARED / f"runbook-0-{short_hash(checkout())}"
    return checkout() / ".runbook"


def short_hash(path: Path) -> str:
    """Return ten hex digits that stand for a path."""
    return hashlib.sha256(str(path).encode()).hexdigest()[:10]
