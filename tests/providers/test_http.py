import asyncio
import json
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from integrations.domain.verdict import Heard, Trouble
from integrations.providers import http
from integrations.providers.http import ask, make_client, make_renewing_client
from tests.providers.serving import Handler, answering, self_signed, serving

SECRET = "sim_at_a-very-secret-token"


@asynccontextmanager
async def moving() -> AsyncIterator[str]:
    """A server whose resource has moved to another path, and that tells which token was brought there."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        brought = re.search("(?i)authorization: (.*)\r", request)
        body = json.dumps({"brought": brought[1] if brought else None})
        head = "HTTP/1.1 200 OK" if request.startswith("GET /moved ") else "HTTP/1.1 301 Moved\r\nLocation: /moved"
        writer.write(f"{head}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def asked(handler: Handler, method: str = "GET", **options: object) -> http.Response:
    async with serving(handler) as url, make_client() as client:
        return await ask(client, method, url, headers={"Authorization": f"Bearer {SECRET}"}, **options)


class TestAnAnswer:
    async def test_is_status_code_and_parsed_body(self) -> None:
        response = await asked(answering("200 OK", body=b'{"id": 7}'))

        assert (response.heard.status, response.heard.error, response.heard.trouble) == (200, None, None)
        assert response.body == {"id": 7}

    async def test_brings_the_error_and_the_wait(self) -> None:
        handler = answering("429 Too Many", "Retry-After: 7", body=b'{"error": "slow_down"}')

        heard = (await asked(handler)).heard

        assert (heard.status, heard.error, heard.retry_after) == (429, "slow_down", timedelta(seconds=7))

    async def test_brings_the_error_of_a_challenge(self) -> None:
        challenge = 'WWW-Authenticate: Bearer realm="x", error="invalid_token", error_description="old"'

        assert (await asked(answering("401 Unauthorized", challenge))).heard.error == "invalid_token"

    @pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe\x00", b'{"id": 7', b"1" * 5000])
    async def test_that_is_no_json_has_no_body(self, body: bytes) -> None:
        response = await asked(answering("200 OK", body=body))

        assert (response.heard.status, response.body) == (200, None)

    async def test_that_redirects_is_not_followed(self) -> None:
        followed = asyncio.Event()

        async def elsewhere(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            followed.set()

        async with serving(elsewhere) as target:
            response = await asked(answering("302 Found", f"Location: {target}"))

        assert response.heard.status == 302
        assert not followed.is_set()

    async def test_of_a_get_is_led_on_within_its_own_origin(self) -> None:
        async with moving() as url, make_client() as client:
            response = await ask(client, "GET", url, headers={"Authorization": f"Bearer {SECRET}"})

        assert response.body == {"brought": f"Bearer {SECRET}"}

    async def test_of_a_post_is_led_nowhere(self) -> None:
        assert (await asked(answering("307 Moved", "Location: /moved"), "POST")).heard.status == 307

    async def test_that_leads_in_a_circle_ends(self) -> None:
        seen = 0

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal seen
            while True:
                seen += 1
                writer.write(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
                await reader.readuntil(b"\r\n\r\n")

        assert (await asked(handler)).heard.status == 302
        assert seen == 4

    async def test_says_nothing_that_was_said_in_confidence(self) -> None:
        body = json.dumps({"error": f"no such token {SECRET}", "error_description": SECRET}).encode()

        response = await asked(answering("400 Bad", f'WWW-Authenticate: Bearer error="{SECRET} is bad"', body=body))

        assert SECRET not in response.heard.model_dump_json()
        assert response.heard.words == "400 error_in_words"

    async def test_of_one_mebibyte_is_read(self) -> None:
        body = b'"' + b"a" * (1024 * 1024 - 2) + b'"'

        assert (await asked(answering("200 OK", body=body))).body is not None

    async def test_of_more_is_cut_off_and_given_up(self) -> None:
        written = 0

        async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal written
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                writer.write(b"a" * 65536)
                written += 65536
                await writer.drain()

        heard = (await asked(endless)).heard

        assert (heard.status, heard.trouble, heard.trouble_kind) == (None, Trouble.LOST, "BodyTooLarge")
        assert written < 64 * 1024 * 1024


class TestTrouble:
    async def test_before_anything_was_sent_is_told_apart(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound and never listening: refuses
            async with make_client() as client:
                response = await ask(client, "GET", f"http://127.0.0.1:{taken.getsockname()[1]}/?token={SECRET}")

        assert (response.heard.trouble, response.heard.trouble_kind) == (Trouble.NOT_SENT, "ConnectError")
        assert SECRET not in response.model_dump_json()

    async def test_with_a_name_that_does_not_resolve_is_told_by_its_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unresolved(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unresolved)
        async with make_client() as client:
            heard = (await ask(client, "GET", "https://provider.invalid/")).heard

        assert (heard.trouble, heard.trouble_kind) == (Trouble.NOT_SENT, "DnsFailure")

    async def test_with_a_certificate_that_nobody_vouches_for_is_told_by_its_name(self, tmp_path: Path) -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self_signed(tmp_path))
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=tls)
        async with server, make_client() as client:
            address = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            heard = (await ask(client, "POST", address, data={"token": SECRET})).heard

        assert (heard.trouble, heard.trouble_kind) == (Trouble.NOT_SENT, "TlsFailure")

    @pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "nonsense", "http://", "http://[::1/"])
    async def test_of_an_address_that_is_none_is_ours(self, url: str) -> None:
        async with make_client() as client:
            assert (await ask(client, "GET", url)).heard.trouble is Trouble.OURS

    async def test_after_the_request_was_sent_means_that_the_answer_is_lost(self) -> None:
        async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            linger = struct.pack("ii", 1, 0)  # close with a reset
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

        response = await asked(reset, "POST", data={"refresh_token": SECRET})

        assert response.heard.trouble is Trouble.LOST
        assert response.heard.status is None
        assert SECRET not in response.model_dump_json()

    async def test_in_the_middle_of_an_answer_loses_it_too(self) -> None:
        heard = (await asked(answering("200 OK", body=b'{"access', length=500))).heard

        assert (heard.status, heard.trouble) == (None, Trouble.LOST)

    async def test_that_is_no_http_at_all_is_no_exception(self) -> None:
        async def gibberish(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"\x16\x03\x01 what?\r\n\r\n")
            await writer.drain()

        assert (await asked(gibberish)).heard.trouble is Trouble.LOST

    async def test_with_a_body_that_does_not_unpack_is_no_exception(self) -> None:
        heard = (await asked(answering("200 OK", "Content-Encoding: gzip", body=b"not gzip"))).heard

        assert (heard.status, heard.trouble) == (None, Trouble.LOST)

    async def test_of_silence_ends_by_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http, "TIMEOUT", timedelta(seconds=0.2))

        async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await reader.read()

        heard = (await asyncio.wait_for(asked(silence), 5)).heard

        assert heard.trouble is Trouble.LOST
        assert heard.trouble_kind in {"ReadTimeout", "Timeout"}

    async def test_of_an_answer_that_drips_ends_by_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http, "TIMEOUT", timedelta(seconds=0.2))

        async def dripping(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            for _ in range(20):
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)

        assert (await asked(dripping)).heard.trouble is Trouble.LOST

    async def test_of_a_body_nested_too_deep_is_no_exception(self) -> None:
        assert (await asked(answering("200 OK", body=b"[" * 100_000))).body is None

    async def test_of_an_absurd_date_is_no_exception(self) -> None:
        handler = answering("503 Down", "Retry-After: Thu, 01 Jan 2026 12:00:00 +99999999999999999999")

        assert (await asked(handler)).heard.status == 503


class TestTheClient:
    async def test_looks_at_no_proxy_and_retries_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        connections = 0

        async def hang_up(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1

        heard = (await asked(hang_up)).heard

        assert heard.trouble is Trouble.LOST
        assert connections == 1

    async def test_follows_no_redirect_by_itself(self) -> None:
        async with make_client() as client:
            assert client.follow_redirects is False
            assert isinstance(client, httpx.AsyncClient)


async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)  # close with a reset
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def gibberish(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x16\x03\x01 what?\r\n\r\n")
    await writer.drain()


class TestTroubleOfARefreshInASweep:
    """On the other transport, which has names of its own for all of it. What matters: may the token be used up?"""

    async def test_before_anything_was_sent_is_told_apart(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            heard = await self._sent(f"http://127.0.0.1:{taken.getsockname()[1]}/")

        assert (heard.trouble, heard.trouble_kind) == (Trouble.NOT_SENT, "ConnectError")

    async def test_with_a_name_that_does_not_resolve_is_told_by_its_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unresolved(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unresolved)
        heard = await self._sent("https://provider.invalid/")

        assert (heard.trouble, heard.trouble_kind) == (Trouble.NOT_SENT, "DnsFailure")

    async def test_with_a_certificate_that_nobody_vouches_for_is_told_by_its_name(self, tmp_path: Path) -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self_signed(tmp_path))
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=tls)
        async with server:
            heard = await self._sent(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")

        assert (heard.trouble, heard.trouble_kind) == (Trouble.NOT_SENT, "TlsFailure")

    @pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "nonsense", "http://", "http://[::1/"])
    async def test_of_an_address_that_is_none_is_ours(self, url: str) -> None:
        assert (await self._sent(url)).trouble is Trouble.OURS

    @pytest.mark.parametrize(
        "handler",
        [
            reset,
            hang_up,
            gibberish,
            answering("200 OK", body=b'{"access', length=500),
            answering("200 OK", "Content-Encoding: gzip", body=b"not gzip"),
            answering("200 \xff\xfe", body=b"{}"),
        ],
    )
    async def test_after_the_request_was_sent_means_that_the_answer_is_lost(self, handler: Handler) -> None:
        async with serving(handler) as url:
            heard = await self._sent(url)

        assert (heard.status, heard.trouble) == (None, Trouble.LOST)

    async def test_is_never_met_by_sending_again(self) -> None:
        """A connection that is kept, and closed by the other side just then: what was sent on it may have arrived."""
        came = 0

        async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal came
            came += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await reader.readuntil(b"\r\n\r\n")
            came += 1
            writer.close()

        async with serving(once) as url, make_renewing_client() as client:
            first = await ask(client, "POST", url, json={})
            second = await ask(client, "POST", url, json={})

        assert (first.heard.status, second.heard.trouble, came) == (200, Trouble.LOST, 2)

    async def _sent(self, url: str) -> Heard:
        async with make_renewing_client() as client:
            response = await ask(client, "POST", url, data={"refresh_token": SECRET})
        assert SECRET not in response.model_dump_json()
        return response.heard
