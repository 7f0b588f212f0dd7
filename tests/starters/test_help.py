"""Every command explains itself, with an example that its own parser takes."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from starters.app import command_line
from tests.starters.conftest import run


def leaves(group: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, *path, name)
        else:
            yield (*path, name), command


APP = command_line()
COMMANDS = dict(leaves(typer.main.get_command(APP)))


class TestEveryCommand:
    @pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
    def test_has_help_with_an_example_that_can_be_pasted(self, path: tuple[str, ...]) -> None:
        shown = CliRunner().invoke(APP, [*path, "--help"], terminal_width=200)

        assert shown.exit_code == 0
        assert "Example:" in shown.output
        example = re.search(r"Example: (.+)", COMMANDS[path].help or "")
        assert example is not None
        words = [word for word in shlex.split(example[1]) if not re.fullmatch(r"[A-Z_]+=.*", word)]
        assert words[: len(path) + 1] == ["runbook", *path]
        COMMANDS[path].make_context(path[-1], words[len(path) + 1 :])  # a wrong option or argument raises

    @pytest.mark.parametrize("path", [("status",), ("outbox", "dead")], ids=" ".join)
    def test_is_imported_without_those_that_were_not_asked_for(self, path: tuple[str, ...]) -> None:
        """So that the first look at 3 a.m. takes half a second less."""
        script = (
            f"import sys; sys.argv = ['runbook', *{path}, '--help']\n"
            "from starters import app\n"
            "app.run = lambda line: line(standalone_mode=False)\n"
            "app.main(); print('starters.demo.command' in sys.modules, 'starters.webhooks' in sys.modules)"
        )
        ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

        assert f"runbook {' '.join(path)}" in ran.stdout
        assert ran.stdout.endswith("False False\n")

    def test_that_is_none_ends_with_2(self) -> None:
        assert run("nosuch").code == 2


class TestTheDemo:
    def test_knows_its_stories_and_what_can_be_broken(self) -> None:
        """Refused before a folder is touched or a server started."""
        story, sabotage = run("demo", "nosuch", "--json"), run("demo", "--sabotage", "nosuch")

        assert (story.code, story.out) == (2, "")
        assert "there is no story 'nosuch'; there are: reauth, refresh, outbox" in story.err
        assert (sabotage.code, sabotage.out) == (2, "")
        assert "write_blocked" in sabotage.err

    def test_breaks_nothing_that_the_story_does_not_check(self) -> None:
        refused = run("demo", "outbox", "--sabotage", "write_blocked")

        assert (refused.code, refused.out) == (2, "")
        assert "the story 'outbox' does not check write_blocked; it checks backlog_drained" in refused.err
