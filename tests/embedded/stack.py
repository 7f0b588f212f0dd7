"""A parent for the tests to kill: starts both servers in the folder given, prints `ready`, and waits for SIGTERM."""

import asyncio
import signal
import sys
from pathlib import Path

from starters.embedded.live import clear_live, write_live
from starters.embedded.lock import acquire
from starters.embedded.ports import choose_ports
from starters.embedded.postgres import Postgres
from starters.embedded.temporal import Temporal, TemporalPorts


async def main(folder: Path) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    with acquire(folder) as lock:
        ports = TemporalPorts(**choose_ports(folder, dict.fromkeys(("grpc", "ui", "http", "metrics"))))
        database = await Postgres.start(lock)
        temporal = await Temporal.start(lock, ports, {})
        pids = {"postgres": database.process.pid, "temporal": temporal.process.pid}
        write_live(folder, {"pids": pids, "url": database.url("postgres")})
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await stopped.wait()
        await asyncio.gather(database.stop(), temporal.stop())
        clear_live(folder)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
