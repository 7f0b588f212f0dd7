"""Evidence of what became of webhooks: what the provider was answered, the rows, and the events they became."""

import json
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from integrations.db.session import Sessions
from integrations.domain.webhook import Reason
from starters.demo.check import Check, Name, judged
from starters.demo.evidence import rows, words
from starters.demo.scene import Scene

ADDED: Final = "note.added"
FORGED: Final = "note.forged"
CHANGED: Final = "note.changed"
IMPORTED: Final = "note.imported"
_REVOKED: Final = "grant.revoked"
FORGERIES: Final = {Reason.WRONG, Reason.STALE, Reason.MISSING}
"""Why a delivery that was tampered with, a stale one and one without a signature are refused."""
_EVENTS: Final = """SELECT payload ->> 'delivery' AS delivery, payload -> 'replay' AS replay, connection_id
  FROM service_lifecycle_outbox WHERE name = 'webhook.received' AND payload ->> 'event' = :kind"""


async def deliveries(sessions: Sessions, kind: str) -> list[dict[str, Any]]:
    """In the order in which they came."""
    sql = """SELECT *, convert_from(body, 'UTF8') AS said FROM service_webhook_deliveries
      WHERE event = :kind ORDER BY position"""
    return await rows(sessions, sql, kind=kind)


async def refusals(sessions: Sessions) -> dict[str, int]:
    sql = """SELECT reason, sum(count)::int AS n FROM service_webhook_refusals
      WHERE provider_id = 'simulator' AND channel = 'app' GROUP BY reason ORDER BY reason"""
    return {row["reason"]: row["n"] for row in await rows(sessions, sql)}


async def webhooks_once(scene: Scene, distinct: int, repeats: int) -> Check:
    sent, forged = await scene.simulator.sent(ADDED), await scene.simulator.sent(FORGED)
    taken = await deliveries(scene.sessions, ADDED)
    sql = """SELECT count(*) AS n FROM service_webhook_repeats
      JOIN service_webhook_deliveries USING (provider_id, channel, delivery_id) WHERE event = :kind"""
    repeated = (await rows(scene.sessions, sql, kind=ADDED))[0]["n"]
    told = [event["delivery"] for event in await rows(scene.sessions, _EVENTS, kind=ADDED)]
    twice, missing = len(told) - len(set(told)), len({str(row["id"]) for row in taken} - set(told))
    refused = await refusals(scene.sessions)
    return judged(
        Name.WEBHOOKS_ONCE,
        {
            "the provider was told that each was taken": sent["statuses"] == {"200": distinct + repeats},
            "each is one row, handled": len(taken) == distinct and {row["status"] for row in taken} == {"delivered"},
            "duplicates are counted exactly": repeated == repeats,
            "each became one event": not twice and not missing,
            "what proves nothing was refused": forged["statuses"] == {"401": len(FORGERIES)},
            "and left no row": not await deliveries(scene.sessions, FORGED),
            "each for its own reason": refused.keys() >= FORGERIES,
        },
        f"simulator: {sent['deliveries']} sent with {sent['webhook_ids']} ids, answered {_counted(sent['statuses'])}, "
        f"and {forged['deliveries']} forged ones, answered {_counted(forged['statuses'])}; "
        f"database: {len(taken)} rows, {repeated} duplicates, {len(told)} events ({missing} missing, {twice} twice); "
        f"refused: {_counted(refused)}",
    )


async def revocation_told(scene: Scene, connection_id: UUID, account: str, revoked_at: datetime) -> Check:
    sent = await scene.simulator.sent(_REVOKED)
    asked = [
        request
        for request in await scene.simulator.requests("/oauth/token", after=revoked_at)
        if request["account_id"] == account
    ]
    status = await rows(scene.sessions, "SELECT status FROM service_connections WHERE id = :id", id=connection_id)
    sql = """SELECT noticed_at, actor, evidence ->> 'delivery' AS delivery, handled_at FROM service_grant_events
      WHERE connection_id = :id AND kind = 'revoked'"""
    detected = await rows(scene.sessions, sql, id=connection_id)
    taken = await deliveries(scene.sessions, _REVOKED)
    invited = await rows(
        scene.sessions, "SELECT status FROM service_consent_sessions WHERE connection_id = :id", id=connection_id
    )
    at_once = [row for row in taken for found in detected if row["settled_at"] == found["noticed_at"]]
    return judged(
        Name.REVOCATION_TOLD,
        {
            "the provider told it once, and was answered": sent["statuses"] == {"200": 1},
            "no refresh found it out": not asked,
            "the connection is pending_reauth": status == [{"status": "pending_reauth"}],
            "detected by that delivery": [found["delivery"] for found in detected] == [str(row["id"]) for row in taken],
            "effect and settle are one transaction": len(at_once) == 1,
            "its owner is invited": len(invited) == 1,
        },
        f"simulator: {sent['deliveries']} sent, {len(asked)} refreshes since; database: connection "
        f"{words(row['status'] for row in status)}, detected by {words(found['actor'] for found in detected)}; "
        f"delivery {words(row['handled_as'] for row in taken)}, settled by the transaction that began at "
        f"{words(row['settled_at'].strftime('%H:%M:%S.%f') for row in at_once)}; {len(invited)} invitation",
    )


async def burst_coalesced(scene: Scene, sent: int) -> tuple[Check, int]:
    """And how many were handled."""
    taken = await deliveries(scene.sessions, CHANGED)
    told = [event["delivery"] for event in await rows(scene.sessions, _EVENTS, kind=CHANGED)]
    handled = [row for row in taken if row["status"] == "delivered"]
    folded = [row for row in taken if row["status"] == "coalesced"]
    at = {row["id"]: row["position"] for row in handled}
    last = json.loads(handled[-1]["said"])["data"]["number"] if handled else 0
    check = judged(
        Name.BURST_COALESCED,
        {
            "each change came": len(taken) == sent,
            "most were folded": len(folded) > len(handled) > 0,
            "the last change was handled": last == sent and handled[-1] is taken[-1],
            "each names a later one that was": all(at.get(row["folded_into"], 0) > row["position"] for row in folded),
            "what was handled became one event each": sorted(told) == sorted(str(row["id"]) for row in handled),
        },
        f"database: {len(taken)} came, {len(folded)} coalesced, {len(handled)} handled, the last of them number "
        f"{last}; {len(told)} events",
    )
    return check, len(handled)


async def webhooks_replayed(scene: Scene, plan_id: UUID, dead: int, attempts: int) -> Check:
    """`dead`: how many died, after so many attempts each."""
    sql = "SELECT status, count FROM service_replay_plans WHERE id = :id"
    [plan] = await rows(scene.sessions, sql, id=plan_id)
    taken = await deliveries(scene.sessions, IMPORTED)
    told = await rows(scene.sessions, _EVENTS, kind=IMPORTED)
    settled = [row["settled_at"] for row in taken]
    failed = [len(row["history"] or ()) for row in taken]
    return judged(
        Name.WEBHOOKS_REPLAYED,
        {
            "the plan is done": plan["status"] == "done",
            "it froze these and no others": plan["count"] == len(taken) == dead,
            "each is delivered": {row["status"] for row in taken} == {"delivered"},
            "one of them first": settled.count(min(settled)) == 1,
            "each became one event": sorted(event["delivery"] for event in told)
            == sorted(str(row["id"]) for row in taken),
            "marked as a replay": all(event["replay"] for event in told),
            "its failed attempts are still known": set(failed) == {attempts},
        },
        f"database: the plan of {plan['count']} is {plan['status']}; deliveries "
        f"{words({row['status'] for row in taken})}, after {words(set(failed))} failed attempts; {len(told)} events, "
        f"{sum(bool(event['replay']) for event in told)} marked as a replay",
    )


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} ({n})" for name, n in counts.items())
