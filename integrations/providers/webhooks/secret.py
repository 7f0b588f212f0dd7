"""What a secret looks like, by its scheme: a wrong one is found here, and not by all deliveries being refused."""

import base64
import binascii
import re
from typing import Final

from integrations.providers.entry import Webhook

_PREFIX: Final = b"whsec_"
_LONGEST: Final = {"microsoft-graph": 128, "google-channel-token": 256}
"""Characters. learn.microsoft.com/en-us/graph/api/resources/subscription and
developers.google.com/workspace/drive/api/guides/push."""
_TOLD: Final = re.compile(rb"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
"""What survives a header or a body as it was given."""


def trouble_of(webhook: Webhook, secret: bytes) -> str:
    """Why a provider cannot have this secret by its scheme, in words without it; empty when it can."""
    if not secret:
        return "it is empty, and everybody could sign with it"
    if webhook.scheme == "standard-webhooks" and not _is_base64(secret.removeprefix(_PREFIX)):
        return "a secret of Standard Webhooks is whsec_ and base64, with all of the `=` at its end"
    longest = _LONGEST.get(webhook.scheme)
    if longest is not None and (len(secret) > longest or not _TOLD.fullmatch(secret)):
        return f"it comes back to us as it is: up to {longest} characters of ASCII, without spaces around them"
    return ""


def _is_base64(text: bytes) -> bool:
    """Strictly: what decodes leniently is another key here than at the provider."""
    try:
        return bool(base64.b64decode(text, validate=True))
    except binascii.Error:
        return False
