"""What is refused while it is read: no stack runs here."""

import base64
import inspect
import io
import re
import sys
from typing import Any

import pytest
from pydantic import SecretStr

from integrations.domain.errors import WrongUsageError
from integrations.providers.channels import registry
from integrations.providers.channels.client import make_transport
from integrations.settings import Settings
from starters import contact_addresses as contacts

HOOK = "https://hooks.acme.example/T0123/verysecret"
KEY = base64.b64encode(bytes(32)).decode()
UNMARKED = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class TestWhatMakesNoSense:
    @pytest.mark.parametrize(
        ("words", "stdin", "said"),
        [
            (["operator.primary", "email", "a@b.example"], "", "did you mean 'operators.primary'?"),
            (["acme", "email", "a@b.example"], "", "'acme' is no audience; known are list.NAME, "),
            (["org:acme", "mail", "a@b.example"], "", "'mail' is no channel; did you mean 'email'?"),
            (["org:acme", "pigeon", "a@b.example"], "", "'pigeon' is no channel; known are apprise, email, webhook"),
            (["org:acme", "apprise", "-"], "", "what was read is empty, no text, or longer than 2,000 bytes"),
            (["org:acme", "apprise", "-"], f"slack://{'hunter2' * 999}", "longer than 2,000 bytes"),
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


class TestAnAddress:
    @pytest.mark.parametrize(
        ("channel", "address", "said"),
        [
            ("email", "hunter2", "a mailbox is written ada@acme.example"),
            ("email", "hunter2@acme.example\nBcc: a@b.example", "a mailbox is written"),
            ("email", "hunter2@acme.example, a@b.example", "one of them and without a name"),
            ("webhook", "http://acme.example/hunter2", "http goes to this machine only"),
            ("webhook", "https://u:hunter2@acme.example/", "no user, password or fragment"),
            ("webhook", "https://acme.example:hunter2", "a webhook is written https://host/path"),
            ("webhook", "https://10.0.0.1/hunter2", "leads into our own network"),
            ("apprise", "hunter2", "an address of apprise is written SCHEME://"),
            ("apprise", "slack://a\nslack://hunter2", "an address of apprise is written"),
        ],
    )
    async def test_that_its_channel_does_not_take_is_refused_and_not_repeated(
        self, channel: str, address: str, said: str
    ) -> None:
        async with make_transport() as http:
            settings = Settings(database_url=SecretStr("postgresql://nobody@nowhere/x"), key=SecretStr(KEY))

            with pytest.raises(WrongUsageError, match=re.escape(said)) as raised:
                contacts.checked(registry.make(settings, http)[channel], address)

        assert f"is not one that {channel} takes" in str(raised.value)
        assert "hunter2" not in str(raised.value)
