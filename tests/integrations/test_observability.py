import base64
import hashlib
import json
import secrets
import subprocess
import sys
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.observability import scrubbed

_LOGS = """
import logging, sys
import structlog
from integrations import observability
observability.configure(as_json=True)
{}
"""


def logged(code: str) -> list[dict[str, object]]:
    """What a process of its own writes to stderr."""
    done = subprocess.run([sys.executable, "-c", _LOGS.format(code)], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


class TestScrubbing:
    @pytest.mark.parametrize(
        "token",
        [
            "sim_at_Zk3vQ9x_Lw1mP0sT8yRb2NcEfGh4",
            "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=",
        ],
    )
    def test_cuts_tokens_wherever_they_stand(self, token: str) -> None:
        for text in (token, f"refused: {token}.", f"{{'refresh_token': '{token}'}}", f"Bearer {token}\nnext line"):
            clean = scrubbed(text)

            assert token not in clean
            assert token[8:] not in clean
            assert "…" in clean

    def test_cuts_what_a_link_or_a_state_is_made_of(self) -> None:
        for number in range(200):
            token = base64.urlsafe_b64encode(hashlib.sha256(bytes([number])).digest()).rstrip(b"=").decode()

            assert token not in scrubbed(f"https://app.example/reconsent/{token}")

    @pytest.mark.parametrize(
        ("text", "clean"),
        [
            ("GET http://a:8000/callback?code=abc&state=def failed", "GET http://a:8000/callback?… failed"),
            ('at "https://p.example/authorize?client_id=us" now', 'at "https://p.example/authorize?…" now'),
            ("is it so? yes=1", "is it so? yes=1"),
        ],
    )
    def test_cuts_query_strings_and_no_questions(self, text: str, clean: str) -> None:
        assert scrubbed(text) == clean

    @pytest.mark.parametrize(
        "text",
        [
            "reauth:simulator:3f2b8c1e-0d4f-4a53-9a0e-0c5a2f6d1b11",
            "connection 3F2b8C1e-0d4f-4a53-9A0e-0c5a2f6d1B11 is there",
            "outbox-dispatch:12 and notification-dispatch:mail",
            "integrations.providers.http_client.make_client",
            "/opt/runbook/integrations/db/migrations/versions/baseline.py",
            "the connection is needs_reconsent; missing grants: notes.write",
            "RUNBOOK_PROVIDER_SIMULATOR_CLIENT_SECRET is not set",
            "Simulator: 503: the provider is in trouble and has said nothing about the grant",
        ],
    )
    def test_keeps_what_a_reader_needs(self, text: str) -> None:
        assert scrubbed(text) == text

    @given(st.lists(st.uuids().map(str), max_size=5))
    def test_keeps_every_uuid(self, ids: list[str]) -> None:
        text = " ".join(f"connection {one}" for one in ids)

        assert scrubbed(text) == text

    def test_is_bounded(self) -> None:
        assert len(scrubbed("word " * 10_000)) <= 2000


class TestALogLine:
    def test_is_written_to_stderr_without_secrets(self) -> None:
        token = secrets.token_hex(20)
        life = str(uuid4())

        [line] = logged(
            f"structlog.get_logger('x').info('refresh.failed', workflow_id='reauth:simulator:{life}', why='{token}')"
        )

        assert (line["event"], line["level"], line["logger"]) == ("refresh.failed", "info", "x")
        assert line["workflow_id"] == f"reauth:simulator:{life}"
        assert token not in str(line)

    def test_of_another_library_has_the_same_shape(self) -> None:
        token = secrets.token_hex(20)

        [line] = logged(f"logging.getLogger('lib').warning('sent %s', '{token}')")

        assert (line["level"], line["logger"]) == ("warning", "lib")
        assert token not in str(line)

    def test_of_the_http_client_is_left_out_because_it_holds_addresses(self) -> None:
        assert logged("logging.getLogger('httpx').info('HTTP Request: GET http://x/?code=abc')") == []

    def test_of_temporal_says_which_workflow_and_attempt(self) -> None:
        context = {"workflow_id": "job:simulator:k", "activity_type": "job.call", "attempt": 3, "task_token": "t"}

        [line] = logged(f"logging.getLogger('temporalio').warning('slow', extra={{'temporal_activity': {context}}})")

        assert (line["workflow_id"], line["activity_type"], line["attempt"]) == ("job:simulator:k", "job.call", 3)
        assert "task_token" not in line

    def test_of_an_error_says_which_error_it_was(self) -> None:
        [line] = logged(
            "def deep(n):\n"
            "    if n == 0: raise RuntimeError('the disk is full')\n"
            "    deep(n - 1) if n % 2 else deeper(n)\n"
            "def deeper(n):\n"
            "    deep(n - 1)\n"
            "try: deep(200)\n"
            "except RuntimeError as error: structlog.get_logger('x').error('activity.failed', exc_info=error)"
        )

        assert "the disk is full" in str(line)
