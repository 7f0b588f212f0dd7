"""The deployment files, as tests look at them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from yaml import safe_load

ROOT: Final = Path(__file__).parents[2]
COMPOSE_FILE: Final = "docker-compose.temporal.yml"
ENV_FILE: Final = "deploy/compose.env"
FILLED_IN: Final = {
    "APP_POSTGRES_PASSWORD": "sesame",
    "TEMPORAL_POSTGRES_PASSWORD": "sesame",
    "RUNBOOK_KEY": "c2VzYW1lIG9wZW4gc2VzYW1lIG9wZW4gc2VzYW1lIG8=",
    "RUNBOOK_WEB_URL": "https://connect.example.com",
}
"""What a person has to put into the env file."""
_VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")


def compose() -> dict[str, Any]:
    document: dict[str, Any] = safe_load((ROOT / COMPOSE_FILE).read_text())
    return document


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def example() -> dict[str, str]:
    """The sample env file's settings, with those that are commented out."""
    text = (ROOT / f"{ENV_FILE}.example").read_text()
    return dict(re.findall(r"^#?([A-Z][A-Z_]*)=(.*)$", text, re.MULTILINE))


def required() -> set[str]:
    """What the compose file refuses to start without."""
    text = (ROOT / COMPOSE_FILE).read_text()
    return {name for name, kind, _ in _VARIABLE.findall(text) if kind == "?"}


def environment(service: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """What the service's process finds, when the env file holds `given`."""
    from_file = given if service.get("env_file") == ENV_FILE else {}
    own = {
        name: _VARIABLE.sub(lambda m: given.get(m[1]) or m[3], value) for name, value in service["environment"].items()
    }
    return {**from_file, **own}
