"""The last act: nothing that is secret was written down anywhere. Histories, logs, rows and files are read for it."""

import asyncio
import base64
from pathlib import Path
from typing import ClassVar, Final

from temporalio.client import Client

from integrations.db.base import Base
from integrations.db.session import Sessions
from starters.demo.check import Check, Name, judged
from starters.demo.evidence import rows
from starters.demo.scene import Scene

_SOME: Final = 20


class Leaks:
    """Looks for every secret that there was."""

    proves: ClassVar[tuple[Name, ...]] = (Name.NO_SECRETS,)

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    async def play(self) -> None:
        """Every secret in every place."""
        scene, folder = self._scene, self._scene.stack.folder
        secrets = [*await scene.simulator.secrets(), *scene.secrets, *self._keys()]
        if scene.broken is Name.NO_SECRETS:
            leaked = next(secret for secret in secrets if secret.startswith("sim_at_"))
            with (scene.stack.logs() / "sabotage.log").open("w") as log:
                log.write(f"a token in a log: {leaked}\n")
        scene.tell("every token, code, verifier, state, link and address is looked for in histories, logs and rows …")
        scene.checks.append(
            await no_secrets(
                secrets, scene.platform.temporal, scene.sessions, scene.stack.logs(), folder / "temporal.sqlite"
            )
        )

    def _keys(self) -> list[str]:
        ring = self._scene.stack.settings.keys.ring()
        return [base64.b64encode(key).decode() for key in (ring.root, *ring.keys.values())]


async def no_secrets(secrets: list[str], client: Client, sessions: Sessions, logs: Path, temporal_file: Path) -> Check:
    """Look for each secret in every history, log, row and in the Temporal server's own file; in plain and in hex."""
    needles = [needle for secret in set(secrets) for needle in (secret.encode(), secret.encode().hex().encode())]
    places = await asyncio.to_thread(_files, logs, temporal_file)
    events = 0
    async for run in client.list_workflows():
        history = await client.get_workflow_handle(run.id, run_id=run.run_id).fetch_history()
        events += len(history.events)
        places[f"history of {run.id}"] = b"".join(event.SerializeToString() for event in history.events)
    counted = 0
    for table in Base.metadata.tables:
        dumped = await rows(sessions, f"SELECT t::text AS row FROM {table} t")  # noqa: S608 - our own table's name
        counted += len(dumped)
        places[f"table {table}"] = "\n".join(row["row"] for row in dumped).encode()
    leaks = sorted(place for place, content in places.items() if any(needle in content for needle in needles))
    return judged(
        Name.NO_SECRETS,
        {f"no secret in {', '.join(leaks)}": not leaks, "there were secrets to look for": len(needles) > _SOME},
        f"{len(needles) // 2} secrets looked for in {events:,} events of {_of(places, 'history')} histories, "
        f"{_of(places, 'log')} logs, {counted:,} rows of {_of(places, 'table')} tables and the Temporal server's file",
    )


def _files(logs: Path, temporal_file: Path) -> dict[str, bytes]:
    found = {f"log {log.name}": log.read_bytes() for log in logs.iterdir()}
    parts = temporal_file.parent.glob(temporal_file.name + "*")
    return found | {f"file {part.name}": part.read_bytes() for part in parts}


def _of(places: dict[str, bytes], kind: str) -> int:
    return sum(place.startswith(kind) for place in places)
