"""Whatever strangers send: never a 5xx, a row, or more memory. What a provider signed is taken, whatever it is."""

import asyncio
import gzip
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import psutil
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integrations.db.session import Sessions
from integrations.db.vault import Vault
from integrations.db.webhook_tables import WebhookDelivery, WebhookRepeat
from tests.factories import add_channel, every
from tests.web.conftest import Site
from tests.web.raw import Answer, connected, read, sent, wire
from tests.web.vendor import HUB, SECRET, hub, standard
from web import request_body

SLACK = b"slack secret"
PATH = b"/webhooks/simulator/app"
REFUSALS = {400, 401, 404, 405, 413, 414, 431}
HYPOTHESIS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
MEGABYTE = 2**20
CLAIM = (b"Webhook-Signature", b"v1," + b"A" * 43 + b"=")
"""What has to be there for a body to be read at all."""
ENDLESS = wire(PATH, b"", [CLAIM, (b"Transfer-Encoding", b"chunked")]).replace(b"Connection: close\r\n", b"")
"""The beginning of a body in chunks, on a connection that would stay open."""


@pytest_asyncio.fixture
async def target(site: Site, sessions: Sessions, vault: Vault) -> AsyncIterator[Site]:
    """A site with three channels. In the end no stranger has a row, and an honest delivery is still taken."""
    await add_channel(sessions, vault, secret=SECRET)
    await add_channel(sessions, vault, "github", secret=HUB)
    await add_channel(sessions, vault, "slack", secret=SLACK)
    yield site
    known = {row.delivery_id for row in await every(sessions, WebhookDelivery)}
    assert not any(name.startswith("stranger") for name in known)
    honest = await sent(site.url, wire(PATH, b"{}", as_wire(standard("honest", b"{}", SECRET, datetime.now(UTC)))))
    assert (honest.status, json.loads(honest.body)) == (200, {"status": "accepted"})


def as_wire(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def signed_by_slack(body: bytes) -> list[tuple[bytes, bytes]]:
    at = str(int(time.time()))
    signature = hmac.digest(SLACK, b"v0:" + at.encode() + b":" + body, "sha256").hex()
    return as_wire({"X-Slack-Request-Timestamp": at, "X-Slack-Signature": f"v0={signature}"})


def is_refused(answer: Answer) -> bool:
    return answer.status in REFUSALS and b"Traceback" not in answer.body and b"Error" not in answer.body


SIGNED = standard("stranger-0", b"{}", SECRET, datetime(2026, 1, 1, tzinfo=UTC))
"""By the right secret, too long ago: whatever is changed about it proves nothing."""
GOOD = SIGNED["webhook-signature"]
SIGNATURES = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [b"", b"v1,", b"v1", GOOD[:-1].encode(), GOOD.encode() + b"=", f"{GOOD} {GOOD}".encode(), b"v1," + b"A" * 9000]
    ),
    st.text(max_size=50).map(str.encode),
)
TIMES = st.one_of(
    st.just(SIGNED["webhook-timestamp"].encode()),
    st.integers().map(lambda number: str(number).encode()),
    st.sampled_from([b"", b"NaN", b"1e9", b"-1", b"9" * 400, "٣".encode(), b"99999999999999"]),
)


class TestAStranger:
    @HYPOTHESIS
    @given(signatures=st.lists(SIGNATURES, max_size=3), at=TIMES, delivery_id=st.binary(max_size=60), body=st.binary())
    async def test_is_refused_whatever_is_signed(
        self, target: Site, signatures: list[bytes], at: bytes, delivery_id: bytes, body: bytes
    ) -> None:
        headers = [(b"webhook-signature", each) for each in signatures]
        headers += [(b"webhook-timestamp", at), (b"webhook-id", b"stranger" + delivery_id)]

        assert is_refused(await sent(target.url, wire(PATH, body, headers)))

    @HYPOTHESIS
    @given(
        signatures=st.lists(
            st.binary(max_size=100) | st.sampled_from([b"sha256=", b"sha256=" + b"0" * 64, b"sha1=" + b"0" * 40]),
            max_size=2,
        ),
        body=st.binary(),
    )
    async def test_is_refused_by_a_plain_hmac(self, target: Site, signatures: list[bytes], body: bytes) -> None:
        headers = [(b"X-Hub-Signature-256", each) for each in signatures] + [(b"X-GitHub-Delivery", b"stranger")]

        assert is_refused(await sent(target.url, wire(b"/webhooks/github/app", body, headers)))

    async def test_is_refused_with_a_good_signature_twice(self, target: Site) -> None:
        """Of two headers nobody knows which one a proxy looked at."""
        headers = as_wire(standard("stranger", b"{}", SECRET, datetime.now(UTC)))

        answer = await sent(target.url, wire(PATH, b"{}", [*headers, headers[-1]]))

        assert answer.status == 401

    @pytest.mark.parametrize(
        "path",
        [
            "/webhooks/", "/webhooks//", "/webhooks/simulator", "/webhooks/simulator/", "/webhooks/simulator/app/",
            "/webhooks/simulator/app/x", "/webhooks/simulator/..%2Fapp", "/webhooks/simulator/app%00",
            "/webhooks/simulator/%FF", "/webhooks/simulator/%0Aapp", "/webhooks/%00/app", "/webhooks/(unknown)/app",
            "/webhooks/simulator/" + "a" * 10_000, "/webhooks/" + "%20" * 3_000 + "/app", "/WEBHOOKS/simulator/app",
        ],
    )  # fmt: skip
    async def test_is_refused_at_odd_addresses(self, target: Site, path: str) -> None:
        headers = as_wire(standard("stranger", b"{}", SECRET, datetime.now(UTC)))

        assert (await sent(target.url, wire(path.encode(), b"{}", headers))).status == 404

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW"])
    async def test_is_refused_by_any_other_method(self, target: Site, method: str) -> None:
        headers = as_wire(standard("stranger", b"{}", SECRET, datetime.now(UTC)))

        assert (await sent(target.url, wire(PATH, b"{}", headers, method=method.encode()))).status == 405

    @pytest.mark.parametrize(
        ("headers", "body", "status"),
        [
            ([(b"Content-Length", b"9" * 30)], b"", 400),
            ([(b"Content-Length", b"9" * 18)], b"", 413),
            ([(b"Content-Length", b"1048577")], b"", 413),
            ([(b"Content-Length", b"-1")], b"", 400),
            ([(b"Content-Length", b"10")], b"12345", 400),
            ([(b"Transfer-Encoding", b"chunked")], b"zz\r\n", 400),
            ([(b"Transfer-Encoding", b"chunked")], b"5\r\n123", 400),
            ([(b"Transfer-Encoding", b"gzip")], b"", 400),
            ([(b"X-Long", b"a" * 100_000)], b"", 400),
            ([(f"X-{n}".encode(), b"a" * 100) for n in range(1000)], b"", 400),
        ],
    )
    async def test_is_refused_with_a_body_that_is_not_as_announced(
        self, target: Site, headers: list[tuple[bytes, bytes]], body: bytes, status: int
    ) -> None:
        answer = await sent(target.url, wire(PATH, body, [CLAIM, *headers]), hang_up=True)

        # A connection that is half closed may be gone before the answer is.
        assert answer.status in {status, 0}

    async def test_is_not_waited_for(self, target: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(request_body, "PATIENCE", 0.3)
        async with connected(target.url) as (reader, writer):
            writer.write(ENDLESS + b"5\r\n12345\r\n")

            answer = await asyncio.wait_for(read(reader), 5)

        assert answer.status == 400
        assert b"connection: close" in answer.head

    async def test_takes_no_memory_however_much_is_sent(self, target: Site) -> None:
        """Chunks without end, eight at once: each is cut off where the entry's bound is."""
        chunk = b"%x\r\n" % MEGABYTE + bytes(MEGABYTE) + b"\r\n"

        async def flood(count: int) -> int:
            """How much was taken, in megabytes."""
            async with connected(target.url) as (reader, writer):
                writer.write(ENDLESS)
                for number in range(count):
                    try:
                        writer.write(chunk)
                        await asyncio.wait_for(writer.drain(), 5)
                    except ConnectionError:
                        return number
                await asyncio.wait_for(read(reader), 5)
            return count

        await flood(4)
        process, before, most = psutil.Process(), psutil.Process().memory_info().rss, 0
        for _ in range(5):
            taken = await asyncio.gather(*(flood(40) for _ in range(8)))
            most = max(most, process.memory_info().rss - before)
            assert max(taken) < 20

        assert most < 60 * MEGABYTE

    async def test_is_refused_before_a_large_body_is_sent(self, target: Site) -> None:
        async with connected(target.url) as (reader, writer):
            writer.write(wire(PATH, b"", [CLAIM, (b"Content-Length", b"100000000"), (b"Expect", b"100-continue")]))

            answer = await asyncio.wait_for(read(reader), 5)

        assert answer.status == 413
        assert not answer.head.startswith(b"HTTP/1.1 100")

    @pytest.mark.parametrize("claims", [[], [CLAIM, CLAIM], [(b"Webhook-Signature", b"A" * 5000)]])
    async def test_is_refused_before_a_body_is_sent_that_no_signature_is_beside(
        self, target: Site, claims: list[tuple[bytes, bytes]]
    ) -> None:
        async with connected(target.url) as (reader, writer):
            writer.write(wire(PATH, b"", [*claims, (b"Content-Length", b"1000000"), (b"Expect", b"100-continue")]))

            answer = await asyncio.wait_for(read(reader), 5)

        assert answer.status == 401
        assert not answer.head.startswith(b"HTTP/1.1 100")

    async def test_fills_a_bounded_room_and_keeps_no_small_delivery_out(
        self, target: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever comes with a large one meanwhile is asked to come again."""
        monkeypatch.setattr(request_body, "ROOM", 2 * (900_000 - request_body.SMALL))
        part = b"%x\r\n" % 900_000 + bytes(900_000) + b"\r\n"
        large = wire(PATH, bytes(500_000), as_wire(standard("large", bytes(500_000), SECRET, datetime.now(UTC))))
        async with AsyncExitStack() as stack:
            for _ in range(2):
                _, writer = await stack.enter_async_context(connected(target.url))
                writer.write(ENDLESS + part)
                await writer.drain()
            await asyncio.sleep(0.3)
            kept_out = await sent(target.url, large)
            small = await sent(target.url, wire(PATH, b"{}", as_wire(standard("s", b"{}", SECRET, datetime.now(UTC)))))
        await asyncio.sleep(0.3)

        assert (kept_out.status, b"retry-after: 30" in kept_out.head, small.status) == (503, True, 200)
        assert (await sent(target.url, large)).status == 200, "what was held is let go with its request"


class TestWhatAProviderSigned:
    """Nothing of it is trusted, and none of it is lost."""

    @pytest.mark.parametrize(
        "body",
        [
            b"", b"\0", b"\xff\xfe", b"null", b'"\\u0000"', b'"\\ud800"', b"[" * 100_000, b'{"a":' * 50_000,
            b"9" * 10_000, b"NaN", gzip.compress(b"{}", mtime=0), bytes(MEGABYTE),
        ],
        ids=str,
    )  # fmt: skip
    async def test_is_kept_byte_for_byte(self, target: Site, sessions: Sessions, body: bytes) -> None:
        headers = as_wire(hub(body) | {"X-GitHub-Delivery": "odd"})

        answer = await sent(target.url, wire(b"/webhooks/github/app", body, headers))

        [row] = await every(sessions, WebhookDelivery)
        assert answer.status == 200
        assert row.body == body

    @HYPOTHESIS
    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda of: st.lists(of, max_size=3)))
    async def test_may_have_any_id(self, target: Site, found: Any) -> None:
        await self.taken(target, found)

    @pytest.mark.parametrize("found", ["a\0b", "a\nb", "x" * 10_000, "\ud800", "", " ", "٣", {"a": 1}, 10**400])
    async def test_may_have_odd_ids(self, target: Site, sessions: Sessions, found: Any) -> None:
        await self.taken(target, found)

        [row] = await every(sessions, WebhookDelivery)
        assert len(row.delivery_id) <= 200
        assert row.delivery_id.isprintable()
        assert len(await every(sessions, WebhookRepeat)) == 1

    @staticmethod
    async def taken(target: Site, found: Any) -> None:
        """Twice: the first time it may have come before."""
        body = json.dumps({"type": found, "event_id": found, "event": {"type": found}, "team_id": found}).encode()
        for _ in range(2):
            answer = await sent(target.url, wire(b"/webhooks/slack/app", body, signed_by_slack(body)))
        assert (answer.status, json.loads(answer.body)) == (200, {"status": "duplicate"})

    @HYPOTHESIS
    @given(
        st.lists(st.tuples(st.from_regex(rb"\A[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}\Z"), st.binary(max_size=80)), max_size=5)
    )
    async def test_may_have_any_header(self, target: Site, more: list[tuple[bytes, bytes]]) -> None:
        kept = [(b"X-" + name, value) for name, value in more]
        headers = as_wire(hub(b"{}") | {"X-GitHub-Delivery": "headers"})

        # What is no HTTP is refused by the server itself.
        assert (await sent(target.url, wire(b"/webhooks/github/app", b"{}", headers + kept))).status in {200, 400, 401}
