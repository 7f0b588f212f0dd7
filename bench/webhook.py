"""`webhook.ingress`, `.storm`, `.million`: deliveries verified and written down, by the web process of the stack."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg

from bench.bare_webhook import HOST, SECRET
from bench.result import Result
from bench.stage import CHECKOUT, Stage
from integrations.db import webhook_channels, webhook_secrets
from starters.embedded.ports import free_port

REQUIRED: Final = 0.7
STORM_REQUIRED: Final = 0.5
MILLION_REQUIRED: Final = 0.85
SENT: Final = 4_000
"""In one turn."""
TURNS: Final = 4
ROWS: Final = 1_000_000
_SENDERS: Final = 2
_SOCKETS: Final = 16
"""Of each sender."""
_STORM: Final = 90
"""Per cent of a storm are duplicates."""
_FILL: Final = """
INSERT INTO service_webhook_deliveries (id, provider_id, channel, delivery_id, identity, event, reaction,
  headers, body, part, status, settled_at, handled_as)
SELECT gen_random_uuid(), 'github', 'bench', 'old-' || n, 'id', 'push', 'event', '{"user-agent": "GitHub-Hookshot/0"}',
  convert_to(repeat('x', 300), 'UTF8'), n % 16, 'delivered', now(), 'event'
FROM generate_series(1, $1) AS n
"""


@dataclass
class Sent:
    """What one side took over several turns."""

    count: int = 0
    seconds: float = 0.0
    spans: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    @property
    def p99(self) -> float:
        """Seconds."""
        return sorted(self.spans)[int(len(self.spans) * 0.99)]


@dataclass
class Ground:
    """The product and its bound, each with its port, and senders that serve both."""

    stage: Stage
    database: "asyncpg.Connection[Any]"
    ports: dict[str, int]
    next: int = 0

    async def in_turns(self, share: int = 0) -> tuple[Sent, Sent]:
        """Product and bound, the same deliveries to both."""
        both = {"product": Sent(), "bound": Sent()}
        count = max(100, round(SENT * self.stage.scale))
        for turn in range(TURNS):
            first = self.next
            for side in ("product", "bound") if turn % 2 == 0 else ("bound", "product"):
                await self._send(self.ports[side], count, share, first, both[side])
                self.stage.advance(count)
            self.next += count
        return both["product"], both["bound"]

    async def _send(self, port: int, count: int, share: int, first: int, into: Sent) -> None:
        each = count // _SENDERS
        senders = [
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "bench.webhook_sender",
                *(str(number) for number in (port, _SOCKETS, each, share, first + each * sender)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                cwd=CHECKOUT,
                limit=2**26,
            )
            for sender in range(_SENDERS)
        ]
        for sender in senders:
            assert sender.stdout is not None
            assert await sender.stdout.readline() == b"ready\n"
        done = [json.loads(out) for out, _ in await asyncio.gather(*(each.communicate(b"\n") for each in senders))]
        into.seconds += max(each["seconds"] for each in done)
        into.count += each * _SENDERS
        for told in done:
            into.spans += told["spans"]
            into.answers.update(told["answers"])


async def ingress(stage: Stage) -> Sequence[Result]:
    ground = await _prepared(stage)
    product, bound = await ground.in_turns()
    for side, schema in ((product, "public"), (bound, "bench")):
        assert side.answers == {"accepted": side.count}, side.answers
        assert await _rows(ground, schema) == side.count, schema
    few = [
        Result(
            "webhook.ingress", product.count, product.rate, "deliveries/s", bound.count, bound.rate, REQUIRED, _BOUND
        )
    ]
    storm, beside = await ground.in_turns(_STORM)
    repeats = await ground.database.fetchval("SELECT count(*) FROM service_webhook_repeats")
    assert repeats == storm.answers["duplicate"], (repeats, storm.answers)
    said = f"{_BOUND}, and one that counts it; p99 {storm.p99 * 1000:.0f} ms against {beside.p99 * 1000:.0f}"
    few.append(
        Result(
            "webhook.storm",
            storm.count,
            storm.rate,
            f"deliveries/s, {_STORM} % repeated",
            beside.count,
            beside.rate,
            STORM_REQUIRED,
            said,
        )
    )
    return few


async def million(stage: Stage) -> Sequence[Result]:
    ground = await _prepared(stage)
    await _fill(ground, 1_000)
    few, bound_then = await ground.in_turns()
    await _fill(ground, round(ROWS * stage.scale))
    many, bound_now = await ground.in_turns()
    # Whatever the machine did in between hit the bound as well, whose table stays small.
    fair = many.rate * bound_then.rate / bound_now.rate
    return [
        Result(
            "webhook.million",
            many.count,
            fair,
            "deliveries/s at 1,000,000 rows",
            few.count,
            few.rate,
            MILLION_REQUIRED,
            f"itself at 1,000 rows; p99 {many.p99 * 1000:.0f} ms against {few.p99 * 1000:.0f}",
        )
    ]


_BOUND: Final = "Starlette and asyncpg: HMAC, one insert"


async def _prepared(stage: Stage) -> Ground:
    # Nobody handles what comes in: the clock is the ingress's alone.
    await stage.stack.processes["worker"].stop()
    async with stage.sessions.begin() as session:
        given: dict[str, Any] = {"by": "bench", "reason": "bench"}
        await webhook_channels.make(session, "github", "bench", connection_id=None, **given)
        await webhook_secrets.add(session, stage.vault, "github", "bench", SECRET, overlap=timedelta(0), **given)
    database = await asyncpg.connect(stage.dsn)
    port = free_port()

    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            return False
        writer.close()
        return True

    await stage.start("bare_webhook", str(port), ready=listens)
    product = urlsplit(stage.stack.settings.web_url).port
    assert product is not None
    ground = Ground(stage, database, {"product": product, "bound": port})
    warm = Sent()
    for at in ground.ports.values():
        await ground._send(at, 400, 0, 10**9, warm)  # noqa: SLF001
    for table in ("public.service_webhook_deliveries", "bench.service_webhook_deliveries"):
        await database.execute(f"TRUNCATE {table}")
    return ground


async def _fill(ground: Ground, count: int) -> None:
    """Settled rows, as they lie there until retention takes them."""
    await ground.database.execute("DELETE FROM service_webhook_deliveries")
    await ground.database.execute(_FILL, count, timeout=600)
    await ground.database.execute("VACUUM ANALYZE service_webhook_deliveries", timeout=600)


async def _rows(ground: Ground, schema: str) -> int:
    return int(await ground.database.fetchval(f"SELECT count(*) FROM {schema}.service_webhook_deliveries"))  # noqa: S608
