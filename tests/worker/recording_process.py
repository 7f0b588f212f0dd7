"""A process that records a call every few milliseconds until it is killed: python -m tests.worker.recording_process URL

It prints the number of each call, and its time, when it has been recorded.
"""

import asyncio
import sys
import time
from datetime import UTC, datetime
from itertools import count
from uuid import uuid4

from integrations.db.session import make_engine, make_sessions
from integrations.domain.call import Caller, ProviderCall
from integrations.domain.gate import Purpose
from integrations.domain.verdict import Meaning
from worker.recorder import recording


async def main(url: str) -> None:
    caller = Caller(tenant="org:acme", connection_id=uuid4(), purpose=Purpose.USE, attempt=1)
    async with recording(make_sessions(make_engine(url))) as recorder:
        for number in count():
            recorder(
                ProviderCall(
                    caller=caller,
                    provider_id="simulator",
                    endpoint="notes.read",
                    outcome=Meaning.OK,
                    rule="success",
                    status=200,
                    duration_ms=number,
                    at=datetime.now(UTC),
                )
            )
            sys.stdout.write(f"{number} {time.monotonic()}\n")
            sys.stdout.flush()
            await asyncio.sleep(0.005)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
