"""How a lifecycle ended, read from the other side: rows, the provider's log, Temporal's own description."""

import asyncio
from collections import Counter
from typing import Any

from temporalio.client import WorkflowExecutionStatus

from tests.chaos.account import Account

_LEFT = """
    SELECT status, lifecycle_id,
        (SELECT count(*) FROM service_operator_tasks t WHERE t.connection_id = c.id AND t.status <> 'closed') AS tasks,
        (SELECT count(*) FROM service_consent_sessions s WHERE s.connection_id = c.id
            AND s.status IN ('invited', 'received', 'exchanging', 'exchanged')) AS invitations,
        (SELECT count(*) FROM service_grant_events g WHERE g.connection_id = c.id AND g.handled_at IS NULL) AS unhandled
    FROM service_connections c WHERE id = :id"""
_INVITED = """
    SELECT count(*) AS rows, count(o.event_id) AS events FROM service_consent_sessions s
    LEFT JOIN service_lifecycle_outbox o ON o.event_id = s.id AND o.name = 'reauth.invited'
    WHERE s.lifecycle_id = (
        SELECT t.lifecycle_id FROM service_connection_transitions t
        WHERE t.connection_id = :id AND t.to_status = 'pending_reauth'
    )"""
_MOVES = """
    SELECT t.from_status, t.to_status, count(o.event_id) AS events FROM service_connection_transitions t
    LEFT JOIN service_lifecycle_outbox o ON o.event_id = t.event_id AND o.connection_id = t.connection_id
    WHERE t.connection_id = :id GROUP BY t.id, t.from_status, t.to_status ORDER BY t.id"""


async def repaired(account: Account, *, invitations: int = 1) -> None:
    """Repaired by the one code of its last invitation; those before it led nowhere, each after at most one send."""
    assert (await _result(account))["outcome"] == "repaired"
    states = await _states(account)
    active = [version for version, state in states.items() if state == "active"]
    assert len(active) == 1, states
    assert active[0] > account.version
    assert states[account.version] == "retired"
    assert set(states.values()) == {"active", "retired"}, states
    await _closed(account, "active")
    await _told_once(account)
    await _sent_once(account, sent=invitations)
    # The lifecycle's own: the first consent's is of another one.
    assert await _invited(account) == invitations


async def expired(account: Account) -> None:
    assert (await _result(account))["outcome"] == "expired"
    assert set((await _states(account)).values()) == {"retired"}
    await _closed(account, "disconnected")
    await _told_once(account)
    await _sent_once(account, sent=0)
    ended = "SELECT count(*) FROM service_consent_sessions WHERE connection_id = :id AND status = 'expired'"
    assert await account.ground.one(ended, id=account.id) == 1


async def _result(account: Account) -> dict[str, Any]:
    """What the workflow said at its end, which it came to by itself."""
    result = await asyncio.wait_for(account.handle.result(follow_runs=False), 60)
    assert (await account.handle.describe()).status is WorkflowExecutionStatus.COMPLETED
    assert isinstance(result, dict)
    return result


async def _states(account: Account) -> dict[int, str]:
    sql = "SELECT version, state FROM service_credentials WHERE connection_id = :id"
    return {row["version"]: row["state"] for row in await account.ground.rows(sql, id=account.id)}


async def _closed(account: Account, status: str) -> None:
    """The connection's status, and nothing left open: no lifecycle, task, invitation or detection."""
    found = await account.ground.rows(_LEFT, id=account.id)
    assert found == [{"status": status, "lifecycle_id": None, "tasks": 0, "invitations": 0, "unhandled": 0}]


async def _told_once(account: Account) -> None:
    """One event for each transition, and the connection's events are counted without a gap."""
    moves = await account.ground.rows(_MOVES, id=account.id)
    assert [move["events"] for move in moves] == [1] * len(moves), moves
    ways = [(move["from_status"], move["to_status"]) for move in moves]
    # Each goes on from where the one before led to, and none is there twice.
    assert [to for _, to in ways[:-1]] == [before for before, _ in ways[1:]], ways
    assert len(ways) == 3, ways
    sql = "SELECT seq FROM service_lifecycle_outbox WHERE connection_id = :id ORDER BY seq"
    seqs = [row["seq"] for row in await account.ground.rows(sql, id=account.id)]
    assert seqs == list(range(1, len(seqs) + 1))


async def _sent_once(account: Account, *, sent: int) -> None:
    codes = await account.ground.provider.codes()
    times = Counter(row["detail"]["token_fp"] for row in codes)
    assert set(times.values()) == {1}, times
    assert len(codes) - account.codes == sent


async def _invited(account: Account) -> int:
    """Invitations of the lifecycle, each with the event that tells of it."""
    (found,) = await account.ground.rows(_INVITED, id=account.id)
    assert found["rows"] == found["events"], found
    return int(found["rows"])
