"""Where the ring of keys comes from: the environment, or a file that `runbook keys` changes and processes follow."""

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import structlog

from integrations.domain.errors import NotReadyError, StopError
from integrations.domain.keyring import Ring, parsed, written

log = structlog.get_logger("keys")
_OTHERS: Final = 0o077
_Stamp = tuple[int, int, int]


class Keys(Protocol):
    """A source of the ring. `where` says to a person what to correct."""

    @property
    def where(self) -> str: ...

    def ring(self) -> Ring: ...

    def reread(self) -> Ring: ...


class GivenKeys:
    """A ring that stays as it is until the process ends: from the environment, or a test's."""

    def __init__(self, ring: Ring, where: str = "RUNBOOK_KEY") -> None:
        self._ring = ring
        self.where = where

    def ring(self) -> Ring:
        return self._ring

    def reread(self) -> Ring:
        return self._ring


class KeysFile:
    """A ring in a file, read again whenever the file is another one: a rotation needs no restart."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ring: Ring | None = None
        self._stamp: _Stamp | None = None
        self._turn: asyncio.AbstractEventLoop | None = None

    @property
    def where(self) -> str:
        return str(self.path)

    def ring(self) -> Ring:
        """The ring as the file has it. Raises NotReadyError when it was never readable.

        Within one turn of the event loop it stays the same: a caller who seals a value and writes the key's id beside
        it without awaiting anything in between gets both from one ring.
        """
        turn = _running_loop()
        if self._ring is None or turn is None or turn is not self._turn:
            self._follow()
            if turn is not None:
                self._turn = turn
                turn.call_soon(self._end_turn)
        assert self._ring is not None
        return self._ring

    def reread(self) -> Ring:
        """The ring, for someone who needs a key that it did not have a moment ago."""
        self._follow()
        assert self._ring is not None
        return self._ring

    def create(self, ring: Ring) -> None:
        """Write the first ring. Raises StopError when there is a file: it may hold the only copy of a key."""
        with _alone(self.path.parent) as folder:
            if self.path.exists():
                raise StopError(f"{self.path} exists and is left alone; `runbook keys rotate` adds a key to it")
            _write(self.path, ring, folder)

    def change(self, change: Callable[[Ring], Ring]) -> Ring:
        """Put another ring in place of the one in the file, all of it or nothing. Raises NotReadyError, StopError."""
        target = self.path.resolve()
        with _alone(target.parent) as folder:
            before = _read(target)
            after = change(before)
            if after != before:
                _write(target, after, folder)
        return self.reread()

    def _end_turn(self) -> None:
        self._turn = None

    def _follow(self) -> None:
        stamp = _stamped(self.path)
        if self._ring is not None and stamp == self._stamp:
            return
        # Taken before the reading: a file that is replaced in between is met once more.
        self._stamp = stamp
        try:
            self._ring = _read(self.path)
        except NotReadyError as error:
            if self._ring is None:
                raise
            # What was readable a moment ago still opens everything that it opened then.
            log.warning("keys.unreadable", why=str(error))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _stamped(path: Path) -> _Stamp | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_ino, info.st_mtime_ns, info.st_ctime_ns


def _read(path: Path) -> Ring:
    """The ring in a file. Raises NotReadyError: a person has to put it right, and work waits for that."""
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                raise NotReadyError(f"{path} holds keys and is open to other users: chmod 600 {path}")
            return parsed(file.read())
    except FileNotFoundError:
        raise NotReadyError(
            f"{path}, which RUNBOOK_KEYS_FILE names, is not there: put it back from its copy. For a database in which "
            "nothing is sealed yet `runbook keys init` makes it"
        ) from None
    except OSError as error:
        raise NotReadyError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise NotReadyError(f"{path}: {error}; put it back from its copy") from None


@contextmanager
def _alone(folder: Path) -> Iterator[int]:
    """The folder's descriptor, locked: two commands that change a ring come one after the other."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise StopError(f"{folder} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _write(path: Path, ring: Ring, folder: int) -> None:
    """Old ring or new one, whenever the machine stops.

    No copy of the old one stays beside it: the new one has every key of it but a retired one, which must be gone.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            if path.exists():
                # Changed by root, it still has to be readable for the account that the processes run as.
                os.fchown(descriptor, path.stat().st_uid, path.stat().st_gid)
            file.write(written(ring))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        os.fsync(folder)
    except OSError as error:
        raise StopError(f"{path} cannot be written: {error.strerror}") from None
