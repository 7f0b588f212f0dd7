import asyncio
import sys
import time

from integrations.db.call_tables import ProviderCall
from integrations.db.session import Sessions
from tests.factories import every


async def test_a_kill_costs_the_calls_of_the_last_second_at_most(sessions: Sessions, database_url: str) -> None:
    command = (sys.executable, "-m", "tests.worker.recording_process", database_url)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(30):
        first = await process.stdout.readline()
    await asyncio.sleep(1.4)
    killed = time.monotonic()
    process.kill()
    said, _ = await process.communicate()

    calls = [line.split() for line in (first + said).splitlines() if line.count(b" ") == 1]
    long_made = {int(number) for number, at in calls if float(at) < killed - 1}
    written = {row.duration_ms for row in await every(sessions, ProviderCall)}
    assert len(long_made) > 20
    assert long_made <= written
