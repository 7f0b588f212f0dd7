"""`runbook connections call`: one capability call through the gate."""

import json as jsonlib
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID, uuid4

import typer

from integrations.domain.durations import duration
from integrations.domain.errors import WrongUsageError
from starters.reach import changing, warn_without_worker
from starters.result import result_of
from starters.shell import FAILED, By, Json, Reason, as_json, because, command, err, fail, out
from workflows.queues import WORKFLOWS


@command
async def call(
    connection_id: UUID,
    capability: str,
    by: By,
    payload: str = typer.Option("{}", help="The body, as JSON. It stands in the workflow's history: no secrets."),
    key: str = typer.Option("", help="Idempotency key, for this very call and no other; default: a new one each time."),
    patience: str = typer.Option(
        "", help="For so long it waits for its provider before it is parked; RUNBOOK_JOB_PATIENCE, 1h."
    ),
    reason: Reason = "",
    waits_for: Annotated[
        float, typer.Option("--timeout", help="Seconds to wait for the end; the work itself goes on.")
    ] = 60.0,
    json: Json = False,
) -> None:
    """Call a capability through the gate. Exit code 1 when the gate or the provider says no.

    A provider that does not answer is waited for. When the patience is over the call is parked, and made when the
    provider is back.

    Example: runbook connections call 3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11 notes.write --payload '{"text":"hello"}'

    One that may be late by a day: runbook connections call ID notes.write --payload '{"text":"hello"}' --patience 1d
    """
    parked_after = _some_time(patience) if patience else None
    async with changing() as reach:
        platform = await reach.platform()
        handle = await platform.call(
            connection_id,
            capability,
            key=key or str(uuid4()),
            payload=_payload(payload),
            by=by,
            reason=because(reason, "runbook connections call"),
            parked_after=parked_after,
        )
        await warn_without_worker(platform.temporal, WORKFLOWS)
        if waits := await platform.parked(handle.id):
            err.print(f"{handle.id} is {waits.words}", markup=False)
        result = await result_of(reach, handle, waits_for)
    if json:
        as_json(result)
    elif result.meaning is None:
        out.print(f"{result.decision.answer}: {result.decision.reason}")
    else:
        out.print(f"{result.decision.answer}, then {result.meaning}: {result.because}")
        if result.body is not None:
            out.print_json(data=result.body)
    if not result.done:
        raise typer.Exit(FAILED)


def _payload(text: str) -> dict[str, Any]:
    try:
        value = jsonlib.loads(text)
    except ValueError as error:
        fail(f"--payload is not JSON: {error}", 2)
    if not isinstance(value, dict):
        fail('--payload must be a JSON object, for example {"text": "hello"}', 2)
    return dict(value)


def _some_time(text: str) -> timedelta:
    try:
        given = duration(text)
    except ValueError as error:
        raise WrongUsageError(f"--patience {error}") from None
    if not given:
        raise WrongUsageError(f"--patience {text}: it has to be longer than nothing, as 30m, 1h or 2d")
    return given
