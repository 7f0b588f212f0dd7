import json
import os
import subprocess
import sys
import time
from base64 import b64encode
from pathlib import Path

import pytest

from integrations.domain.keyring import Ring
from integrations.keyring import KeysFile
from starters.embedded import location
from starters.embedded.down import down, remove
from starters.embedded.errors import EmbeddedError
from starters.embedded.files import write_atomic
from starters.embedded.folder import VERSION
from starters.embedded.keys import keys_file, secret
from starters.embedded.live import clear_live, read_live, write_live
from starters.embedded.lock import acquire

CHECKOUT = str(Path(__file__).parents[2])


def gone_process() -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process


class TestLocation:
    def test_an_explicit_path_wins_over_the_environment(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("RUNBOOK_DATA", str(tmp_path / "named"))

        assert location.locate(tmp_path / "explicit") == tmp_path / "explicit"
        assert location.locate() == tmp_path / "named"
        assert location.locate(purpose="demo") == tmp_path / "named-demo"

    def test_root_gets_a_folder_that_postgres_can_reach(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RUNBOOK_DATA", raising=False)
        monkeypatch.setattr(os, "geteuid", lambda: 0)

        assert str(location.locate()).startswith(f"{location.SHARED}/runbook-0-")

    def test_others_get_one_in_the_checkout(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RUNBOOK_DATA", raising=False)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)

        assert location.locate() == Path(CHECKOUT) / ".runbook"


class TestRefusal:
    def test_a_folder_with_other_things_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("mine")
        tmp_path.chmod(0o755)

        with pytest.raises(EmbeddedError, match=f"{tmp_path} holds other things.*RUNBOOK_DATA"):
            acquire(tmp_path)

        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
        assert tmp_path.stat().st_mode & 0o777 == 0o755

    def test_a_folder_of_another_version_is_named_with_the_way_out(self, tmp_path: Path) -> None:
        (tmp_path / VERSION).write_text("runbook data folder\nlayout 0\npostgres 17\n")

        with pytest.raises(EmbeddedError, match=f"{tmp_path} has layout 0, postgres 17, .*make reset"):
            acquire(tmp_path)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
    def test_a_folder_of_another_user_is_not_used(self, tmp_path: Path) -> None:
        os.chown(tmp_path, 65534, -1)

        with pytest.raises(EmbeddedError, match="is not a folder of user 0"):
            acquire(tmp_path)

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "target").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "target")

        with pytest.raises(EmbeddedError, match="is not a folder"):
            acquire(tmp_path / "link")


class TestLock:
    def test_a_second_stack_is_told_who_holds_the_folder(self, tmp_path: Path) -> None:
        said: list[str] = []

        with acquire(tmp_path), pytest.raises(EmbeddedError, match=f"{tmp_path} .*pid {os.getpid()}.*runbook down"):
            acquire(tmp_path, wait=60, say=said.append)

        assert said == []  # a stack that runs does not leave by itself, so nobody waits for it

    def test_what_a_killed_stack_left_running_is_waited_for(self, tmp_path: Path) -> None:
        said: list[str] = []

        with acquire(tmp_path):
            (tmp_path / "lock").write_text('{"pid": 1, "identity": "of a process that is gone"}')
            with pytest.raises(EmbeddedError, match="servers of a stack that was killed"):
                acquire(tmp_path, wait=0.3, say=said.append)

        assert len(said) == 1

    def test_it_is_free_again_after_release(self, tmp_path: Path) -> None:
        acquire(tmp_path).release()

        acquire(tmp_path, wait=0).release()


class TestHalfWritten:
    @pytest.mark.parametrize("left", [[], ["VERSION.tmp"], ["lock"], ["lock", "VERSION.tmp"]])
    def test_a_first_start_that_was_killed_can_be_repeated(self, tmp_path: Path, left: list[str]) -> None:
        for name in left:
            (tmp_path / name).write_text("runbo")

        acquire(tmp_path).release()

        assert (tmp_path / VERSION).read_text() == "runbook data folder\nlayout 1\npostgres 18\n"

    def test_a_killed_writer_leaves_the_old_file(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        write_atomic(path, "old")
        (tmp_path / "file.tmp").write_text("ne")

        assert path.read_text() == "old"
        write_atomic(path, "new")
        assert path.read_text() == "new"
        assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
        assert path.stat().st_mode & 0o777 == 0o600

    def test_half_a_live_file_means_no_stack(self, tmp_path: Path) -> None:
        (tmp_path / "live.json").write_text('{"pid": 1')

        assert read_live(tmp_path) is None

    def test_damaged_secrets_are_never_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "secrets.json").write_text('{"key": "ab')

        with pytest.raises(EmbeddedError, match=r"secrets\.json is damaged"):
            secret(tmp_path, "key", lambda: "new")


class TestSecrets:
    def test_are_made_once(self, tmp_path: Path) -> None:
        made = iter(("first", "second", "third"))

        assert [secret(tmp_path, name, lambda: next(made)) for name in ("key", "key", "other")] == [
            "first",
            "first",
            "second",
        ]
        assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600


class TestTheRing:
    def test_is_made_once_and_for_its_owner_alone(self, tmp_path: Path) -> None:
        first = KeysFile(keys_file(tmp_path)).ring()

        assert KeysFile(keys_file(tmp_path)).ring() == first
        assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600

    def test_takes_over_the_key_of_an_earlier_release_and_leaves_no_copy(self, tmp_path: Path) -> None:
        """Also when it was killed between the two files."""
        key = os.urandom(32)
        secret(tmp_path, "key", lambda: b64encode(key).decode())
        secret(tmp_path, "other", lambda: "kept")
        before = (tmp_path / "secrets.json").read_text()

        for _ in range(2):
            assert KeysFile(keys_file(tmp_path)).ring() == Ring.of_one("k1", key)
            assert json.loads((tmp_path / "secrets.json").read_text()) == {"other": "kept"}
            (tmp_path / "secrets.json").write_text(before)

    def test_is_not_made_beside_damaged_secrets(self, tmp_path: Path) -> None:
        """The key may be in them."""
        (tmp_path / "secrets.json").write_text('{"key": "ab')

        with pytest.raises(EmbeddedError, match=r"secrets\.json is damaged"):
            keys_file(tmp_path)


class TestLive:
    def test_is_read_back_while_the_writer_lives(self, tmp_path: Path) -> None:
        write_live(tmp_path, {"address": "127.0.0.1:1"})

        found = read_live(tmp_path)

        assert found is not None
        assert (found["address"], found["pid"]) == ("127.0.0.1:1", os.getpid())
        clear_live(tmp_path)
        assert read_live(tmp_path) is None

    def test_a_dead_pid_is_no_stack(self, tmp_path: Path) -> None:
        write_live(tmp_path, {})
        file = tmp_path / "live.json"
        file.write_text(file.read_text().replace(str(os.getpid()), str(gone_process().pid)))

        assert read_live(tmp_path) is None

    def test_a_reused_pid_is_no_stack(self, tmp_path: Path) -> None:
        write_live(tmp_path, {})
        file = tmp_path / "live.json"
        facts = json.loads(file.read_text())
        file.write_text(json.dumps({**facts, "identity": facts["identity"] + "0"}))

        assert read_live(tmp_path) is None


HOLDER = """
import pathlib, sys, time
from starters.embedded.lock import acquire
lock = acquire(pathlib.Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


class TestDown:
    def test_without_a_stack_there_is_nothing_to_do(self, tmp_path: Path) -> None:
        assert down(tmp_path / "missing") is False

        acquire(tmp_path / "left").release()

        assert down(tmp_path / "left") is False

    def test_stops_the_holder_and_returns_when_it_is_gone(self, tmp_path: Path) -> None:
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": CHECKOUT}
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            began = time.monotonic()

            assert down(tmp_path) is True

            assert time.monotonic() - began < 15
            acquire(tmp_path, wait=0).release()


class TestRemove:
    def test_leaves_no_trace(self, tmp_path: Path) -> None:
        folder = tmp_path / "data"
        acquire(folder).release()

        assert remove(folder) is True

        assert list(tmp_path.iterdir()) == []
        assert remove(folder) is False

    def test_a_folder_without_our_mark_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("mine")

        with pytest.raises(EmbeddedError, match="no mark of ours"):
            remove(tmp_path)

        assert (tmp_path / "thesis.txt").exists()

    def test_a_folder_in_use_is_left_alone(self, tmp_path: Path) -> None:
        with acquire(tmp_path), pytest.raises(EmbeddedError, match=r"in use.*make down"):
            remove(tmp_path)

        assert (tmp_path / VERSION).exists()
