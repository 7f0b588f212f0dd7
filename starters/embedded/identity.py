"""Which process a number means: pids are reused, so a pid alone proves nothing.

Standard library only, because `make clean` runs this when `.venv` is broken or gone. And no wall clock on Linux: its
step (NTP, a laptop waking up) changes the start time that psutil computes, and a running stack would look dead.
"""

import subprocess
import sys
from pathlib import Path


def process_identity(pid: int) -> str | None:
    """Return a mark that only this process has among all that ever had this pid; None when it is gone or a zombie."""
    return _on_linux(pid) if sys.platform == "linux" else _by_ps(pid)


def is_alive(pid: object, identity: object) -> bool:
    """Tell whether the process that `identity` was taken from still runs; False for values that are no pid and mark."""
    return isinstance(pid, int) and pid > 0 and isinstance(identity, str) and process_identity(pid) == identity


def _on_linux(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in brackets may hold spaces and brackets; what follows its last bracket is: state, ppid, ..., start.
    fields = stat.rpartition(")")[2].split()
    state, started = fields[0], fields[19]
    return None if state in "ZX" else f"{boot}/{started}"


def _by_ps(pid: int) -> str | None:
    done = subprocess.run(  # noqa: S603 - a fixed program and a number
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        env={"LC_ALL": "C", "TZ": "UTC"},
    )
    state, _, started = done.stdout.strip().partition(" ")
    return None if done.returncode or state.startswith("Z") else started.strip()
