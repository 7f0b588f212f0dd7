"""The catalog for commands that need nothing else: no database, no key, no Temporal."""

import os
from pathlib import Path
from typing import Final

from integrations.providers.catalog import Catalog, load
from starters.embedded.live import read_live
from starters.embedded.location import locate

_NOT_RUNNING: Final = "http://127.0.0.1"
"""In place of the simulator's address: its entry can be looked at, and not called."""


def known_providers() -> Catalog:
    """The built-in entries, and those of RUNBOOK_PROVIDERS or of the stack that runs here. Raises CatalogError."""
    live = read_live(locate()) or {}
    file = os.environ.get("RUNBOOK_PROVIDERS") or live.get("providers")
    host = os.environ.get("RUNBOOK_SIMULATOR_URL") or live.get("simulator_url")
    return load(Path(file) if file else None, host or _NOT_RUNNING)
