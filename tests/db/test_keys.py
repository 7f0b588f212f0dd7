"""Keys as the database knows them, and sealing its rows anew while others write."""

import asyncio
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from integrations.db import consents, contact_addresses, credentials, keys, presses, sealed, webhook_secrets
from integrations.db.base import Base
from integrations.db.credentials import opened
from integrations.db.notification_tables import ContactAddress
from integrations.db.sealed import SEALED, advance
from integrations.db.session import Sessions
from integrations.db.tables import Connection, ConsentSession, ConsentState, Credential, Key
from integrations.db.vault import Vault, session_place
from integrations.domain.errors import NotReadyError, StopError, TryAgainError
from integrations.domain.keyring import Ring
from integrations.domain.keys import KeyPlace, KeyState, Pass, Proof
from integrations.keyring import GivenKeys, KeysFile
from tests.factories import (
    add_address,
    add_channel,
    add_connection,
    add_credential,
    add_invitation,
    every,
    keys_file,
    stored,
    tokens,
)


def without(vault: Vault, key_id: str) -> Vault:
    """As a process whose ring has lost a key."""
    return Vault(GivenKeys(vault.ring.without(key_id)))


@pytest.fixture
def file(tmp_path: Path) -> KeysFile:
    return keys_file(tmp_path, "k1", "k2")


@pytest.fixture
def ring(file: KeysFile) -> Vault:
    """A vault whose ring has k2 staged."""
    return Vault(file)


def rotated(file: KeysFile) -> Vault:
    file.change(lambda ring: ring.activated("k2"))
    return Vault(KeysFile(file.path))


async def walk(sessions: Sessions, vault: Vault, key_id: str = "k2") -> Pass:
    at = Pass()
    while not at.done:
        at = await advance(sessions, vault, key_id, at)
    return at


async def consenting(sessions: Sessions, vault: Vault, connection: Connection) -> ConsentSession:
    """An invitation whose button was pressed, and whose code has come."""
    row = await add_invitation(sessions, vault, connection, uuid4())
    async with sessions.begin() as session:
        assert await presses.mint(session, vault, row.id, state="state", verifier="verifier", browser="browser")
    async with sessions.begin() as session:
        found = await presses.by_state(session, "state")
        assert found is not None
        assert await presses.receive(session, vault, found[0], found[1], "code", {})
    return await stored(sessions, ConsentSession, row.id)


async def surveyed(sessions: Sessions, vault: Vault) -> dict[str, KeyState]:
    async with sessions.begin() as session:
        return {state.key_id: state for state in await keys.survey(session, vault)}


async def remember(sessions: Sessions, vault: Vault, key_id: str = "k1") -> None:
    async with sessions.begin() as session:
        await keys.remember(session, vault, key_id, by="the test")


async def alter(sessions: Sessions, row: Credential) -> None:
    async with sessions.begin() as session:
        (await session.get_one(Credential, row.id)).sealed = os.urandom(60)


class TestTheListOfSealedColumns:
    def test_has_every_table_with_a_key_id_and_every_column_named_sealed(self) -> None:
        """A table that is forgotten there would lose its key."""
        found: dict[str, set[str]] = {
            table.name: {column.name for column in table.columns if column.name.startswith("sealed")}
            for table in Base.metadata.sorted_tables
            if "key_id" in table.columns and table.name != Key.__tablename__
        }

        assert found == {each.table.__tablename__: set(each.columns) for each in SEALED}


class TestAStartingProcess:
    async def test_writes_the_first_canary_and_finds_it_the_next_time(self, sessions: Sessions, vault: Vault) -> None:
        for _ in range(2):
            async with sessions.begin() as session:
                await keys.check(session, vault, by="runbook worker")

        (known,) = await every(sessions, Key)
        assert (known.key_id, known.created_by, known.retired_at) == ("k1", "runbook worker", None)

    async def test_with_other_bytes_under_the_same_id_is_refused(self, sessions: Sessions, vault: Vault) -> None:
        await remember(sessions, vault)

        with pytest.raises(StopError, match=r"RUNBOOK_KEY has other bytes as 'k1'.*put the right one back"):
            await remember(sessions, Vault(GivenKeys(Ring.of_one("k1", os.urandom(32)))))

    async def test_does_not_make_a_canary_with_a_key_that_opens_nothing(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        """An installation of the release before, started with a wrong key."""
        await add_credential(sessions, vault, connection.id)

        with pytest.raises(StopError, match="'k1' than the key that this database's credentials are sealed with"):
            await remember(sessions, Vault(GivenKeys(Ring.of_one("k1", os.urandom(32)))))

        assert await every(sessions, Key) == []

    async def test_is_not_stopped_by_one_altered_row(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        row = await add_credential(sessions, vault, connection.id)
        await remember(sessions, vault)
        await alter(sessions, row)

        await remember(sessions, vault)

    async def test_of_two_with_different_keys_at_once_one_is_refused(self, sessions: Sessions, vault: Vault) -> None:
        stranger = Vault(GivenKeys(Ring.of_one("k1", os.urandom(32))))

        ended = await asyncio.gather(remember(sessions, vault), remember(sessions, stranger), return_exceptions=True)

        assert [type(each) for each in ended if each is not None] == [StopError]
        assert len(await every(sessions, Key)) == 1

    async def test_with_a_retired_key_is_refused(self, sessions: Sessions, ring: Vault, file: KeysFile) -> None:
        """A machine with a file of its own that nobody told."""
        await remember(sessions, ring)
        async with sessions.begin() as session:
            await keys.retire(session, "k1", by="ada: leaked")

        with pytest.raises(StopError, match=r"'k1' was retired by ada: leaked on .* still seals with it"):
            await remember(sessions, ring)


class TestASurvey:
    async def test_tells_what_is_sealed_with_each_key_and_that_it_opens(
        self, sessions: Sessions, ring: Vault, file: KeysFile, connection: Connection
    ) -> None:
        await remember(sessions, ring)
        await add_credential(sessions, ring, connection.id)
        await consenting(sessions, ring, connection)
        after = rotated(file)
        async with sessions.begin() as session:
            await credentials.retire_active(session, connection.id)
        await add_credential(sessions, after, connection.id)

        found = await surveyed(sessions, after)

        assert (found["k1"].place, found["k2"].place) == (KeyPlace.OLD, KeyPlace.CURRENT)
        assert found["k1"].rows == {"retired credentials": 1, "consent sessions": 1}
        assert found["k2"].rows == {"active credentials": 1}
        assert (found["k1"].canary, found["k1"].row, found["k1"].made_by) == (Proof.OPENS, Proof.OPENS, "the test")
        assert (found["k2"].canary, found["k2"].row) == (Proof.NONE, Proof.OPENS)
        assert not any(state.trouble for state in found.values())
        assert found["k1"].next_step("keys.json") == "runbook keys reencrypt"

    async def test_names_a_key_that_is_used_and_not_there(
        self, sessions: Sessions, ring: Vault, file: KeysFile, connection: Connection
    ) -> None:
        await add_credential(sessions, ring, connection.id)

        found = await surveyed(sessions, without(rotated(file), "k1"))

        assert found["k1"].place is KeyPlace.MISSING
        assert found["k1"].trouble == "it is not in the ring: what is sealed with it does not open"
        assert "put the right k1 into" in found["k1"].next_step("RUNBOOK_KEY")

    async def test_names_other_bytes_under_a_known_id(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        await remember(sessions, vault)
        await add_credential(sessions, vault, connection.id)

        found = await surveyed(sessions, Vault(GivenKeys(Ring.of_one("k1", os.urandom(32)))))

        assert (found["k1"].canary, found["k1"].row) == (Proof.WRONG, Proof.WRONG)
        assert "other bytes under this id" in found["k1"].trouble

    async def test_names_an_altered_row(self, sessions: Sessions, vault: Vault, connection: Connection) -> None:
        await remember(sessions, vault)
        await alter(sessions, await add_credential(sessions, vault, connection.id))

        found = await surveyed(sessions, vault)

        assert (found["k1"].canary, found["k1"].row) == (Proof.OPENS, Proof.WRONG)
        assert "altered data" in found["k1"].trouble

    async def test_knows_a_staged_key_and_a_retired_one(self, sessions: Sessions, ring: Vault, file: KeysFile) -> None:
        for key_id in ("k1", "k2"):
            await remember(sessions, ring, key_id)
        before = await surveyed(sessions, ring)
        after = without(rotated(file), "k1")
        async with sessions.begin() as session:
            await keys.retire(session, "k1", by="ada")

        found = await surveyed(sessions, after)

        assert before["k2"].place is KeyPlace.STAGED
        assert before["k2"].next_step("") == "runbook keys rotate --activate k2"
        assert (found["k1"].place, found["k1"].retired_by, found["k1"].trouble) == (KeyPlace.RETIRED, "ada", "")


class TestReencrypting:
    async def test_seals_every_column_anew_and_changes_nothing_else(
        self, sessions: Sessions, ring: Vault, file: KeysFile, connection: Connection
    ) -> None:
        first = await add_credential(sessions, ring, connection.id, tokens("1"))
        consent = await consenting(sessions, ring, connection)
        after = rotated(file)

        found = await walk(sessions, after)

        row, held = await stored(sessions, Credential, first.id), await stored(sessions, ConsentSession, consent.id)
        assert (found.moved, found.busy, found.unopened.count) == (2, 0, 0)
        assert (row.key_id, held.key_id) == ("k2", "k2")
        left = without(after, "k1")
        assert opened(left, row) == tokens("1")
        assert consents.code_and_verifier(left, held) == ("code", "verifier")
        for kept, now in ((first, row), (consent, held)):
            ours = {"key_id", "sealed", "sealed_code", "sealed_verifier"}
            names = [column.name for column in kept.__table__.columns if column.name not in ours]
            assert [getattr(kept, name) for name in names if name != "activated_at"] == [
                getattr(now, name) for name in names if name != "activated_at"
            ]

    async def test_takes_a_verifier_without_a_code_too(
        self, sessions: Sessions, ring: Vault, file: KeysFile, connection: Connection
    ) -> None:
        row = await add_invitation(sessions, ring, connection, uuid4())
        async with sessions.begin() as session:
            await presses.mint(session, ring, row.id, state="s", verifier="verifier", browser="b")

        await walk(sessions, rotated(file))

        [held] = await every(sessions, ConsentState, session_id=row.id)
        assert held.sealed_verifier is not None
        assert ring.open(held.sealed_verifier, "k2", session_place(row.id, "verifier")) == b"verifier"

    async def test_takes_the_addresses_of_people_too(self, sessions: Sessions, ring: Vault, file: KeysFile) -> None:
        for name in ("", "ada"):
            await add_address(sessions, ring, "org:acme", name, address="ada@acme.example")
        after = rotated(file)

        found = await walk(sessions, after)

        left = without(after, "k1")
        opens = [contact_addresses.open_address(left, row).address for row in await every(sessions, ContactAddress)]
        assert (found.moved, found.unopened.count) == (2, 0)
        assert opens == ["ada@acme.example"] * 2

    async def test_takes_the_secrets_of_webhooks_too(self, sessions: Sessions, ring: Vault, file: KeysFile) -> None:
        for secret in (b"first", b"second"):
            await add_channel(sessions, ring, secret=secret)

        found = await walk(sessions, rotated(file))

        left = Vault(GivenKeys(ring.ring.activated("k2").without("k1")))
        async with sessions.begin() as session:
            opens = await webhook_secrets.live(session, left, "simulator", "app")
        assert (found.moved, found.unopened.count) == (2, 0)
        assert opens == (b"second", b"first")

    async def test_goes_on_by_batches_and_finds_nothing_the_second_time(
        self,
        sessions: Sessions,
        ring: Vault,
        file: KeysFile,
        connection: Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(sealed, "BATCH", 4)
        for _ in range(10):
            await add_credential(sessions, ring, connection.id, state="retired")
        after = rotated(file)

        steps = [await advance(sessions, after, "k2", Pass())]
        while not steps[-1].done:
            steps.append(await advance(sessions, after, "k2", steps[-1]))
        again = await walk(sessions, after)

        assert [step.moved for step in steps] == [4, 8, 10, 10, 10, 10, 10]
        assert (again.moved, again.busy) == (0, 0)

    async def test_leaves_what_does_not_open_as_it_is_and_goes_on(
        self, sessions: Sessions, ring: Vault, file: KeysFile, connection: Connection
    ) -> None:
        whole = await add_credential(sessions, ring, connection.id, state="retired")
        altered = await add_credential(sessions, ring, connection.id, state="retired")
        await alter(sessions, altered)
        foreign = await add_credential(
            sessions, Vault(GivenKeys(Ring.of_one("k0", os.urandom(32)))), connection.id, state="retired"
        )
        last = await add_credential(sessions, ring, connection.id, state="retired")
        before = await stored(sessions, Credential, altered.id)

        found = await walk(sessions, rotated(file))

        ids = [(await stored(sessions, Credential, row.id)).key_id for row in (whole, altered, foreign, last)]
        assert ids == ["k2", "k1", "k0", "k2"]
        assert (await stored(sessions, Credential, altered.id)).sealed == before.sealed
        assert (found.moved, found.unopened.count) == (2, 2)
        assert found.unopened.named[0].startswith(f"credential {connection.id} version 2 does not open with key 'k1'")
        assert f"credential {connection.id} version 3 is sealed with key 'k0'" in found.unopened.named[1]

    async def test_gets_past_more_of_them_than_a_batch_has(
        self,
        sessions: Sessions,
        ring: Vault,
        file: KeysFile,
        connection: Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(sealed, "BATCH", 4)
        for _ in range(10):
            await add_credential(
                sessions, Vault(GivenKeys(Ring.of_one("k0", os.urandom(32)))), connection.id, state="retired"
            )
        last = await add_credential(sessions, ring, connection.id, state="retired")

        found = await asyncio.wait_for(walk(sessions, rotated(file)), 20)

        assert (found.moved, found.unopened.count) == (1, 10)
        assert (await stored(sessions, Credential, last.id)).key_id == "k2"

    async def test_names_no_more_than_a_few_of_many(
        self, sessions: Sessions, ring: Vault, file: KeysFile, connection: Connection
    ) -> None:
        for _ in range(25):
            await add_credential(
                sessions, Vault(GivenKeys(Ring.of_one("k0", os.urandom(32)))), connection.id, state="retired"
            )

        found = await walk(sessions, rotated(file))

        assert (found.unopened.count, len(found.unopened.named)) == (25, 10)

    async def test_waits_for_a_worker_that_has_the_key(
        self, sessions: Sessions, vault: Vault, connection: Connection
    ) -> None:
        await add_credential(sessions, vault, connection.id)

        with pytest.raises(NotReadyError, match="this worker has no key 'k2' to seal with"):
            await advance(sessions, vault, "k2", Pass())

    async def test_does_not_count_what_was_forgotten(
        self, sessions: Sessions, ring: Vault, file: KeysFile, connection: Connection
    ) -> None:
        consent = await consenting(sessions, ring, connection)
        async with sessions.begin() as session:
            await consents.end(session, consent.id, "refused", "over")

        found = await walk(sessions, rotated(file))

        assert found.moved == 0
        async with sessions.begin() as session:
            assert await keys.left(session, "k2") == 0


class TestAConcurrentWriter:
    async def test_is_neither_waited_for_nor_overwritten(
        self, sessions: Sessions, ring: Vault, file: KeysFile, connection: Connection
    ) -> None:
        """A refresh holds its row for as long as it likes; the rest of the batch is sealed meanwhile."""
        held = await add_credential(sessions, ring, connection.id)
        other = await add_credential(sessions, ring, connection.id, state="retired")
        after = rotated(file)
        async with sessions.begin() as session:
            await credentials.retire_active(session, connection.id)
            found = await asyncio.wait_for(walk(sessions, after), 5)

        row = await stored(sessions, Credential, held.id)
        assert (found.moved, found.busy) == (1, 1)
        assert (row.state, row.key_id) == ("retired", "k1")
        assert (await stored(sessions, Credential, other.id)).key_id == "k2"
        assert (await walk(sessions, after)).moved == 1

    async def test_that_changed_the_value_in_between_wins(
        self,
        sessions: Sessions,
        ring: Vault,
        file: KeysFile,
        connection: Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Between the reading of a batch and its writing somebody seals something else."""
        row = await add_credential(sessions, ring, connection.id, tokens("old"))
        before = Vault(GivenKeys(ring.ring))
        after, real = rotated(file), sealed._settle

        async def late(*given: Any) -> int:
            async with sessions.begin() as session:
                changed = await session.get_one(Credential, row.id)
                changed.sealed = tokens("new").sealed(before, connection.id, 1)
            return await real(*given)

        monkeypatch.setattr(sealed, "_settle", late)
        found = await advance(sessions, after, "k2", Pass())

        now = await stored(sessions, Credential, row.id)
        assert (found.moved, found.busy) == (0, 1)
        assert opened(after, now) == tokens("new")


class TestRetiring:
    async def test_is_refused_while_anything_is_sealed_with_the_key(
        self, sessions: Sessions, ring: Vault, file: KeysFile, connection: Connection
    ) -> None:
        await remember(sessions, ring)
        await add_credential(sessions, ring, connection.id)

        with pytest.raises(StopError, match="'k1' is still needed by 1 active credentials: `runbook keys reencrypt`"):
            async with sessions.begin() as session:
                await keys.retire(session, "k1", by="ada")

        (known,) = await every(sessions, Key)
        assert known.retired_at is None

    async def test_is_done_once_and_keeps_who_did_it(self, sessions: Sessions, ring: Vault) -> None:
        await remember(sessions, ring)

        for by in ("ada", "bob"):
            async with sessions.begin() as session:
                await keys.retire(session, "k1", by=by)

        (known,) = await every(sessions, Key)
        assert known.retired_by == "ada"
        async with sessions.begin() as session:
            assert await keys.known_ids(session) == {"k1"}

    async def test_counts_what_a_writer_under_way_has_sealed(
        self, sessions: Sessions, ring: Vault, connection: Connection
    ) -> None:
        """It sealed before the rotation, and commits after the count has begun."""
        await remember(sessions, ring)

        async def retire() -> None:
            async with sessions.begin() as session:
                await keys.retire(session, "k1", by="ada")

        async with sessions.begin() as session:
            await credentials.add(session, ring, connection.id, tokens(), state="active", grants=[], expires_at=None)
            retiring = asyncio.create_task(retire())
            await asyncio.sleep(0.2)

        with pytest.raises(StopError, match="'k1' is still needed by 1 active credentials"):
            await retiring

    async def test_gives_up_before_it_holds_anybody_up(
        self, sessions: Sessions, ring: Vault, connection: Connection
    ) -> None:
        await remember(sessions, ring)
        async with sessions.begin() as session:
            await session.execute(text("UPDATE service_consent_sessions SET why = why"))
            with pytest.raises(TryAgainError, match="try again in a moment"):
                async with sessions.begin() as other:
                    await keys.retire(other, "k1", by="ada")

    async def test_of_a_key_that_nobody_knows_is_refused(self, sessions: Sessions) -> None:
        with pytest.raises(StopError, match="knows no key 'k9'"):
            async with sessions.begin() as session:
                await keys.retire(session, "k9", by="ada")


async def test_a_consent_on_both_sides_of_a_rotation_is_exchanged(
    sessions: Sessions, ring: Vault, file: KeysFile
) -> None:
    """The verifier was sealed with the old key, the code with the new one, and the row has one key id."""
    connection = await add_connection(sessions)
    row = await add_invitation(sessions, ring, connection, uuid4())
    async with sessions.begin() as session:
        await presses.mint(session, ring, row.id, state="state", verifier="verifier", browser="browser")
    after = rotated(file)
    async with sessions.begin() as session:
        found = await presses.by_state(session, "state")
        assert found is not None
        assert await presses.receive(session, after, found[0], found[1], "code", {})

    held = await stored(sessions, ConsentSession, row.id)

    assert consents.code_and_verifier(without(after, "k1"), held) == ("code", "verifier")
