"""Evidence of a repaired grant, read from the other side: the simulator's log, the rows, the histories."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text

from integrations.db.session import Sessions
from integrations.domain.job import JobResult
from starters.demo.check import Check, Name, judged
from starters.demo.simulator import Simulator, moment_of

WRITE: Final = "notes.write"
_REFUSED: Final = 400
_CREATED: Final = 201


async def rows(sessions: Sessions, sql: str, **values: Any) -> list[dict[str, Any]]:
    """Rows as the database has them: plain SQL, past the code that wrote them."""
    async with sessions.begin() as session:
        return [dict(row) for row in (await session.execute(text(sql), values)).mappings()]


async def credential_versions(sessions: Sessions, connection_id: UUID) -> list[dict[str, Any]]:
    sql = "SELECT version, state, activated_at FROM service_credentials WHERE connection_id = :id ORDER BY version"
    return await rows(sessions, sql, id=connection_id)


async def connected_with_pkce(simulator: Simulator, sessions: Sessions, connection_id: UUID) -> Check:
    asked = [r["detail"]["pkce"] for r in await simulator.requests("/oauth/authorize") if r["detail"].get("pkce")]
    exchanged = [
        r["detail"].get("pkce")
        for r in await simulator.requests("/oauth/token")
        if r["detail"].get("grant_type") == "authorization_code" and r["status"] == 200  # noqa: PLR2004
    ]
    status = await rows(sessions, "SELECT status FROM service_connections WHERE id = :id", id=connection_id)
    active = await rows(
        sessions,
        "SELECT version FROM service_credentials WHERE connection_id = :id AND state = 'active'",
        id=connection_id,
    )
    return judged(
        Name.CONNECTED_WITH_PKCE,
        {
            "the browser brought an S256 challenge": "S256" in asked,
            "the provider verified the verifier": exchanged[-1:] == ["verified"],
            "the connection is active": status == [{"status": "active"}],
            "one active credential": len(active) == 1,
        },
        f"simulator: authorized with challenge {words(set(asked))}, the token request's verifier was "
        f"{words(exchanged[-1:])}; database: connection {words(r['status'] for r in status)}, active version "
        f"{words(r['version'] for r in active)}",
    )


async def revocation_confirmed(
    simulator: Simulator, sessions: Sessions, connection_id: UUID, revoked_at: datetime
) -> Check:
    refused = [
        r
        for r in await simulator.requests("/oauth/token", after=revoked_at)
        if r["detail"].get("grant_type") == "refresh_token" and r["status"] == _REFUSED
    ]
    moved = await rows(
        sessions,
        "SELECT at, evidence FROM service_connection_transitions "
        "WHERE connection_id = :id AND to_status = 'pending_reauth' ORDER BY id DESC LIMIT 1",
        id=connection_id,
    )
    times = [moment_of(r) for r in refused]
    # The simulator writes milliseconds, and Temporal's timer starts a little after the first answer.
    apart = times[1] - times[0] if len(times) > 1 else timedelta(0)
    errors = [r["detail"].get("error") for r in refused]
    return judged(
        Name.REVOCATION_CONFIRMED,
        {
            "the provider refused two refreshes": len(refused) >= 2,  # noqa: PLR2004
            "both with invalid_grant": set(errors) == {"invalid_grant"},
            "10 s apart": apart >= timedelta(seconds=9.9),
            "and only then it was demoted": bool(moved and times and moved[0]["at"] > max(times)),
        },
        f"simulator: {len(refused)} refreshes answered {words(errors)}, {apart.total_seconds():.1f} s apart; database: "
        + (
            f"demoted at {moved[0]['at']:%H:%M:%S} by {moved[0]['evidence'].get('confirmed_by')}"
            if moved
            else "not demoted"
        ),
    )


async def pending_reauth(sessions: Sessions, connection_id: UUID) -> Check:
    """The transition, its event and the invitation's are one transaction: the rows carry the moment that it began.

    To the microsecond, as Postgres has it. Their xmin would say so too, but the drain settles an event by an update.
    """
    found = await rows(
        sessions,
        "SELECT t.at AS t, e.occurred_at AS e, e.name, e.seq, i.occurred_at AS i, i.seq AS iseq "
        "FROM service_connection_transitions t "
        "LEFT JOIN service_lifecycle_outbox e ON e.event_id = t.event_id "
        "LEFT JOIN service_consent_sessions s ON s.lifecycle_id = t.lifecycle_id "
        "LEFT JOIN service_lifecycle_outbox i ON i.event_id = s.id AND i.name = 'reauth.invited' "
        "WHERE t.connection_id = :id AND t.to_status = 'pending_reauth' ORDER BY t.id DESC, s.created_at LIMIT 1",
        id=connection_id,
    )
    tasks = await rows(
        sessions,
        "SELECT title, cause FROM service_operator_tasks WHERE connection_id = :id AND status <> 'closed'",
        id=connection_id,
    )
    status = await rows(
        sessions, "SELECT status, missing_grants FROM service_connections WHERE id = :id", id=connection_id
    )
    row = found[0] if found else {}
    began = f"{row['t']:%H:%M:%S.%f}" if row else "no time"
    return judged(
        Name.PENDING_REAUTH,
        {
            "the connection is pending_reauth": bool(status) and status[0]["status"] == "pending_reauth",
            "history row and event in one transaction": bool(row) and row["t"] == row["e"],
            "the invitation's event in the same one": bool(row) and row["t"] == row["i"],
            "an operator task is open": len(tasks) == 1,
        },
        f"database: {words(r['status'] for r in status)} without {words(r['missing_grants'] for r in status)}; history "
        f"row, event {row.get('name')} (seq {row.get('seq')}) and reauth.invited (seq {row.get('iseq')}) are of the "
        f"transaction that began at {began}; task: {words(t['title'] for t in tasks)}",
    )


async def write_blocked(simulator: Simulator, result: JobResult, revoked_at: datetime) -> Check:
    arrived = await simulator.requests("/api/notes", method="POST", after=revoked_at)
    return judged(
        Name.WRITE_BLOCKED,
        {
            "the gate said blocked": not result.decision.may_go,
            f"and named {WRITE}": WRITE in result.decision.missing,
            "no write reached the provider": not arrived,
        },
        f"workflow's result: {result.decision.answer}, missing {words(result.decision.missing)}; "
        f"simulator: {len(arrived)} writes since the revocation",
    )


async def other_account_refused(
    simulator: Simulator, sessions: Sessions, connection_id: UUID, started: datetime, before: list[int]
) -> Check:
    """`before`: the connection's credential versions before the other account consented."""
    came = [
        r
        for r in await simulator.requests("/oauth/authorize", method="POST", after=started)
        if r["account_id"] == "acct_bob" and r["detail"].get("decision") == "allow"
    ]
    sessions_found = await rows(
        sessions,
        "SELECT id, status, outcome FROM service_consent_sessions WHERE connection_id = :id AND status = 'refused'",
        id=connection_id,
    )
    outcome = sessions_found[0]["outcome"] if sessions_found else ""
    versions = [row["version"] for row in await credential_versions(sessions, connection_id)]
    account = await rows(sessions, "SELECT account_id FROM service_connections WHERE id = :id", id=connection_id)
    return judged(
        Name.OTHER_ACCOUNT_REFUSED,
        {
            "another account really consented": bool(came),
            "its session was refused": len(sessions_found) == 1,
            "both accounts are named, masked": "b••@other.example" in outcome and "a••@acme.example" in outcome,
            "nothing of it was stored": versions == before and account == [{"account_id": "acct_ada"}],
        },
        f"simulator: acct_bob allowed {len(came)} time(s); database: {outcome or 'no refusal'}; "
        f"credential versions {words(before)} before, {words(versions)} after",
    )


async def repaired_new_version(sessions: Sessions, connection_id: UUID, before: int, revoked_at: datetime) -> Check:
    versions = await credential_versions(sessions, connection_id)
    status = await rows(sessions, "SELECT status FROM service_connections WHERE id = :id", id=connection_id)
    tasks = await rows(
        sessions,
        "SELECT count(*) AS n FROM service_operator_tasks WHERE connection_id = :id AND status <> 'closed'",
        id=connection_id,
    )
    active = [v for v in versions if v["state"] == "active"]
    return judged(
        Name.REPAIRED_NEW_VERSION,
        {
            "one active version": len(active) == 1,
            "newer than the revoked one": bool(active) and active[0]["version"] > before,
            "made after the revocation": bool(active) and active[0]["activated_at"] > revoked_at,
            "the old one retired": any(v["version"] == before and v["state"] == "retired" for v in versions),
            "the connection is active": status == [{"status": "active"}],
            "the task is closed": tasks[0]["n"] == 0,
        },
        f"database: versions {words(str(v['version']) + ' ' + v['state'] for v in versions)}; connection "
        f"{words(r['status'] for r in status)}, {tasks[0]['n']} tasks open",
    )


async def capability_succeeded(
    simulator: Simulator, result: JobResult | None, key: str, repaired_at: datetime
) -> Check:
    written = [
        r
        for r in await simulator.requests("/api/notes", method="POST", after=repaired_at)
        if r["detail"].get("idempotency_key") == key
    ]
    statuses = [r["status"] for r in written]
    return judged(
        Name.CAPABILITY_SUCCEEDED,
        {
            "the job is done": result is not None and result.done,
            "the provider wrote it, once": statuses == [_CREATED],
        },
        f"simulator: POST /api/notes answered {words(statuses)}; workflow's result: {result.because if result else ''}",
    )


def words(values: Iterable[Any]) -> str:
    """Values for an evidence: with commas, or `nothing`."""
    return ", ".join(words(v) if isinstance(v, list) else str(v) for v in values) or "nothing"
