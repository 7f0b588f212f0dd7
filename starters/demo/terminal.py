"""What a person types meanwhile, in a terminal of their own."""

import asyncio
import os
import sys
from pathlib import Path

from starters.stack import Stack

_RUNBOOK = Path(sys.executable).with_name("runbook")


async def runbook(stack: Stack, *words: str) -> tuple[int, str]:
    """Run a command as it is documented. Its exit code, and what it printed; with --json nothing but that."""
    process = await asyncio.create_subprocess_exec(
        _RUNBOOK,
        *words,
        env={"PATH": os.environ["PATH"], "HOME": str(stack.folder), "RUNBOOK_DATA": str(stack.folder)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL if "--json" in words else asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode()
