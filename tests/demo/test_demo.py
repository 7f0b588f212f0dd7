"""The demo as a person starts it, and each of its checks broken on purpose."""

import json
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from starters.demo.check import Name
from starters.demo.command import STORY_OF

RUNBOOK = Path(sys.executable).with_name("runbook")
pytestmark = pytest.mark.timeout(300)


def demo(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run it from another folder than the checkout, with its data beside ours."""
    finished = subprocess.run(
        [RUNBOOK, "demo", "--json", *arguments],
        cwd=folder,
        env={**os.environ, "RUNBOOK_DATA": str(folder / "stack")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.stdout, finished.stderr
    return finished.returncode, json.loads(finished.stdout)


LEFT_OUT = {
    Name.CONNECTED_WITH_PKCE,
    Name.REVOCATION_CONFIRMED,
    Name.WORKER_KILLED_UNHARMED,
    Name.CAPABILITY_SUCCEEDED,
    Name.REVOCATION_TOLD,
    Name.BURST_COALESCED,
    Name.OUTAGE_HARMED_NOBODY,
    Name.OUTAGE_HEALED,
}
"""Each takes half a minute to a minute of CI's ninety: `runbook demo --sabotage NAME` is these tests by hand."""


class TestTheDemo:
    def test_holds_every_check_and_leaves_nothing_running(self, reachable_folder: Path) -> None:
        code, found = demo(reachable_folder)

        assert code == 0, found
        assert [check["name"] for check in found["checks"] if check["passed"]] == list(Name)
        assert (found["passed"], found["failed"]) == (len(Name), 0)
        assert all(check["evidence"] for check in found["checks"])
        report = (reachable_folder / "report.html").read_text()
        assert f"<title>Runbook demo: {len(Name)} of {len(Name)} checks held</title>" in report
        (mail,) = re.findall(r'<iframe sandbox [^>]*srcdoc="([^"]*)"', report)
        assert "See what we ask for</a>" in unescape(mail)
        assert set(re.findall(r"/reconsent/(.{5})", unescape(mail))) == {"(for "}, "whose link it is stays between us"
        assert report.count('<rect class="let"') == report.count('<rect class="seen"') == 60
        assert not re.findall(r'(?:src|href)="http', report), "the page stands on its own"
        assert not (reachable_folder / "stack-demo").exists()

    @pytest.mark.chaos
    @pytest.mark.parametrize("name", [name for name in Name if name not in LEFT_OUT])
    def test_fails_exactly_the_check_that_is_sabotaged(self, name: Name, reachable_folder: Path) -> None:
        code, found = demo(reachable_folder, STORY_OF[name], "--sabotage", name)

        assert code == 1
        assert [check["name"] for check in found["checks"] if not check["passed"]] == [name]
        assert found["failed"] == 1
