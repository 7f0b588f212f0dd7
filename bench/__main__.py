"""`python -m bench [NAME...]`: run the benchmarks whose names begin so, print a table, write `bench/results.json`."""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import (
    notification,
    outbox_drain,
    outbox_idle,
    outbox_replay,
    outbox_trouble,
    reauth_callback,
    reauth_start,
    refresh,
    refresh_recording,
    webhook,
)
from bench.neighbours import Neighbours
from bench.result import Result, tell
from bench.stage import Stage, staged

Benchmark = Callable[[Stage], Awaitable[Sequence[Result]]]
BENCHMARKS: Final[Mapping[str, tuple[Benchmark, int]]] = {
    "reauth.callback_one": (reauth_callback.one, reauth_callback.ONE.items),
    "reauth.callback_fifty": (reauth_callback.fifty, reauth_callback.FIFTY.items),
    "reauth.start": (reauth_start.start, reauth_start.PLAN.items),
    "outbox.drain": (outbox_drain.drain, 2 * outbox_drain.TURNS * outbox_drain.EVENTS),
    "outbox.drain_10x": (outbox_drain.drain_10x, 2 * outbox_drain.MANY),
    "outbox.replay": (outbox_replay.replay, 3 * outbox_replay.EVENTS),
    "outbox.idle": (outbox_idle.idle, outbox_idle.EVENTS),
    "outbox.held": (outbox_trouble.held, 2 * outbox_trouble.TURNS * outbox_trouble.BURST),
    "outbox.scale": (outbox_trouble.scale, 2 * outbox_trouble.SLOW),
    "refresh.sweep": (refresh.sweep, 2 * (refresh.DUE + refresh.WARM_UP)),
    "notification.send": (notification.send, 2 * notification.TURNS * notification.SENT),
    "notification.flaky": (notification.flaky, 3 * notification.TURNS * notification.FLAKY),
    "refresh.recording": (refresh_recording.cost, 2 * refresh_recording.TURNS * refresh_recording.CALLS),
    "webhook.ingress": (webhook.ingress, 4 * webhook.TURNS * webhook.SENT),
    "webhook.million": (webhook.million, 4 * webhook.TURNS * webhook.SENT),
}
RESULTS: Final = Path(__file__).with_name("results.json")
WRONG_USAGE: Final = 2
INTERRUPTED: Final = 130


def chosen(names: Sequence[str]) -> list[str]:
    """The benchmarks whose names begin with one of `names`; all of them when there are none."""
    return [known for known in BENCHMARKS if not names or known.startswith(tuple(names))]


async def measured(names: Sequence[str], scale: float, console: Console) -> list[Result]:
    results: list[Result] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        for name in names:
            run, items = BENCHMARKS[name]
            task = bar.add_task(name, total=round(items * scale))
            async with staged(scale, lambda done, task=task: bar.advance(task, done)) as stage:  # type: ignore[misc]
                results += await run(stage)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"the beginning of one of: {', '.join(BENCHMARKS)}")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="0.05: only to see that it runs, its numbers say nothing"
    )
    asked = parser.parse_args()
    names = chosen(asked.names)
    if not names:
        print(
            f"no benchmark begins with {' or '.join(asked.names)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr
        )
        return WRONG_USAGE
    # It fills a database: it must never hear of any but the one that it started itself.
    for variable in [name for name in os.environ if name.startswith(("RUNBOOK_", "TEMPORAL_"))]:
        del os.environ[variable]
    started, neighbours = time.monotonic(), Neighbours()
    try:
        results = asyncio.run(measured(names, asked.scale, Console(stderr=True)))
    except KeyboardInterrupt:
        return INTERRUPTED
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 240)
    code = tell(results, RESULTS, out)
    share = f"other programs took {neighbours.share():.0%} of the processors meanwhile"
    out.print(f"{time.monotonic() - started:.0f} s; {share}; also in {RESULTS}", soft_wrap=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
