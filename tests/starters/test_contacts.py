import pytest

from tests.starters.conftest import Runbook


class TestAContact:
    def test_is_set_and_set_again_and_listed(self, runbook: Runbook) -> None:
        for quiet in ("20-8", "22-7"):
            done = runbook("contacts", "set", "org:tokyo", "--zone", "Asia/Tokyo", "--quiet", quiet, "--by", "grace")
            assert done.code == 0
            assert done.err.startswith("Target: ")

        (listed,) = (row for row in runbook("contacts", "list", "--json").json if row["owner"] == "org:tokyo")
        assert (listed["zone"], listed["quiet"], listed["changed_by"]) == ("Asia/Tokyo", "22-7", "grace")
        assert "org:tokyo" in runbook("contacts", "list").out

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["tokyo", "--zone", "Asia/Tokyo"], "'tokyo' is not an owner: write user:ID or org:ID"),
            (["org:tokyo", "--zone", "Asia/Edo"], "'Asia/Edo' is no time zone: write one like Europe/Berlin"),
            (["org:tokyo", "--zone", "Asia/Tokyo", "--quiet", "late"], "'late' are no hours: write 20-8"),
        ],
    )
    def test_that_makes_no_sense_is_wrong_usage(self, runbook: Runbook, words: list[str], said: str) -> None:
        refused = runbook("contacts", "set", *words)

        assert (refused.code, refused.out) == (2, "")
        assert said in refused.err
