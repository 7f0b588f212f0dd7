"""The samples that definitions are tried with are what is really sent: else a mail could lack a field on the day."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from integrations.db import connections, ending, presses, reauth, tasks, waiting
from integrations.db.ledger_tables import OutboxEvent
from integrations.db.session import Sessions
from integrations.db.tables import Connection, ConsentSession
from integrations.db.vault import Vault
from integrations.domain.connection import Status
from integrations.domain.grants import Change
from integrations.domain.reauth import Candidate, Detected, Extend, OpenLifecycle
from integrations.providers import definitions
from tests.factories import EVERYTHING, add_connection, add_credential, add_invitation, every, soon

LATER = datetime(2030, 1, 1, tzinfo=UTC)
LIFE = uuid4()
NOT_PLAYED = {"connection.errored"}
"""Needs a refresh that the provider answers by refusing our registration; no message shows more than its name."""


def shape(value: Any) -> Any:
    """The names of the fields, and whether each is a text, a number or a list."""
    if isinstance(value, Mapping):
        return {name: shape(each) for name, each in value.items()}
    return type(value).__name__


async def waits(sessions: Sessions, vault: Vault, **changes: Any) -> tuple[Connection, ConsentSession]:
    row = await add_connection(sessions, lifecycle_id=LIFE, **({"status": Status.PENDING_REAUTH} | changes))
    invitation = await add_invitation(sessions, vault, row, LIFE)
    async with sessions.begin() as session:
        await tasks.open_task(session, row.id, reauth.TASK, title="t", cause="c", way_out="w", lifecycle_id=LIFE)
    return row, invitation


def order(row: Connection, key: str) -> Extend:
    return Extend(connection_id=row.id, lifecycle_id=LIFE, key=key, by="ada", reason="r", until=LATER)


async def its_owner_is_pressed(sessions: Sessions, vault: Vault) -> None:
    row, invitation = await waits(sessions, vault)
    for step in (waiting.remind, waiting.escalate, waiting.extend, waiting.acknowledge, waiting.snooze):
        async with sessions.begin() as session:
            assert await step(session, order(row, step.__name__))
    async with sessions.begin() as session:
        await presses.mint(session, vault, invitation.id, state="s", verifier="v", browser="b")
    async with sessions.begin() as session:
        found = await presses.by_state(session, "s")
        assert found is not None
        assert await presses.refuse(session, found[0], found[1], declined=True, why="you declined")
        await reauth.tell_other_account(session, order(row, "x"), invitation.id, by="b••", why="another")
    async with sessions.begin() as session:
        assert await waiting.disconnect(session, order(row, "disconnect"))


async def its_owner_comes(sessions: Sessions, vault: Vault, status: Status) -> None:
    row, invitation = await waits(sessions, vault, status=status)
    fresh = await add_credential(sessions, vault, row.id, state="candidate", session_id=invitation.id)
    async with sessions.begin() as session:
        (await session.get_one(ConsentSession, invitation.id)).status = "exchanged"
        candidate = Candidate(
            **order(row, "x").model_dump(), session_id=invitation.id, version=fresh.version, deadline=LATER
        )
        assert await ending.activate(session, candidate)


async def it_works_again_by_itself(sessions: Sessions, vault: Vault) -> None:
    row, _ = await waits(sessions, vault)
    async with sessions.begin() as session:
        locked = await connections.lock(session, row.id)
        await ending.repair_elsewhere(session, locked, reason="r", actor="a", run=None, evidence={"version": 2})


async def it_breaks(sessions: Sessions, vault: Vault) -> None:
    row = await add_connection(sessions)
    await add_credential(sessions, vault, row.id)
    async with sessions.begin() as session:
        await connections.detect(session, row.id, Detected.REVOKED, cause="c", actor="a", version=1)
        wanted = OpenLifecycle(connection_id=row.id, lifecycle_id=LIFE, deadline=soon())
        await reauth.open_lifecycle(session, vault, wanted, lambda _: EVERYTHING)
    async with sessions.begin() as session:
        await reauth.lack_grants(session, order(row, "x"), ["notes.write"])
        locked = await connections.lock(session, row.id)
        for change in (Change(gained=("notes.read",)), Change(lost=("notes.write",), missing=("notes.write",))):
            await connections.note_grants(session, locked, change, actor="a", version=1)


class TestTheSamples:
    async def test_are_what_is_sent(self, sessions: Sessions, vault: Vault) -> None:
        await its_owner_is_pressed(sessions, vault)
        for status in (Status.PENDING_REAUTH, Status.DISCONNECTED, Status.ACTIVE):
            await its_owner_comes(sessions, vault, status)
        await it_works_again_by_itself(sessions, vault)
        await it_breaks(sessions, vault)

        sent: dict[str, list[Any]] = {}
        for event in await every(sessions, OutboxEvent):
            if shape(event.payload) not in sent.setdefault(event.name, []):
                sent[event.name].append(shape(event.payload))
        known = {
            name: list(map(shape, forms))
            for name, forms in definitions.load().samples.items()
            if name.startswith(("reauth.", "connection.")) and name not in NOT_PLAYED
        }
        assert {name: sorted(forms, key=str) for name, forms in sent.items()} == {
            name: sorted(forms, key=str) for name, forms in known.items()
        }
