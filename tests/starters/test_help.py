"""Every command explains itself, with an example that its own parser takes."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from starters.app import app
from tests.starters.conftest import run


def leaves(group: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, *path, name)
        else:
            yield (*path, name), command


COMMANDS = dict(leaves(typer.main.get_command(app)))


class TestEveryCommand:
    @pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
    def test_has_help_with_an_example_that_can_be_pasted(self, path: tuple[str, ...]) -> None:
        shown = CliRunner().invoke(app, [*path, "--help"], terminal_width=200)

        assert shown.exit_code == 0
        assert "Example:" in shown.output
        example = re.search(r"Example: (.+)", COMMANDS[path].help or "")
        assert example is not None
        words = [word for word in shlex.split(example[1]) if not re.fullmatch(r"[A-Z_]+=.*", word)]
        assert words[: len(path) + 1] == ["runbook", *path]
        COMMANDS[path].make_context(path[-1], words[len(path) + 1 :])  # a wrong option or argument raises

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
