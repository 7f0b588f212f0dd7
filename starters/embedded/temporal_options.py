"""How the dev server is tuned; each number is measured in reference/temporal.md, section 0."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

DYNAMIC_CONFIG: Mapping[str, Any] = {
    # Timers fire within 10 ms instead of a second, and a dispatch no longer waits 50 ms for the next poll.
    "history.timerProcessorMaxTimeShift": "10ms",
    "history.transferProcessorMaxPollRPS": 200,
    "history.timerProcessorMaxPollRPS": 200,
    # Fairness between tenants is off by default, and like priority it is exact only within one partition.
    "matching.enableFairness": True,
    "matching.numTaskqueueReadPartitions": 1,
    "matching.numTaskqueueWritePartitions": 1,
    # What a Temporal on Postgres has room for: an id that is too long for it is found out here.
    "limit.maxIDLength": 255,
}


def dynamic_config_flags(extra: Mapping[str, Any]) -> Iterator[str]:
    """Yield the command line for our settings and `extra`, which wins."""
    for key, value in {**DYNAMIC_CONFIG, **extra}.items():
        yield "--dynamic-config-value"
        yield f"{key}={json.dumps(value)}"
