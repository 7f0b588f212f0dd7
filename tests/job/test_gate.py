"""W18: no call goes around the gate, whatever the connection's status is."""

import ast
from pathlib import Path

import pytest

from integrations.db.tables import Connection
from integrations.domain.connection import Status
from integrations.domain.gate import Answer, Purpose, decide
from integrations.providers.oauth import Providers
from tests.factories import EVERYTHING
from tests.job.conftest import Jobs

CHECKOUT = Path(__file__).parents[2]
GONE: dict[Status, list[str]] = {Status.PENDING_REAUTH: [], Status.NEEDS_RECONSENT: ["notes.read"]}
"""What is left of a connection's grants in a status that has lost some."""
NO_USE = {
    "activities/outage_probe.py",
    "activities/reauth.py",
    "starters/contract/capabilities.py",
    "starters/contract/refusals.py",
}
"""Where a capability is called to find out if a provider is back, if a consent works, or an entry: the latter with no
connection's token."""


@pytest.mark.parametrize("status", list(Status))
async def test_every_capability_of_a_connection_is_answered_by_the_gate(
    jobs: Jobs, providers: Providers, status: Status
) -> None:
    grants = GONE.get(status, EVERYTHING)
    async with jobs.platform.sessions.begin() as session:
        row = await session.get_one(Connection, jobs.connection.id)
        row.status, row.grants = status, grants

    for name, capability in providers.catalog.provider("simulator").capabilities.items():
        before = len(await jobs.person.requests("/api/"))

        result = await jobs.done(name, key=f"{status}-{name}", **({"text": "hi"} if name == "notes.write" else {}))

        assert result.decision == decide(
            Purpose.USE,
            status,
            capability.access,
            requires=capability.requires,
            optional=capability.optional,
            granted=frozenset(grants),
        )
        sent = len(await jobs.person.requests("/api/")) - before
        assert sent == (0 if result.decision.answer is Answer.BLOCKED else 1)
        assert result.done == result.decision.may_go


def test_nothing_else_calls_a_capability() -> None:
    """The one place that uses a connection is the one behind the gate."""
    found = {
        file.relative_to(CHECKOUT).as_posix()
        for room in ("activities", "workflows", "web", "worker", "starters", "integrations")
        for file in (CHECKOUT / room).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "client.call"
    }

    assert found - NO_USE == {"activities/job.py"}
