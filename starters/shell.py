"""What all commands share: exit codes, answers for people and for programs, and who asks.

Exit codes: 0 done; 1 a check failed or the work ended badly; 2 wrong usage; 3 Temporal or the database cannot be
reached. Answers go to stdout, everything else to stderr.
"""

import asyncio
import functools
import getpass
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, NoReturn, ParamSpec

import typer
from pydantic_core import to_jsonable_python
from rich.console import Console
from rich.table import Table
from temporalio.service import RPCError, RPCStatusCode

from integrations import observability
from integrations.domain.durations import EXAMPLES, duration
from integrations.domain.errors import RunbookError, WrongUsageError
from integrations.settings import SettingsError
from integrations.temporal import TemporalUnreachableError
from starters.embedded.errors import EmbeddedError

P = ParamSpec("P")
FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
_REASON_LIMIT: Final = 500
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry in passwd
        return "unknown"


Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
By = Annotated[str, typer.Option(help="Who asks. Kept with what is changed.", default_factory=_user)]
Reason = Annotated[str, typer.Option(help="Why. Kept with what is changed.")]


class UnreachableError(RunbookError):
    """Temporal or the database does not answer, or none is known."""


def command(run: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Make a command of a coroutine function: every expected error becomes a sentence and an exit code."""

    @functools.wraps(run)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        observability.configure(level="WARNING")
        try:
            asyncio.run(_awaited(run(*args, **kwargs)))
        except (TemporalUnreachableError, UnreachableError) as error:
            fail(str(error), UNREACHABLE)
        except (SettingsError, WrongUsageError) as error:
            fail(str(error), USAGE)
        except (RunbookError, EmbeddedError) as error:
            fail(str(error), FAILED)
        except RPCError as error:
            fail(f"Temporal: {error.message}", UNREACHABLE if error.status in _DOWN else FAILED)
        except KeyboardInterrupt:
            err.print("Interrupted. What was started goes on; `runbook status` shows it.")
            raise typer.Exit(130) from None

    return wrapped


_DOWN: Final = {RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED}


async def _awaited(running: Awaitable[None]) -> None:
    await running


def run(app: typer.Typer) -> NoReturn:
    """Run a command line and end the process with its exit code.

    Without the interpreter's own shutdown: the threads of Temporal's core may still call into it, and about one
    process in five that had a client then dies with SIGABRT after its answer (sdk-python #300).
    """
    code = 0
    try:
        app()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def fail(message: str, code: int) -> NoReturn:
    """Say what is wrong on stderr, as it is, and end with this exit code."""
    sys.stdout.flush()
    err.print(f"runbook: {message}", markup=False)
    raise typer.Exit(code)


def as_json(value: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(to_jsonable_python(value), indent=2) + "\n")


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, none: str) -> None:
    """A table, or the sentence that says that there is nothing to show."""
    if not rows:
        out.print(none)
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        shown.add_column(heading, overflow="fold")
    for row in rows:
        shown.add_row(*(_cell(value) for value in row))
    # What people wrote is shown as it is. Piped into a file or another program, rows are as long as they are.
    Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 240).print(shown)


def fields(pairs: Sequence[tuple[str, object]]) -> None:
    """A thing's fields, one a line."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        out.print(f"{name:<{width}}  {_cell(value)}", markup=False)


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(str(part) for part in value) or "-"
    return "-" if value is None or value == "" else str(value)


def moment(at: datetime) -> str:
    """UTC and the age: `2026-11-23 20:14:05 UTC (3 min ago)`."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({ago(datetime.now(UTC) - at)})"


def ago(age: timedelta) -> str:
    seconds = int(age.total_seconds())
    amount, tail = abs(seconds), "ago" if seconds >= 0 else "from now"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if amount >= size:
            return f"{amount // size} {unit} {tail}"
    return f"{amount} s {tail}"


def future(text: str) -> datetime:
    """A time to come: ISO 8601, local without an offset and then echoed in both, or `10d`, `12h`, `30m` from now."""
    try:
        return datetime.now(UTC) + duration(text)
    except ValueError:
        return _moment_of(text)


def _moment_of(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise WrongUsageError(f"{text[:80]!r} is no time: write 2026-12-24T08:00:00Z, or {EXAMPLES}") from None
    if at.tzinfo is None:
        at = at.astimezone()
        err.print(f"{at:%Y-%m-%d %H:%M %Z} is {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC", markup=False)
    return at.astimezone(UTC)


def past(text: str) -> datetime:
    """A time that was: ISO 8601, local without an offset and then echoed in both, or `2h`, `3d` ago."""
    try:
        return datetime.now(UTC) - duration(text)
    except ValueError:
        return _moment_of(text)


def because(reason: str | None, default: str) -> str:
    """The reason that is kept: the one given, or the command that was typed."""
    given = (reason or "").strip()
    if len(given) > _REASON_LIMIT:
        fail(f"--reason has {len(given)} characters, and {_REASON_LIMIT} are kept: say it shorter", USAGE)
    return given or default
