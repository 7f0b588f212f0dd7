"""Whose processor time it was."""

import subprocess
import sys

from bench.neighbours import Neighbours, ours

SPIN = "import time\nwhile time.process_time() < 0.5: pass"


class TestNeighbours:
    def test_what_our_children_and_theirs_spent_is_ours(self) -> None:
        before = ours()

        child = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {SPIN!r}], check=True)"
        subprocess.run([sys.executable, "-c", child], check=True)

        assert ours() - before >= 0.5

    def test_the_share_of_others_is_a_share(self) -> None:
        assert 0.0 <= Neighbours().share() <= 1.0
