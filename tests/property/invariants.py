"""What holds whatever happened, read in plain SQL, from Temporal's own view and from the provider's log.

`broken` is never true, not for a moment. `restless` passes by itself, within a bound.
"""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace

from sqlalchemy import text

from tests.property.person import Subject
from tests.property.world import PROVIDER, World

# DESIGN.md, section 7. Written down once more, so that a wrong table in the product is found.
EDGES = {
    "active": {"pending_reauth", "needs_reconsent", "errored", "disconnected"},
    "pending_reauth": {"active", "needs_reconsent", "disconnected"},
    "needs_reconsent": {"active", "pending_reauth", "disconnected"},
    "errored": {"active", "pending_reauth", "disconnected"},
    "disconnected": {"active"},
}
BLOCKED = {"pending_reauth", "needs_reconsent"}
UNDER_WAY = {"received", "exchanging", "exchanged"}
OK = 200

_QUERIES = {
    "connection": "SELECT status, lifecycle_id, seq FROM service_connections WHERE id = :id",
    "transitions": """
        SELECT t.from_status, t.to_status, count(o.event_id) AS events,
            count(*) FILTER (WHERE o.payload->>'from' = t.from_status AND o.payload->>'to' = t.to_status) AS right
        FROM service_connection_transitions t LEFT JOIN service_lifecycle_outbox o
            ON o.event_id = t.event_id AND o.connection_id = t.connection_id
        WHERE t.connection_id = :id GROUP BY t.id ORDER BY t.id""",
    "told": "SELECT count(*) FROM service_lifecycle_outbox WHERE connection_id = :id AND payload ? 'from'",
    "numbers": "SELECT seq FROM service_lifecycle_outbox WHERE connection_id = :id ORDER BY seq",
    "credentials": "SELECT state FROM service_credentials WHERE connection_id = :id AND state <> 'retired'",
    "consents": "SELECT status, lifecycle_id FROM service_consent_sessions WHERE connection_id = :id",
    "tasks": """
        SELECT id FROM service_operator_tasks
        WHERE connection_id = :id AND kind = 'reauth' AND status <> 'closed'""",
    "detections": "SELECT kind FROM service_grant_events WHERE connection_id = :id AND handled_at IS NULL",
}
# One statement, and so one snapshot.
_EACH = (f"(SELECT json_agg(q) FROM ({sql}) q) AS {name}" for name, sql in _QUERIES.items())
_ALL = text(f"SELECT {', '.join(_EACH)}")


@dataclass
class Look:
    """One subject at one moment: all its rows in one snapshot, then its workflows."""

    subject: Subject
    rows: dict[str, list[SimpleNamespace]]
    lifecycle_lives: bool
    refresh_lives: bool
    broken: list[str] = field(default_factory=list)
    restless: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        return str(self.rows["connection"][0].status)

    @property
    def completed(self) -> int:
        return sum(row.status == "completed" for row in self.rows["consents"])

    @property
    def demoted(self) -> int:
        """How often it stopped being active."""
        return sum(row.from_status == "active" for row in self.rows["transitions"])


async def look(world: World, subject: Subject, *, outage: bool) -> Look:
    # Temporal first: a lifecycle that ends between the two looks is restless, and looked at again.
    lives, refreshes = await asyncio.gather(
        world.lives(world.lifecycle(subject.id).id), world.lives(f"refresh:{PROVIDER}:{subject.id}")
    )
    async with world.sessions.begin() as session:
        found = (await session.execute(_ALL, {"id": subject.id})).one()
    rows = {name: [SimpleNamespace(**row) for row in found_rows or []] for name, found_rows in found._mapping.items()}
    seen = Look(subject, rows, lives, refreshes)
    seen.broken = [f"{subject.name}: {wrong}" for wrong in [*_history(seen), *_credentials(seen), *_demotions(seen)]]
    seen.restless = [f"{subject.name}: {wrong}" for wrong in [*_at_rest(seen, outage), *_waiting(seen, outage)]]
    return seen


def _history(seen: Look) -> list[str]:
    """Every transition is legal, follows the one before it, and has its one event; events are numbered without gaps."""
    wrong, before = [], "disconnected"
    for step in seen.rows["transitions"]:
        edge = f"{step.from_status} -> {step.to_status}"
        if step.to_status not in EDGES[step.from_status]:
            wrong.append(f"{edge} is no legal transition")
        if step.from_status != before:
            wrong.append(f"{edge} follows a transition to {before}")
        if (step.events, step.right) != (1, 1):
            wrong.append(f"{edge} has {step.events} events, {step.right} of which say the same")
        before = step.to_status
    if seen.status != before:
        wrong.append(f"it is {seen.status}, and its last transition led to {before}")
    if seen.rows["told"][0].count != len(seen.rows["transitions"]):
        wrong.append(f"{seen.rows['told'][0].count} events tell of {len(seen.rows['transitions'])} transitions")
    numbers = [row.seq for row in seen.rows["numbers"]]
    if numbers != list(range(1, seen.rows["connection"][0].seq + 1)):
        wrong.append(f"its events are numbered {numbers}, and it counts {seen.rows['connection'][0].seq}")
    return wrong


def _credentials(seen: Look) -> list[str]:
    active = sum(row.state == "active" for row in seen.rows["credentials"])
    if active > 1 or (seen.status == "active" and active != 1) or (seen.status == "disconnected" and active):
        return [f"it is {seen.status} with {active} active credentials"]
    return []


def _demotions(seen: Look) -> list[str]:
    """Whatever the provider answered: nobody touched the grant, so the connection stays as it was."""
    if seen.demoted > seen.subject.demoted and not seen.subject.harmed:
        return [f"it was demoted to {seen.status} although nothing was done to its grant"]
    return []


def _at_rest(seen: Look, outage: bool) -> list[str]:
    under_way = [row.status for row in seen.rows["consents"] if row.status in UNDER_WAY]
    unhandled = [f"a detection ({row.kind}) is unhandled" for row in seen.rows["detections"]]
    if outage or seen.subject.orphaned:
        # A lifecycle that an outage holds in the middle of a consent looks at detections when that is over.
        return [] if under_way else unhandled
    left = [row.state for row in seen.rows["credentials"] if row.state != "active"]
    return [
        *unhandled,
        *(["a refresh is still under way"] if seen.refresh_lives else []),
        *(f"a consent is {status}" for status in under_way),
        *(f"a credential is {state}" for state in left),
    ]


def _waiting(seen: Look, outage: bool) -> list[str]:
    """Blocked: a task, an invitation, a living lifecycle. Nobody waits for: none of the three."""
    if seen.subject.orphaned:
        return []
    row, tasks = seen.rows["connection"][0], len(seen.rows["tasks"])
    open_ = [each for each in seen.rows["consents"] if each.status == "invited" or each.status in UNDER_WAY]
    mine = [each for each in open_ if each.lifecycle_id == row.lifecycle_id]
    waits = row.lifecycle_id is not None
    wrong = []
    if row.status in BLOCKED and not waits:
        wrong.append(f"it is {row.status} and belongs to no lifecycle")
    if row.status == "disconnected" and waits and not seen.subject.asked:
        wrong.append("it is disconnected, nobody asked for a consent, and yet it waits for one")
    if seen.lifecycle_lives != waits:
        wrong.append(f"it {'waits' if waits else 'does not wait'}, its workflow {_runs(seen.lifecycle_lives)}")
    if tasks > 1 or (row.status in BLOCKED and tasks != 1) or (tasks and not waits):
        wrong.append(f"it is {row.status}, {'waits' if waits else 'does not wait'}, and has {tasks} open reauth tasks")
    if len(open_) != waits or len(mine) != waits:
        wrong.append(f"it {'waits' if waits else 'does not wait'}, with {len(open_)} open invitations")
    if waits and not outage and [each.status for each in mine] != ["invited"]:
        wrong.append("its invitation cannot be answered")
    return wrong


def _runs(lives: bool) -> str:
    return "runs" if lives else "does not run"


@dataclass
class Codes:
    """The provider's own log: which codes came to it, and never one twice."""

    since_seq: int
    seen: set[str] = field(default_factory=set)

    async def sent_again(self, world: World, accounts: set[str]) -> list[str]:
        asked = {"path": "/oauth/token", "since_seq": self.since_seq, "limit": 10_000}
        wrong = []
        for row in (await world.simulator.get("/admin/requests", params=asked)).json():
            self.since_seq, code = row["seq"], row["detail"].get("token_fp")
            if row["detail"].get("grant_type") != "authorization_code" or row["account_id"] not in accounts:
                continue
            if code in self.seen:
                wrong.append(f"the code {code} was sent again")
            self.seen.add(code)
        return wrong


async def grant_in_use(world: World, seen: Look) -> list[str]:
    """The provider's own word: what is active works, and a grant is replaced by a completed consent and nothing else.

    A refresh that came too late would bring the old grant back.
    """
    subject, before = seen.subject, seen.subject.grant_id
    status, subject.grant_id, account_id = await world.asks_whose_token(subject.id)
    wrong = []
    if account_id not in {None, subject.account_id}:
        wrong.append(f"{subject.name}: it is {seen.status} with somebody else's account")
    if seen.status == "active" and not subject.harmed and status != OK:
        wrong.append(f"{subject.name}: it is active, nothing was done to its grant, and a call with it gets {status}")
    completed, subject.completed_when_asked = seen.completed - subject.completed_when_asked, seen.completed
    if None not in {before, subject.grant_id} and (completed > 0) != (before != subject.grant_id):
        replaced = "another grant is in use" if before != subject.grant_id else "the old grant is still in use"
        wrong.append(f"{subject.name}: {replaced} after {completed} completed consents")
    return wrong
