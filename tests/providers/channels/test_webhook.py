import asyncio
import json
import logging
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from integrations.domain.notification import Answer
from integrations.domain.verdict import Meaning
from integrations.providers.channels import webhook
from integrations.providers.channels.client import make_transport
from integrations.providers.channels.webhook import WebhookChannel
from tests.providers.channels.messages import EVENT, KEY, LINK, SIGNING, outgoing
from tests.providers.serving import Arrival, Handler, answering, self_signed, serving

PATH = "hooks/a-token-in-the-path"


@pytest_asyncio.fixture
async def transport() -> AsyncIterator[httpx.AsyncBaseTransport]:
    async with make_transport() as made:
        yield made


@pytest.fixture
def channel(transport: httpx.AsyncBaseTransport) -> WebhookChannel:
    return WebhookChannel(transport, ())


async def sent(channel: WebhookChannel, handler: Handler, arrivals: list[Arrival] | None = None) -> Answer:
    async with serving(handler, arrivals) as url:
        return await channel.send(outgoing(f"{url}{PATH}"))


def said(answer: Answer) -> tuple[Meaning, str, timedelta | None]:
    return answer.meaning, answer.kind, answer.after


class TestAMessage:
    async def test_says_what_happened_to_whom(self, channel: WebhookChannel) -> None:
        arrivals: list[Arrival] = []

        answer = await sent(channel, answering("202 Accepted"), arrivals)

        assert answer == Answer(meaning=Meaning.OK)
        (arrival,) = arrivals
        assert arrival.line == f"POST /{PATH} HTTP/1.1"
        assert arrival.headers["Content-Type"] == "application/json"
        assert json.loads(arrival.body) == {
            "type": "reauth.invited",
            "timestamp": "2026-11-25T20:05:00+00:00",
            "data": {
                "event_id": str(EVENT),
                "definition": "invitation",
                "recipient": "org:acme/ada",
                "owner": "org:acme",
                "provider": "simulator",
                "connection_id": "2cfee766-1630-4443-9cae-ccfa0798e621",
                "subject": "Connect the simulator again",
                "text": f"Hello Ada, here it is: {LINK}",
            },
        }

    async def test_is_signed_as_the_vendors_library_verifies(self, channel: WebhookChannel) -> None:
        arrivals: list[Arrival] = []

        await sent(channel, answering("200 OK"), arrivals)

        (arrival,) = arrivals
        headers = dict(arrival.headers.items())
        assert Webhook(SIGNING).verify(arrival.body, headers)["data"]["definition"] == "invitation"
        with pytest.raises(WebhookVerificationError):
            Webhook(SIGNING).verify(arrival.body.replace(b"acme", b"evil"), headers)

    async def test_has_the_same_key_each_time(self, channel: WebhookChannel) -> None:
        arrivals: list[Arrival] = []

        async with serving(answering("503 Down"), arrivals) as url:
            for _ in range(2):
                await channel.send(outgoing(url))

        assert [arrival.headers["Idempotency-Key"] for arrival in arrivals] == [KEY, KEY]
        assert [arrival.headers["webhook-id"] for arrival in arrivals] == [KEY, KEY]

    @pytest.mark.parametrize("secret", ["", "whsec_", "whsec_ä", "whsec_a"])
    async def test_that_nothing_can_sign_is_refused_and_not_sent(self, channel: WebhookChannel, secret: str) -> None:
        arrivals: list[Arrival] = []

        async with serving(answering("200 OK"), arrivals) as url:
            answer = await channel.send(outgoing(url, secret=secret))

        assert (answer.refused, answer.kind, arrivals) == (True, "Secret", [])

    @pytest.mark.parametrize("address", ["https://[::1/", "https://127.1/", "ftp://hooks.acme.example/"])
    async def test_to_an_address_that_is_none_is_refused(self, channel: WebhookChannel, address: str) -> None:
        answer = await channel.send(outgoing(address))

        assert (answer.refused, answer.kind) == (True, "Address")

    async def test_carries_no_cookie_of_an_earlier_answer(self, channel: WebhookChannel) -> None:
        arrivals: list[Arrival] = []

        async with serving(answering("200 OK", "Set-Cookie: who=ada; Path=/"), arrivals) as url:
            for _ in range(2):
                # Of an address in numbers, aiohttp would keep none anyway.
                await channel.send(outgoing(url.replace("127.0.0.1", "localhost")))

        assert [arrival.headers["Cookie"] for arrival in arrivals] == [None, None]

    async def test_goes_by_no_proxy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

        async with make_transport() as transport:
            assert (await sent(WebhookChannel(transport, ()), answering("200 OK"))).sent


class TestAnAnswer:
    @pytest.mark.parametrize(
        ("status", "meaning"),
        [
            ("200 OK", Meaning.OK),
            ("202 Accepted", Meaning.OK),
            ("204 No Content", Meaning.OK),
            ("301 Moved", Meaning.OWNER_MUST_ACT),
            ("304 Not Modified", Meaning.OWNER_MUST_ACT),
            ("307 Temporary Redirect", Meaning.OWNER_MUST_ACT),
            ("400 Bad Request", Meaning.OWNER_MUST_ACT),
            ("401 Unauthorized", Meaning.OWNER_MUST_ACT),
            ("404 Not Found", Meaning.OWNER_MUST_ACT),
            ("408 Request Timeout", Meaning.RETRY),
            ("410 Gone", Meaning.OWNER_MUST_ACT),
            ("413 Too Large", Meaning.OWNER_MUST_ACT),
            ("425 Too Early", Meaning.RETRY),
            ("429 Too Many", Meaning.THROTTLED),
            ("500 Error", Meaning.OUTAGE),
            ("502 Bad Gateway", Meaning.OUTAGE),
            ("503 Unavailable", Meaning.OUTAGE),
            ("599 Whatever", Meaning.OUTAGE),
        ],
    )
    async def test_is_judged_by_its_status(self, channel: WebhookChannel, status: str, meaning: Meaning) -> None:
        answer = await sent(channel, answering(status))

        assert answer.meaning is meaning
        assert answer.kind == ("" if answer.sent else f"HTTP {status[:3]}")
        assert answer.why.startswith("" if answer.sent else f"the receiver answered {status[:3]}: ")

    @pytest.mark.parametrize("status", ["429 Too Many", "503 Unavailable", "425 Too Early"])
    async def test_that_asks_to_wait_is_believed(self, channel: WebhookChannel, status: str) -> None:
        assert (await sent(channel, answering(status, "Retry-After: 7"))).after == timedelta(seconds=7)

    async def test_may_name_a_date_to_wait_for(self, channel: WebhookChannel) -> None:
        soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)

        after = (await sent(channel, answering("503 Down", f"Retry-After: {soon}"))).after

        assert after is not None
        assert timedelta(seconds=30) < after <= timedelta(seconds=90)

    @pytest.mark.parametrize("header", ["soon", "-5", "", "Thu, 99 Foo 2026", "٣"])
    async def test_that_asks_for_nonsense_asks_for_nothing(self, channel: WebhookChannel, header: str) -> None:
        handler = answering("503 Down", f"Retry-After: {header.encode().decode('latin-1')}")

        assert said(await sent(channel, handler)) == (Meaning.OUTAGE, "HTTP 503", None)

    async def test_that_leads_elsewhere_is_not_followed(self, channel: WebhookChannel) -> None:
        arrivals: list[Arrival] = []

        async with serving(answering("200 OK"), arrivals) as elsewhere:
            answer = await sent(channel, answering("307 Moved", f"Location: {elsewhere}"))

        assert (answer.refused, arrivals) == (True, [])

    async def test_is_taken_by_its_status_whatever_page_it_brings(self, channel: WebhookChannel) -> None:
        page = b"<!doctype html><title>Please log in</title>"

        assert (await sent(channel, answering("200 OK", "Content-Type: text/html", body=page))).sent

    async def test_of_five_megabytes_is_read_to_its_beginning_only(self, channel: WebhookChannel) -> None:
        written = 0

        async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal written
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n")
            while True:
                writer.write(b"a" * 65536)
                written += 65536
                await writer.drain()

        assert (await sent(channel, endless)).sent
        # What the sockets' buffers hold is written, and the rest never is.
        assert written < 64 * 1024 * 1024

    @pytest.mark.parametrize(("status", "meaning"), [("200 OK", Meaning.OK), ("503 Down", Meaning.OUTAGE)])
    async def test_stands_though_its_body_breaks_off(
        self, channel: WebhookChannel, status: str, meaning: Meaning
    ) -> None:
        assert (await sent(channel, answering(status, body=b"{", length=500))).meaning is meaning

    async def test_stands_though_its_body_never_ends(
        self, channel: WebhookChannel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(webhook, "TIMEOUT", timedelta(seconds=0.3))

        async def dripping(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)

        assert (await asyncio.wait_for(sent(channel, dripping), 5)).sent

    async def test_leaves_its_connection_to_the_next_message(self, channel: WebhookChannel) -> None:
        """Also when its body comes late."""
        connections = 0

        async def kept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            while True:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)
                writer.write(b"ok")
                await reader.readuntil(b"}}")

        async with serving(kept) as url:
            answers = [await channel.send(outgoing(url)) for _ in range(3)]

        assert [answer.sent for answer in answers] == [True] * 3
        assert connections == 1


class TestNoAnswer:
    async def test_where_nobody_listens(self, channel: WebhookChannel) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound and never listening: refuses
            answer = await channel.send(outgoing(f"http://127.0.0.1:{taken.getsockname()[1]}/{PATH}"))

        assert said(answer) == (Meaning.OUTAGE, "ConnectError", None)

    async def test_of_one_that_hangs(self, channel: WebhookChannel, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(webhook, "TIMEOUT", timedelta(seconds=0.3))

        async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await reader.read()

        answer = await asyncio.wait_for(sent(channel, silence), 5)

        assert said(answer) == (Meaning.OUTAGE, "Timeout", None)
        assert answer.why == "no answer within 0.3 s"

    async def test_of_one_that_resets(self, channel: WebhookChannel) -> None:
        async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            linger = struct.pack("ii", 1, 0)  # close with a reset
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

        assert said(await sent(channel, reset)) == (Meaning.OUTAGE, "Disconnected", None)

    async def test_of_one_that_hangs_up_is_not_sent_again(self, channel: WebhookChannel) -> None:
        arrivals: list[Arrival] = []

        async def hang_up(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            pass

        answer = await sent(channel, hang_up, arrivals)

        assert said(answer) == (Meaning.OUTAGE, "Disconnected", None)
        assert len(arrivals) == 1

    @pytest.mark.parametrize("wrong", [b"\x16\x03\x01 what?\r\n\r\n", "HTTP/1.1 500 Störung\r\n\r\n".encode("latin-1")])
    async def test_in_http(self, channel: WebhookChannel, wrong: bytes) -> None:
        async def gibberish(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(wrong)
            await writer.drain()

        assert said(await sent(channel, gibberish)) == (Meaning.OUTAGE, "BadAnswer", None)

    async def test_of_one_whose_name_does_not_resolve(
        self, channel: WebhookChannel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unresolved(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unresolved)

        assert said(await channel.send(outgoing("https://hooks.invalid/"))) == (Meaning.OUTAGE, "DnsFailure", None)

    async def test_of_one_that_nobody_vouches_for(self, channel: WebhookChannel, tmp_path: Path) -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self_signed(tmp_path))
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=tls)
        async with server:
            address = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/{PATH}"
            answer = await channel.send(outgoing(address))

        assert said(answer) == (Meaning.OUTAGE, "TlsFailure", None)


class TestSecrets:
    @pytest.mark.parametrize(
        "handler",
        [
            answering("200 OK", body=LINK.encode()),
            answering("503 Down", body=LINK.encode()),
            answering("400 a-very-secret-token", body=f"{SIGNING} {PATH}".encode()),
            answering("302 Found", f"Location: {LINK}"),
            answering("200 OK", length=500),
        ],
    )
    async def test_are_in_no_answer_and_no_log(
        self, channel: WebhookChannel, handler: Handler, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            logging.getLogger("httpx").setLevel(logging.WARNING)  # as observability.configure does
            answer = await sent(channel, handler)

        shown = f"{answer!r} {channel!r} {vars(channel)!r} {caplog.text}"
        assert [secret for secret in (LINK, "a-very-secret-token", SIGNING, PATH) if secret in shown] == []

    def test_are_not_in_the_address_for_people(self, channel: WebhookChannel) -> None:
        assert channel.masked(f"https://hooks.acme.example/{PATH}") == "https://hooks.acme.example/…"
        assert channel.masked(f"https://hooks.acme.example:8443/{PATH}?token=x") == "https://hooks.acme.example:8443/…"


class TestAnAddress:
    @pytest.mark.parametrize(
        ("written", "kept", "origin"),
        [
            (" https://Hooks.acme.example ", "https://hooks.acme.example", "hooks.acme.example:443"),
            (
                "https://hooks.acme.example:8443/a?b=c",
                "https://hooks.acme.example:8443/a?b=c",
                "hooks.acme.example:8443",
            ),
            ("https://bücher.example/", "https://xn--bcher-kva.example/", "xn--bcher-kva.example:443"),
            ("http://127.0.0.1:8080/x", "http://127.0.0.1:8080/x", "127.0.0.1:8080"),
            ("http://localhost/x", "http://localhost/x", "localhost:80"),
            ("http://[::1]:80/x", "http://[::1]/x", "[::1]:80"),
            ("https://8.8.8.8/", "https://8.8.8.8/", "8.8.8.8:443"),
        ],
    )
    def test_is_kept_in_one_form(self, channel: WebhookChannel, written: str, kept: str, origin: str) -> None:
        assert (channel.check(written), channel.origin(kept)) == (kept, origin)

    @pytest.mark.parametrize(
        "written",
        [
            "",
            "hooks.acme.example",
            "ftp://hooks.acme.example/",
            "http://hooks.acme.example/",
            "https://",
            "https:///path",
            "https://[::1/",
            "https://user:pw@hooks.acme.example/",
            "https://hooks.acme.example\\@10.0.0.1/",
            "https://10.0.0.1\\.acme.example/",
            "https://hooks.acme.example/\r\nX-Evil: 1",
            "https://hooks.acme.example/a b",
            "https://hooks.acme.example/#part",
            "https://hooks.acme.example:99999/",
            "https://10.0.0.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://167772161/",
            "https://0x0a.1/",
            "https://[::ffff:10.0.0.1]/",
            "https://[fd00::1]/",
            "https://0.0.0.0/",
            "https://224.0.0.1/",
            "https://127.0.0.2/",
        ],
    )
    def test_that_leads_nowhere_good_is_refused(self, channel: WebhookChannel, written: str) -> None:
        with pytest.raises(ValueError, match=r"webhook|network") as refused:
            channel.check(written)

        assert "pw" not in str(refused.value)

    def test_inside_our_network_may_be_named(self, transport: httpx.AsyncBaseTransport) -> None:
        channel = WebhookChannel(transport, ("10.0.0.1",))

        assert channel.check("https://10.0.0.1/") == "https://10.0.0.1/"
        with pytest.raises(ValueError, match="RUNBOOK_WEBHOOK_INTERNAL"):
            channel.check("https://10.0.0.2/")


def leading_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every name lead to one address, as a name server of somebody else's may."""
    resolve = socket.getaddrinfo

    def resolved(_host: str, *rest: object, **options: object) -> object:
        return resolve(address, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)


class TestANameThatLeadsInside:
    @pytest.mark.parametrize("host", ["hooks.acme.example", "localhost."])
    async def test_is_not_called(self, channel: WebhookChannel, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
        arrivals: list[Arrival] = []
        async with serving(answering("200 OK"), arrivals) as url:
            leading_to("127.0.0.1", monkeypatch)
            answer = await channel.send(outgoing(url.replace("127.0.0.1", host)))

        assert (answer.refused, answer.kind, arrivals) == (True, "InsideAddress", [])
        assert "RUNBOOK_WEBHOOK_INTERNAL" in answer.why

    async def test_is_called_when_it_may(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with serving(answering("200 OK")) as url, make_transport(("hooks.acme.example",)) as transport:
            leading_to("127.0.0.1", monkeypatch)
            answer = await WebhookChannel(transport, ()).send(outgoing(url.replace("127.0.0.1", "hooks.acme.example")))

        assert answer.sent
