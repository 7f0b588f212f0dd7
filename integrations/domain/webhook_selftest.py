"""The mark of a delivery that we sent ourselves, to see that the ingress works: nobody without our key can make one."""

import hmac
from collections.abc import Mapping
from typing import Any, Final

from integrations.domain.webhook import SELF_TEST_HEADER

PURPOSE: Final = "runbook webhook self-test"
"""Of the key: `vault.derived(PURPOSE)`."""


def mark(key: bytes, provider_id: str, channel: str, delivery_id: str) -> str:
    """What SELF_TEST_HEADER holds: HMAC-SHA256 in hex. It is good for this one delivery, which comes in once."""
    told = f"{provider_id}\n{channel}\n{delivery_id}"
    return hmac.digest(key, told.encode("utf-8", "surrogatepass"), "sha256").hex()


def is_marked(key: bytes, provider_id: str, channel: str, delivery_id: str, headers: Mapping[str, Any]) -> bool:
    """Did we send this delivery ourselves? `headers`: as its row has them, names in lower case."""
    told = headers.get(SELF_TEST_HEADER)
    if not isinstance(told, str):
        return False
    wanted = mark(key, provider_id, channel, delivery_id)
    return hmac.compare_digest(told.encode("utf-8", "surrogatepass"), wanted.encode())
