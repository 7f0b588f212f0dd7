"""What is refused while it is read: no stack runs here."""

import inspect
import io
import re
import sys
from typing import Any

import pytest

from integrations.domain.errors import WrongUsageError
from starters import contact_addresses as contacts

HOOK = "https://hooks.acme.example/T0123/verysecret"
UNMARKED = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class TestWhatMakesNoSense:
    @pytest.mark.parametrize(
        ("words", "stdin", "said"),
        [
            (["operator.primary", "email", "a@b.example"], "", "did you mean 'operators.primary'?"),
            (["acme", "email", "a@b.example"], "", "'acme' is no audience; known are list.NAME, "),
            (["org:acme", "mail", "a@b.example"], "", "'mail' is no channel; did you mean 'email'?"),
            (["org:acme", "pigeon", "a@b.example"], "", "'pigeon' is no channel; known are apprise, email, webhook"),
            (["org:acme", "email", "hunter2"], "", "the address is not one that email takes: write one like ada@"),
            (["org:acme", "email", "hunter2@acme.example\nBcc: a@b.example"], "", "is not one that email takes"),
            (["org:acme", "email", "hunter2@acme.example, a@b.example"], "", "is not one that email takes"),
            (["org:acme", "webhook", "http://acme.example/hunter2"], "", "write one like https://hooks.acme"),
            (["org:acme", "webhook", "https://u:hunter2@acme.example/"], "", "is not one that webhook takes"),
            (["org:acme", "webhook", "https://[hunter2"], "", "the address is no URL: write one like https://"),
            (["org:acme", "webhook", "https://acme.example:hunter2"], "", "the address is no URL"),
            (["org:acme", "apprise", "hunter2"], "", "write a URL of apprise, like slack://TOKEN"),
            (["org:acme", "apprise", "-"], "", "what was read is empty, no text, or longer than 2,000 bytes"),
            (["org:acme", "apprise", "-"], f"slack://{'hunter2' * 999}", "longer than 2,000 bytes"),
            (["org:acme", "apprise", "-"], "slack://a\nslack://hunter2", "is not one that apprise takes"),
            (["org:acme", "email", "-", "--secret-file", "-"], "", "nothing is signed by email"),
            (["org:acme", "webhook", "-", "--secret-file", "-"], "", "cannot both be read from stdin"),
            (["org:acme", "webhook", HOOK, "--secret-file", "/nowhere"], "", "--secret-file /nowhere: No such file"),
            (["org:acme", "webhook", HOOK, "--secret-file", "-"], "hunter2", "holds no signing secret"),
            (["org:acme", "webhook", HOOK, "--secret-file", "-"], "whsec_hunter2+hunter2=", "no signing secret"),
            (["org:acme", "webhook", HOOK, "--secret-file", "-"], UNMARKED, "it is written whsec_ and 24 to 64"),
            (["org:acme", "email", "a@b.example", "--name", "ada\r\nBcc: eve"], "", r"'ada\r\nBcc: eve' is no name"),
            (["org:acme", "email", "a@b.example", "--name", "hunter2@b.example"], "", "the name is an address"),
        ],
    )
    async def test_is_refused_before_anything_is_reached_and_not_repeated(
        self, monkeypatch: pytest.MonkeyPatch, words: list[str], stdin: str, said: str
    ) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        command: Any = inspect.unwrap(contacts.add)
        options = {
            word.removeprefix("--").replace("-", "_"): value
            for word, value in zip(words[3::2], words[4::2], strict=True)
        }

        with pytest.raises(WrongUsageError, match=re.escape(said)) as raised:
            await command(*words[:3], by="the test", **options)

        assert "hunter2" not in str(raised.value)
