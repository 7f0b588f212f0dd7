"""Following a re-encryption: a bar on a terminal, the result, and Ctrl-C that leaves it to itself."""

import asyncio
from typing import Any, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from temporalio.client import WorkflowFailureError, WorkflowHandle

from integrations import temporal
from integrations.db import keys
from integrations.domain.keys import Reencrypted
from starters.reach import Reach
from starters.shell import FAILED, err, fail

AGAIN: Final = "`runbook keys reencrypt` joins it again."
_LOOK: Final = 0.5
"""Seconds between two counts of what is left, for the bar."""


async def followed(reach: Reach, handle: WorkflowHandle[Any, Reencrypted], key_id: str, total: int) -> Reencrypted:
    """The result. On Ctrl-C, how to come back and how to stop it: the rows are counted, so no worker is asked."""
    waiting = asyncio.ensure_future(handle.result())
    columns = (TextColumn("re-encrypting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
            shown = bar.add_task("", total=total)
            while not (await asyncio.wait({waiting}, timeout=_LOOK))[0]:
                if err.is_terminal:
                    async with reach.sessions.begin() as session:
                        bar.update(shown, completed=total - await keys.left(session, key_id))
        return await waiting
    except asyncio.CancelledError:
        at = temporal.target(reach.settings)
        where = f"--address {at.address} --namespace {at.namespace}"
        err.print(f"It goes on without you. {AGAIN} To stop it:", markup=False)
        err.print(f"\n  temporal workflow cancel --workflow-id {handle.id} {where}\n", markup=False)
        raise typer.Exit(130) from None
    except WorkflowFailureError as error:
        fail(f"the re-encryption was ended: {error.cause}. What it did stays done; run it again for the rest", FAILED)


def incomplete(result: Reencrypted) -> str:
    """What was left and why, in ids and words."""
    lines = [f"incomplete: {result.left:,} rows are not sealed with {result.key_id}"]
    if result.unopened.count:
        lines.append(f"{result.unopened.count:,} of them no key here opens; `runbook keys status` says what they need:")
        lines += [f"  {why}" for why in result.unopened.named]
    if result.left > result.unopened.count:
        lines.append("a process still seals with another key: give it the ring, then run this again")
    return "\n".join(lines)
