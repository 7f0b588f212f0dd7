"""Evidence of a sweep: what the provider was asked, what it answered, and the rows."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from starters.demo.check import Check, Name, judged
from starters.demo.evidence import rows, words
from starters.demo.scene import Scene
from starters.demo.simulator import Simulator

SWEEP: Final = "refresh:simulator"
_OK: Final = 200
_ASKED_IN_A_STORM: Final = 40
"""Of a hundred that are due: eight for each of two chunks that begin beside each other, and four for each look after
that, of which a slow machine has one more."""


async def asked(simulator: Simulator, accounts: Mapping[UUID, str]) -> list[dict[str, Any]]:
    """The refreshes of these accounts that reached the provider, oldest first."""
    ours = set(accounts.values())
    return [
        request
        for request in await simulator.requests("/oauth/token")
        if request["account_id"] in ours and request["detail"].get("grant_type") == "refresh_token"
    ]


async def versions(scene: Scene, accounts: Mapping[UUID, str], *, version: int) -> set[UUID]:
    """The connections whose active credential has this version."""
    sql = """SELECT connection_id AS id FROM service_credentials
      WHERE connection_id = ANY(:ids) AND state = 'active' AND version = :version"""
    return {row["id"] for row in await rows(scene.sessions, sql, ids=list(accounts), version=version)}


async def blocked(scene: Scene, accounts: Mapping[UUID, str]) -> set[UUID]:
    sql = "SELECT id FROM service_connections WHERE id = ANY(:ids) AND status <> 'active'"
    return {row["id"] for row in await rows(scene.sessions, sql, ids=list(accounts))}


async def waits_for(scene: Scene) -> str:
    """What the Web UI shows of the sweep: the last failure of the chunk that waits."""
    described = await scene.platform.temporal.get_workflow_handle(SWEEP).describe()
    pending = described.raw_description.pending_activities
    said = [activity.last_failure.message for activity in pending if activity.HasField("last_failure")]
    return said[0] if said else "no chunk waits"


async def storm_harmed_nobody(scene: Scene, accounts: Mapping[UUID, str]) -> Check:
    """While the provider is in trouble."""
    came = await asked(scene.simulator, accounts)
    still, gone = await versions(scene, accounts, version=1), await blocked(scene, accounts)
    waits = await waits_for(scene)
    return judged(
        Name.STORM_HARMED_NOBODY,
        {
            "the storm was met": bool(came),
            "and soon left alone": len(came) <= _ASKED_IN_A_STORM,
            "each connection is as it was": len(still) == len(accounts) and not gone,
            "the sweep says what it waits for": "503" in waits,
        },
        f"simulator: {len(came)} of {len(accounts)} that are due were tried, all answered "
        f"{words({str(each['status']) for each in came})}; database: {len(accounts) - len(gone)} active, "
        f"{len(still)} with the credential they had; Temporal: {waits}",
    )


async def revoked_found_among_many(scene: Scene, accounts: Mapping[UUID, str], revoked: UUID) -> Check:
    came = await asked(scene.simulator, accounts)
    refreshed = Counter(each["account_id"] for each in came if each["status"] == _OK)
    refused = {each["account_id"] for each in came if each["detail"].get("error") == "invalid_grant"}
    others = set(accounts) - {revoked}
    sql = (
        "SELECT connection_id, to_status, evidence FROM service_connection_transitions WHERE connection_id = ANY(:ids)"
    )
    moved = await rows(scene.sessions, sql, ids=list(accounts))
    return judged(
        Name.REVOKED_FOUND_AMONG_MANY,
        {
            "the provider refused one": len(refused) == 1,
            "that one is blocked, and no other": await blocked(scene, accounts) == {revoked},
            "and nothing else ever changed its status": [row["connection_id"] for row in moved] == [revoked],
            "each other was refreshed once": set(refreshed.values()) == {1}
            and set(refreshed) == {accounts[each] for each in others},
            "and has its new credential": await versions(scene, accounts, version=2) == others,
        },
        f"simulator: {len(refreshed)} accounts refreshed, {sum(refreshed.values())} rotations, {len(refused)} refused; "
        f"database: {len(moved)} of {len(accounts)} changed its status",
    )
