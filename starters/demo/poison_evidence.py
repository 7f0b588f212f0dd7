"""Evidence of what became of events that could not be projected: ledger rows, and the moments of projections."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from integrations.db.session import Sessions
from starters.demo.check import Check, Name, judged
from starters.demo.evidence import rows, words


async def dead(sessions: Sessions, ids: Sequence[UUID]) -> list[dict[str, Any]]:
    sql = """SELECT cause, fingerprint, attempts FROM service_projector_ledger
      WHERE event_id = ANY(:ids) AND projector = 'activity' AND status = 'dead'"""
    return await rows(sessions, sql, ids=list(ids))


async def poison_isolated(sessions: Sessions, poison: Sequence[UUID], after: str, attempts: int) -> Check:
    """`after`: the name of the events that came later, on the same connections and on others. Before the replay."""
    buried = await dead(sessions, poison)
    asked = await rows(
        sessions, "SELECT 1 FROM service_notification_requests WHERE event_id = ANY(:ids)", ids=list(poison)
    )
    sql = """WITH dead AS (
        SELECT event.order_key, item.settled_at FROM service_projector_ledger AS item
        JOIN service_lifecycle_outbox AS event USING (event_id)
        WHERE event_id = ANY(:ids) AND projector = 'activity' AND item.status = 'dead')
      SELECT count(dead.order_key) AS behind, count(*) - count(dead.order_key) AS others,
        count(*) FILTER (WHERE made.projected_at < dead.settled_at) AS overtook,
        count(*) FILTER (WHERE dead.order_key IS NULL
          AND made.projected_at > (SELECT min(settled_at) FROM dead)) AS waited
      FROM service_activity_entries AS made LEFT JOIN dead USING (order_key) WHERE made.name = :name"""
    later = (await rows(sessions, sql, ids=list(poison), name=after))[0]
    return judged(
        Name.POISON_ISOLATED,
        {
            "each is dead, with its cause": len(buried) == len(poison) and all(row["cause"] for row in buried),
            "after all its attempts": {row["attempts"] for row in buried} == {attempts},
            "at that projector only": len(asked) == len(poison),
            "what came later on their connections waited": later["behind"] > 0 and not later["overtook"],
            "what came later on others did not": later["others"] > 0 and not later["waited"],
        },
        f"database: {len(buried)} dead after {words({row['attempts'] for row in buried})} attempts "
        f"({words({row['cause'] for row in buried})}); of {later['behind']} later events of their connections "
        f"{later['overtook']} were projected before that, of {later['others']} of others {later['waited']} only after "
        f"it; notification requests were made of all {len(asked)}",
    )


async def dead_replayed(sessions: Sessions, poison: Sequence[UUID], plan_id: UUID) -> Check:
    plans = await rows(sessions, "SELECT status, count, outcome FROM service_replay_plans WHERE id = :id", id=plan_id)
    items = await rows(
        sessions,
        "SELECT item.status, event.status AS of_event, jsonb_array_length(history) AS failed "
        "FROM service_projector_ledger AS item JOIN service_lifecycle_outbox AS event USING (event_id) "
        "WHERE event_id = ANY(:ids) AND projector = 'activity'",
        ids=list(poison),
    )
    made = await rows(
        sessions,
        "SELECT out_of_order, projected_at FROM service_activity_entries WHERE event_id = ANY(:ids) "
        "ORDER BY projected_at",
        ids=list(poison),
    )
    plan = plans[0]
    alone = len([row for row in made if row["projected_at"] == made[0]["projected_at"]]) == 1
    return judged(
        Name.DEAD_REPLAYED,
        {
            "the plan is done": plan["status"] == "done",
            "it froze these and no others": plan["count"] == len(poison),
            "each is projected": len(made) == len(poison),
            "one of them first": alone,
            "marked as out of order": all(row["out_of_order"] for row in made),
            "each is delivered, and so is its event": all(
                row["status"] == row["of_event"] == "delivered" for row in items
            ),
            "its failed attempts are still known": all(row["failed"] for row in items),
        },
        f"database: the plan of {plan['count']} is {plan['status']}; ledger {words({row['status'] for row in items})}, "
        f"events {words({row['of_event'] for row in items})}, after {words({row['failed'] for row in items})} failed "
        f"attempts; {len(made)} activity entries, {sum(row['out_of_order'] for row in made)} marked out of order",
    )
