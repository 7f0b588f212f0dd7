"""What a secret looks like, by its scheme: a wrong one is found here, and not by all deliveries being refused."""

import base64
import binascii
import re
from typing import Final

from integrations.domain.errors import WrongUsageError
from integrations.providers.entry import Webhook

_PREFIX: Final = b"whsec_"
_TOLD: Final = re.compile(rb"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
"""What comes back in a header or a body as it was given."""


def check_secret(webhook: Webhook, secret: bytes) -> None:
    """Raises WrongUsageError, which tells nothing of the secret, when nothing of its scheme is signed with such."""
    if not secret:
        raise WrongUsageError("the secret is empty: everybody could sign with it")
    if webhook.scheme == "standard-webhooks":
        _check_base64(secret.removeprefix(_PREFIX))
    if webhook.scheme in {"google-channel-token", "microsoft-graph"} and not _TOLD.fullmatch(secret):
        raise WrongUsageError(
            "the secret is sent back to us as it is: printable ASCII, without spaces around it; --generate makes one"
        )


def _check_base64(text: bytes) -> None:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise WrongUsageError(
            "the secret is no base64: Standard Webhooks writes one as `whsec_` and base64; copy all of it, with the "
            "`=` at its end"
        )
