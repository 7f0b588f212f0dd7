import asyncio
import json
import logging
import socket
import threading
from datetime import timedelta

import pytest

from integrations.domain.verdict import Meaning
from integrations.providers.channels import apprise
from integrations.providers.channels.apprise import AppriseChannel
from tests.providers.channels.messages import LINK, outgoing
from tests.providers.serving import Arrival, answering, serving

SLACK = "slack://TAAAAAAAA/BBBBBBBBB/cccccccccccccccccccccccc/#alerts"


@pytest.fixture(scope="module")
def channel() -> AppriseChannel:
    return AppriseChannel()


def as_json(url: str) -> str:
    """A service of apprise's that posts JSON to a server of one's own."""
    return url.replace("http://", "json://ada:hunter2@") + "a-token-in-the-path?method=post"


class TestAMessage:
    async def test_arrives(self, channel: AppriseChannel) -> None:
        arrivals: list[Arrival] = []

        async with serving(answering("200 OK"), arrivals) as url:
            answer = await channel.send(outgoing(as_json(url)))

        assert answer.sent
        (arrival,) = arrivals
        body = json.loads(arrival.body)
        assert (body["title"], body["message"]) == ("Connect the simulator again", f"Hello Ada, here it is: {LINK}")

    async def test_that_is_not_taken_may_be_later(self, channel: AppriseChannel) -> None:
        async with serving(answering("500 Error")) as url:
            answer = await channel.send(outgoing(as_json(url)))

        assert (answer.meaning, answer.kind) == (Meaning.OUTAGE, "apprise")
        assert answer.why == "apprise says only that it failed"

    async def test_where_nobody_listens_may_be_taken_later(self, channel: AppriseChannel) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound and never listening: refuses
            answer = await channel.send(outgoing(as_json(f"http://127.0.0.1:{taken.getsockname()[1]}/")))

        assert (answer.meaning, answer.kind) == (Meaning.OUTAGE, "apprise")

    async def test_to_an_address_that_is_none_is_refused(self, channel: AppriseChannel) -> None:
        answer = await channel.send(outgoing("nosuch://token"))

        assert (answer.refused, answer.kind) == (True, "Address")

    async def test_is_tried_once_whatever_its_address_says(self, channel: AppriseChannel) -> None:
        arrivals: list[Arrival] = []

        async with serving(answering("500 Error"), arrivals) as url:
            await channel.send(outgoing(f"{as_json(url)}&retry=2&wait=0"))

        assert len(arrivals) == 1


class TestAServiceThatHangs:
    async def test_is_waited_for_no_longer_than_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(apprise, "TIMEOUT", timedelta(seconds=1))

        async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await reader.read()

        async with serving(silence) as url:
            answer = await asyncio.wait_for(AppriseChannel().send(outgoing(f"{as_json(url)}&rto=3")), 2.5)

        assert (answer.meaning, answer.kind) == (Meaning.OUTAGE, "Timeout")

    async def test_takes_no_thread_that_names_are_looked_up_in(self, channel: AppriseChannel) -> None:
        names: list[str] = []

        async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            names.extend(thread.name for thread in threading.enumerate())
            await reader.read()

        async with serving(silence) as url:
            await channel.send(outgoing(f"{as_json(url)}&rto=0.2"))

        assert any(name.startswith("apprise") for name in names)

    async def test_is_not_sent_after_all_when_its_turn_never_came(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(apprise, "TIMEOUT", timedelta(seconds=0.5))
        monkeypatch.setattr(apprise, "_THREADS", 1)
        late: list[Arrival] = []
        narrow = AppriseChannel()

        async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await reader.read()

        async with serving(silence) as hanging, serving(answering("200 OK"), late) as healthy:
            blocking = asyncio.create_task(narrow.send(outgoing(f"{as_json(hanging)}&rto=1.5")))
            await asyncio.sleep(0.1)
            answer = await narrow.send(outgoing(as_json(healthy)))
            await blocking
            await asyncio.to_thread(narrow._threads.shutdown)

        assert (answer.kind, late) == ("Timeout", [])


class TestAnAddress:
    @pytest.mark.parametrize(
        ("address", "origin", "masked"),
        [
            ("json://ada:hunter2@127.0.0.1:8080/a-token?x=y", "json://127.0.0.1:8080", "json://127.0.0.1:8080/…"),
            ("jsons://hooks.acme.example/a-token", "jsons://hooks.acme.example", "jsons://hooks.acme.example/…"),
            (SLACK, "slack", "slack://…"),
            ("discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js", "discord", "discord://…"),
            ("tgram://123456789:abcdefg_hijklmnop/12315544/", "tgram", "tgram://…"),
            ("https://discord.com/api/webhooks/4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js", "discord", "discord://…"),
            ("pushdeer://aSecretPushKeyOfSomebody", "pushdeer", "pushdeer://…"),
            ("mailtos://ada:hunter2@acme.example", "mailtos://acme.example:587", "mailtos://acme.example:587/…"),
        ],
    )
    def test_is_shown_without_its_secrets(
        self, channel: AppriseChannel, address: str, origin: str, masked: str
    ) -> None:
        assert channel.check(f" {address} ") == address
        assert (channel.origin(address), channel.masked(address)) == (origin, masked)

    @pytest.mark.parametrize(
        "written",
        [
            "",
            "slack",
            "nosuch://hunter2",
            "slack://hunter2",
            f"{SLACK}\r\nX: y",
            "json://acme.example/a\nb",
            "http://hunter2.example/",
        ],
    )
    def test_that_apprise_does_not_know_is_refused(self, channel: AppriseChannel, written: str) -> None:
        with pytest.raises(ValueError, match="an address of apprise is written SCHEME://") as refused:
            channel.check(written)

        assert "hunter2" not in str(refused.value)


class TestSecrets:
    @pytest.mark.parametrize("status", ["200 OK", "500 a-token-in-the-path"])
    async def test_are_in_no_answer_and_no_log(
        self, channel: AppriseChannel, status: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with caplog.at_level(logging.INFO):
            async with serving(answering(status, body=b"hunter2")) as url:
                answer = await channel.send(outgoing(as_json(url)))
            await channel.send(outgoing("slack://hunter2"))

        printed = capfd.readouterr()
        shown = f"{answer!r} {channel!r} {caplog.text} {printed.out} {printed.err}"
        assert [secret for secret in ("hunter2", "a-token-in-the-path", LINK) if secret in shown] == []
