import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from starters.embedded.down import remove

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def data_folder() -> Iterator[Path]:
    """A path that does not exist yet, reachable for `nobody` when we are root (pytest's own folders are not)."""
    above = Path(tempfile.mkdtemp(prefix="rb-test-", dir="/var/tmp"))
    above.chmod(0o711)
    yield above / "data"
    for folder in above.iterdir():
        if (folder / "VERSION").is_file():
            remove(folder)
    shutil.rmtree(above)


Stack = Callable[[Path], AbstractContextManager["subprocess.Popen[str]"]]


@pytest.fixture
def running_stack() -> Stack:
    """Start both servers in a process of their own, as `runbook up` does; killed at the end if it still runs."""

    @contextmanager
    def run(folder: Path) -> Iterator["subprocess.Popen[str]"]:
        script = Path(__file__).with_name("stack.py")
        process = subprocess.Popen(
            [sys.executable, script, folder],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *sys.path])},
        )
        try:
            assert process.stdout is not None
            with process.stdout:
                assert process.stdout.readline() == "ready\n"
                yield process
        finally:
            process.kill()
            process.wait()

    return run
