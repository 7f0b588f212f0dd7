"""What `make bench` makes of its numbers: the table, the file, the exit code."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bench.__main__ import BENCHMARKS, chosen, main
from bench.result import Result, tell

GOOD = Result("reauth.start", 10_000, 40.0, "lifecycles/s", 2_000, 50.0, 0.8, "a bare workflow")


def told(tmp_path: Path, *results: Result) -> tuple[int, str, list[dict[str, object]]]:
    out, file = StringIO(), tmp_path / "results.json"
    code = tell(results, file, Console(file=out, width=200))
    return code, out.getvalue(), json.loads(file.read_text(encoding="utf-8"))


class TestExitCode:
    def test_is_0_when_every_ratio_reaches_what_is_required(self, tmp_path: Path) -> None:
        assert told(tmp_path, GOOD, replace(GOOD, rate=60.0))[0] == 0

    def test_is_1_when_one_ratio_is_just_below(self, tmp_path: Path) -> None:
        assert told(tmp_path, GOOD, replace(GOOD, rate=39.9))[0] == 1

    def test_is_1_when_nothing_was_measured(self, tmp_path: Path) -> None:
        assert told(tmp_path)[0] == 1

    def test_is_2_for_a_name_that_no_benchmark_has(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.argv", ["bench", "nothing"])

        assert main() == 2


class TestFile:
    def test_has_the_fields_of_the_contract_and_no_others(self, tmp_path: Path) -> None:
        _, _, document = told(tmp_path, GOOD)

        assert document == [
            {
                "name": "reauth.start",
                "n": 10_000,
                "rate": 40.0,
                "unit": "lifecycles/s",
                "bound_rate": 50.0,
                "ratio": 0.8,
            }
        ]


class TestTable:
    def test_shows_ratio_requirement_verdict_and_bound(self, tmp_path: Path) -> None:
        _, text, _ = told(tmp_path, GOOD, replace(GOOD, name="reauth.callback_one", rate=10.0))

        good, slow = (next(line for line in text.splitlines() if each in line) for each in ("start", "callback"))
        assert "0.80" in good
        assert "≥ 0.80" in good
        assert "✔ good" in good
        assert "a bare workflow" in good
        assert "10,000" in good
        assert "0.20" in slow
        assert "✘ too slow" in slow


class TestChoice:
    def test_is_everything_without_a_name(self) -> None:
        assert chosen([]) == list(BENCHMARKS)

    def test_is_those_that_begin_with_the_name(self) -> None:
        assert chosen(["reauth.callback"]) == ["reauth.callback_one", "reauth.callback_fifty"]
        assert chosen(["reauth.start"]) == ["reauth.start"]
