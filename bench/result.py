"""What a benchmark found, as a table for people and a file for programs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Result:
    name: str
    n: int
    rate: float
    unit: str
    bound_n: int
    bound_rate: float
    required: float
    """The least ratio that is good enough."""
    bound: str
    """What the product is held against, in words."""

    @property
    def ratio(self) -> float:
        return self.rate / self.bound_rate

    @property
    def passed(self) -> bool:
        return self.ratio >= self.required

    def document(self) -> dict[str, Any]:
        """As `bench/results.json` has it: DESIGN.md, section 4."""
        return {
            "name": self.name,
            "n": self.n,
            "rate": round(self.rate, 3),
            "unit": self.unit,
            "bound_rate": round(self.bound_rate, 3),
            "ratio": round(self.ratio, 3),
        }


def table(results: Sequence[Result]) -> Table:
    shown = Table(box=None, pad_edge=False)
    for heading in ("benchmark", "n", "rate", "unit", "bound", "of n", "ratio", "required", "verdict", "the bound is"):
        shown.add_column(heading, justify="right" if heading in {"n", "rate", "bound", "of n", "ratio"} else "left")
    for each in results:
        verdict = "[green]✔ good[/]" if each.passed else "[red]✘ too slow[/]"
        numbers = f"{each.n:,}", f"{each.rate:,.1f}", each.unit, f"{each.bound_rate:,.1f}", f"{each.bound_n:,}"
        shown.add_row(each.name, *numbers, f"{each.ratio:.2f}", f"≥ {each.required:.2f}", verdict, each.bound)
    return shown


def tell(results: Sequence[Result], file: Path, console: Console) -> int:
    """Print the table, write the file. The exit code: 1 when a ratio is below what is required, or nothing ran."""
    console.print(table(results))
    file.write_text(json.dumps([each.document() for each in results], indent=2) + "\n", encoding="utf-8")
    return 0 if results and all(each.passed for each in results) else 1
