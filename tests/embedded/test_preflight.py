import runpy
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

PREFLIGHT = Path(__file__).parents[2] / "deploy" / "preflight.py"
Version = namedtuple("Version", ("major", "minor"))  # noqa: PYI024 - compared as a tuple, like the real one


def test_says_nothing_where_the_project_runs() -> None:
    done = subprocess.run([sys.executable, PREFLIGHT], capture_output=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("sys.version_info", Version(3, 10), "This is Python 3.10"),
        ("sys.version_info", Version(3, 15), "This is Python 3.15"),
        ("sys.version_info", Version(2, 7), "This is Python 2.7"),
        ("platform.system", lambda: "Windows", "This is Windows, and Linux or macOS is needed"),
        ("platform.machine", lambda: "riscv64", "riscv64, and a 64-bit one"),
        ("platform.python_implementation", lambda: "PyPy", "This is PyPy"),
    ],
)
def test_names_what_was_found_and_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: object, sentence: str
) -> None:
    monkeypatch.setattr(name, value)

    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(PREFLIGHT), run_name="__main__")

    assert stopped.value.code == 1
    said = capsys.readouterr().out
    assert sentence in said
    assert said.count("\n") == 1
