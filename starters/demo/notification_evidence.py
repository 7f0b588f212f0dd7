"""Evidence of what became of messages: what arrived at the inbox, the rows, and the workflows there were."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from temporalio.service import RPCError, RPCStatusCode

from integrations.db.session import Sessions
from integrations.domain.notification import idempotency_key
from starters.demo.check import Check, Name, judged
from starters.demo.contacts import INBOX
from starters.demo.evidence import rows, words
from starters.demo.scene import Scene
from starters.demo.terminal import runbook

FINE: Final = "nothing waits, nothing is dead"


async def messages(sessions: Sessions, events: Sequence[UUID]) -> list[dict[str, Any]]:
    """What was to be told of events, in their order."""
    sql = """SELECT item.* FROM service_notification_dispatches AS item
      JOIN unnest(cast(:ids AS uuid[])) WITH ORDINALITY AS event (id, n) ON event.id = item.event_id ORDER BY n"""
    return await rows(sessions, sql, ids=list(events))


def workflow_of(message: dict[str, Any]) -> str:
    return f"notification:{message['definition']}:{message['id']}"


async def backlog(sessions: Sessions) -> str:
    """What is neither delivered nor old, in a few words."""
    sql = """SELECT status, count(*) AS n FROM service_notification_dispatches
      WHERE status NOT IN ('delivered', 'dropped') GROUP BY status ORDER BY status"""
    return ", ".join(f"{row['n']} {row['status']}" for row in await rows(sessions, sql)) or FINE


async def status(scene: Scene) -> tuple[int, str]:
    """What `runbook notifications status` says: its exit code, and each trouble."""
    code, printed = await runbook(scene.stack, "notifications", "status", "--json")
    return code, "; ".join(trouble["what"] for trouble in json.loads(printed)["trouble"]) or "fine"


async def messages_given_up(scene: Scene, events: Sequence[UUID], attempts: int) -> Check:
    """While the inbox takes nothing, and before the replay."""
    buried = [message for message in await messages(scene.sessions, events) if message["status"] == "dead"]
    came = await _came(scene, buried)
    workflows = [await _existed(scene, workflow_of(message)) for message in buried]
    causes = {message["cause"] for message in buried}
    kept = [message for message in buried if message["rendered"] and message["rendered"].get("text")]
    return judged(
        Name.MESSAGES_GIVEN_UP,
        {
            "each is dead, all of one cause": len(buried) == len(events) and len(causes) == 1,
            "after all its attempts, each of which arrived": set(came.values()) == {attempts},
            "none was taken": not await _taken(scene, buried),
            "each had a workflow of its own": all(workflows),
            "what was to be said is kept": len(kept) == len(events),
        },
        f"inbox: {sum(came.values())} arrivals of {len(came)} messages, none taken; database: {len(buried)} dead of "
        f"{words(causes)}, {len(kept)} with their text; Temporal: {sum(workflows)} workflows",
    )


async def messages_replayed(scene: Scene, events: Sequence[UUID], plan_id: UUID) -> Check:
    sql = "SELECT status, count, outcome FROM service_replay_plans WHERE id = :id"
    plan = (await rows(scene.sessions, sql, id=plan_id))[0]
    found = await messages(scene.sessions, events)
    taken = await _taken(scene, found)
    waits, (code, says) = await backlog(scene.sessions), await status(scene)
    return judged(
        Name.MESSAGES_REPLAYED,
        {
            "the plan is done": plan["status"] == "done",
            "and all of it was delivered": (plan["outcome"] or {}).get("delivered") == plan["count"] >= len(events),
            "each is delivered": {message["status"] for message in found} == {"delivered"},
            "each was taken once": sorted(taken.values()) == [1] * len(events),
            "its failed attempts are still known": all(message["history"] for message in found),
            FINE: waits == FINE,
            "the status says so too": (code, says) == (0, "fine"),
        },
        f"inbox: {len(taken)} messages taken, {sum(count > 1 for count in taken.values())} of them twice; database: "
        f"the plan of {plan['count']} is {plan['status']}, {words({message['status'] for message in found})}; {waits}; "
        f"runbook notifications status: {says}",
    )


async def explained(scene: Scene, event_id: UUID) -> str:
    """What `runbook notifications explain` says of an event: what is told of it, to whom, by which channel."""
    _, printed = await runbook(scene.stack, "notifications", "explain", str(event_id), "--json")
    told = json.loads(printed)
    ways = [
        f"{definition['definition']} to {reader['recipient']} by {way['channel']} at {way['address']}"
        for definition in told["mapped"]
        for reader in definition["readers"]
        for way in reader["ways"]
        if way["address"]
    ]
    return f"{'; '.join(ways)}: {', '.join(dispatch['status'] for dispatch in told['became'])}"


async def _came(scene: Scene, told: Sequence[dict[str, Any]]) -> Counter[str]:
    """How often each of these messages arrived, taken or not."""
    keys = _keys(told)
    return Counter(
        each["idempotency_key"] for each in await scene.simulator.arrivals(INBOX) if each["idempotency_key"] in keys
    )


async def _taken(scene: Scene, told: Sequence[dict[str, Any]]) -> Counter[str]:
    keys = _keys(told)
    arrived = await scene.simulator.arrivals(INBOX)
    return Counter(each["idempotency_key"] for each in arrived if each["accepted"] and each["idempotency_key"] in keys)


def _keys(told: Sequence[dict[str, Any]]) -> set[str]:
    return {idempotency_key(each["event_id"], each["definition"], each["recipient"], each["channel"]) for each in told}


async def _existed(scene: Scene, workflow_id: str) -> bool:
    try:
        await scene.platform.temporal.get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True
