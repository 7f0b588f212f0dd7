"""The ring's file: who may read it, how processes follow it, and that no moment leaves half a ring."""

import asyncio
import multiprocessing
import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from integrations.db.vault import Vault
from integrations.domain.errors import NotReadyError, StopError
from integrations.domain.keyring import Ring
from integrations.keyring import KeysFile
from tests.factories import keys_file

PLACE = "a test"


def rotate(file: KeysFile, key_id: str) -> None:
    file.change(lambda ring: ring.with_key(key_id, os.urandom(32)).activated(key_id))


def add_twenty(path: Path, name: str) -> None:
    for number in range(20):
        rotate(KeysFile(path), f"{name}{number}")


class TestAFile:
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
    def test_that_others_can_reach_is_refused_with_the_command_that_helps(self, tmp_path: Path, mode: int) -> None:
        file = keys_file(tmp_path)
        file.path.chmod(mode)

        with pytest.raises(NotReadyError, match=f"chmod 600 {file.path}"):
            KeysFile(file.path).ring()

    def test_is_its_owners_alone_however_often_it_was_changed(self, tmp_path: Path) -> None:
        file = keys_file(tmp_path)
        rotate(file, "k2")

        assert file.path.stat().st_mode & 0o777 == 0o600
        assert [entry.name for entry in tmp_path.iterdir()] == ["keys.json"]

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
    def test_keeps_its_owner_when_root_changes_it(self, tmp_path: Path) -> None:
        file = keys_file(tmp_path)
        os.chown(file.path, 1234, 1234)

        rotate(file, "k2")

        assert (file.path.stat().st_uid, file.path.stat().st_gid) == (1234, 1234)

    def test_that_is_missing_or_damaged_says_what_to_do(self, tmp_path: Path) -> None:
        file = keys_file(tmp_path)
        file.path.write_text(file.path.read_text()[:40])

        with pytest.raises(NotReadyError, match=r"keys\.json: is no JSON; put it back from its copy"):
            KeysFile(file.path).ring()
        file.path.unlink()
        with pytest.raises(NotReadyError, match="is not there: put it back"):
            KeysFile(file.path).ring()

    def test_that_exists_is_never_made_anew(self, tmp_path: Path) -> None:
        file = keys_file(tmp_path)
        before = file.path.read_bytes()

        with pytest.raises(StopError, match="exists and is left alone"):
            file.create(Ring.of_one("k1", os.urandom(32)))

        assert file.path.read_bytes() == before

    def test_that_cannot_be_written_stays_as_it_was(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = keys_file(tmp_path)
        before = file.path.read_bytes()

        full = OSError(28, "No space left on device")
        monkeypatch.setattr(os, "fsync", Mock(side_effect=full))
        with pytest.raises(StopError, match="cannot be written: No space left on device"):
            rotate(file, "k2")

        assert file.path.read_bytes() == before

    def test_changed_by_two_commands_at_once_has_what_both_added(self, tmp_path: Path) -> None:
        file = keys_file(tmp_path)
        context = multiprocessing.get_context("spawn")
        both = [context.Process(target=add_twenty, args=(file.path, name)) for name in ("a", "b")]
        for process in both:
            process.start()
        for process in both:
            process.join()

        wanted = {"k1", *(f"{name}{number}" for name in ("a", "b") for number in range(20))}
        assert set(file.ring().keys) == wanted


class TestAProcess:
    def test_seals_with_the_new_key_as_soon_as_the_file_has_it(self, tmp_path: Path) -> None:
        file = keys_file(tmp_path)
        following = Vault(KeysFile(file.path))
        sealed = following.seal(b"a token", PLACE)

        rotate(file, "k2")

        assert following.key_id == "k2"
        assert following.open(sealed, "k1", PLACE) == b"a token"

    async def test_seals_and_names_the_key_of_one_ring_within_a_turn(self, tmp_path: Path) -> None:
        """The file changes between the two, as it may in a process whose loop is busy."""
        file = keys_file(tmp_path)
        following = Vault(KeysFile(file.path))

        key_id = following.key_id
        rotate(file, "k2")
        sealed = following.seal(b"a token", PLACE)

        assert following.open(sealed, key_id, PLACE) == b"a token"
        await asyncio.sleep(0)
        assert following.key_id == "k2"

    async def test_opens_what_another_one_sealed_with_a_key_made_a_moment_ago(self, tmp_path: Path) -> None:
        file = keys_file(tmp_path)
        slow, quick = Vault(KeysFile(file.path)), Vault(KeysFile(file.path))
        assert slow.key_id == "k1"

        rotate(file, "k2")
        sealed = quick.seal(b"a token", PLACE)

        assert slow.open(sealed, quick.key_id, PLACE) == b"a token"

    async def test_works_on_with_what_it_had_while_the_file_is_gone(self, tmp_path: Path) -> None:
        file = keys_file(tmp_path)
        following = Vault(KeysFile(file.path))
        sealed = following.seal(b"a token", PLACE)
        away = file.path.rename(tmp_path / "away")

        await asyncio.sleep(0)
        opened = following.open(sealed, following.key_id, PLACE)
        with pytest.raises(NotReadyError, match=r"sealed with key 'k9'.*has only 'k1'.*keys\.json"):
            following.open(sealed, "k9", PLACE)
        away.rename(file.path)
        rotate(file, "k2")
        await asyncio.sleep(0)

        assert opened == b"a token"
        assert following.key_id == "k2"
