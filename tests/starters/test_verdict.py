"""`runbook providers verdict`, as a person types it: no stack runs, nothing is configured."""

import subprocess
from pathlib import Path

import pytest

from tests.starters.conftest import RUNBOOK, Ran, run


def verdict(*words: str) -> Ran:
    return run("providers", "verdict", *words, RUNBOOK_DATA="/nowhere")


class TestAVerdict:
    def test_of_an_oauth_error_inside_an_outage_is_an_outage(self) -> None:
        told = verdict("github", "--status", "503", "--body", '{"error":"invalid_grant"}', "--json")

        assert told.code == 0
        assert (told.json["verdict"]["meaning"], told.json["verdict"]["rule"]) == ("outage", "server-error")

    def test_names_the_row_the_reason_the_wait_and_who_acts(self) -> None:
        told = verdict("slack", "--status", "429", "--header", "Retry-After: 30", "--endpoint", "api")

        assert told.code == 0
        assert "throttled" in told.out
        assert "too-many-calls (row 7 of 27; the first that matches decides)" in told.out
        assert "30 s, as the provider asks" in told.out
        assert "who acts  Nobody: the call is repeated by itself." in told.out

    def test_speaks_the_providers_own_words(self) -> None:
        assert verdict("github", "--status", "200", "--body", '{"error":"bad_refresh_token"}', "--json").json[
            "verdict"
        ]["meaning"] == ("owner_must_act")

    @pytest.mark.parametrize(
        ("silence", "rule"),
        [
            ("dns", "dns-failure"),
            ("tls", "tls-failure"),
            ("refused", "not-sent"),
            ("connect-timeout", "not-sent"),
            ("read-timeout", "answer-lost"),
            ("reset", "answer-lost"),
            ("cut", "answer-lost"),
        ],
    )
    def test_of_silence_says_whether_anything_was_sent(self, silence: str, rule: str) -> None:
        assert verdict("stripe", "--silence", silence, "--json").json["verdict"]["rule"] == rule

    def test_reads_a_body_from_a_file_and_from_standard_input(self, tmp_path: Path) -> None:
        (tmp_path / "body.json").write_text('{"error":"invalid_client"}')

        from_file = verdict("xero", "--status", "400", "--body", f"@{tmp_path}/body.json", "--json")
        words = [RUNBOOK, "providers", "verdict", "xero", "--status", "400", "--body", "-"]
        piped = subprocess.run(words, input="<html>no", capture_output=True, text=True, check=True)

        assert from_file.json["verdict"]["rule"] == "registration-wrong"
        assert "page-for-people" in piped.stdout


class TestAQuestionThatIsNone:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["github"], "give --status for an answer, or --silence when there was none"),
            (["github", "--status", "200", "--silence", "dns"], "give --status for an answer"),
            (["github", "--status", "200", "--header", "Retry-After"], 'write it as "Retry-After: 60"'),
            (["github", "--status", "200", "--body", "@/nowhere"], "--body @/nowhere: No such file"),
        ],
    )
    def test_is_wrong_usage_and_says_how_it_is_put(self, words: list[str], said: str) -> None:
        told = verdict(*words)

        assert (told.code, told.out) == (2, "")
        assert said in told.err

    def test_about_a_provider_that_is_not_there_names_the_nearest(self) -> None:
        told = verdict("githb", "--status", "200")

        assert told.code == 1
        assert "did you mean 'github'?" in told.err
