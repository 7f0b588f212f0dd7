"""What can be allowed, and how the consent page says it."""

from typing import Annotated

from pydantic import AfterValidator

SCOPES = {
    "profile": "See your name and e-mail address",
    "notes.read": "Read your notes",
    "notes.write": "Write notes in your name",
}

DEFAULT_SCOPE = "profile"
"""Used when a client asks for none (RFC 6749 section 3.3 wants a default, or a refusal)."""


def _known(names: list[str]) -> list[str]:
    if not names or set(names) - SCOPES.keys():
        raise ValueError(f"at least one of {', '.join(SCOPES)}, and nothing else")
    return [name for name in SCOPES if name in names]


Scopes = Annotated[list[str], AfterValidator(_known)]
"""Known ones, each once, in their usual order."""
