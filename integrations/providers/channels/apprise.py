"""The hundred other services, by apprise: Slack, Telegram, ntfy, PagerDuty and the like.

An address is one of its URLs, and nearly every part of one is a secret. It says whether a service took a message and
nothing else, so that all of its failures are one.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Final

from integrations.domain.notification import Answer, Outgoing
from integrations.domain.verdict import Meaning
from integrations.providers.channels.channel import TIMEOUT

_WRITTEN: Final = (
    "an address of apprise is written SCHEME://…, as ntfy://ntfy.sh/topic; its wiki has those of each service"
)
_THREADS: Final = 8
"""It blocks. In the event loop's own threads, a service that hangs would hold up every look-up of a name."""


@cache
def _apprise() -> Any:
    """The package, imported when the first message is for it: its hundred services take a while to load."""
    # It logs addresses, with only some of their secrets masked.
    logging.getLogger("apprise").disabled = True
    import apprise

    return apprise


class AppriseChannel:
    name = "apprise"

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="apprise")

    def ready(self) -> str:
        return ""

    def check(self, address: str) -> str:
        if _service(address.strip()) is None:
            raise ValueError(_WRITTEN)
        return address.strip()

    def origin(self, address: str) -> str:
        service = _service(address)
        if service is None:
            return self.name
        # Of many services it is a token that stands in a host's place, sometimes or always.
        if not service.host or not all("@{host}" in form or "://{host}" in form for form in service.templates):
            return str(service.schema)
        port = f":{service.port}" if service.port else ""
        return f"{service.schema}://{service.host}{port}"

    def masked(self, address: str) -> str:
        origin = self.origin(address)
        return f"{origin}/…" if "://" in origin else f"{origin}://…"

    async def send(self, outgoing: Outgoing) -> Answer:
        loop = asyncio.get_running_loop()
        try:
            # What has not begun by then never does. What has goes on, and may arrive though it counts as failed.
            async with asyncio.timeout(TIMEOUT.total_seconds()):
                taken = await loop.run_in_executor(self._threads, _notify, outgoing)
        except TimeoutError:
            why = f"apprise took longer than {TIMEOUT.total_seconds():g} s"
            return Answer(meaning=Meaning.OUTAGE, kind="Timeout", why=why)
        if taken is None:
            return Answer(meaning=Meaning.OWNER_MUST_ACT, kind="Address", why=_WRITTEN)
        if not taken:
            return Answer(meaning=Meaning.OUTAGE, kind="apprise", why="apprise says only that it failed")
        return Answer(meaning=Meaning.OK)


def _notify(outgoing: Outgoing) -> bool | None:
    """Whether the service took it; None when the address is none."""
    service = _service(outgoing.to.address)
    if service is None:
        return None
    apprise = _apprise()
    # Whatever its address asks for: Temporal retries.
    service.retry = 0
    sending = apprise.Apprise(service, asset=service.asset)
    rendered = outgoing.rendered
    return bool(sending.notify(body=rendered.text, title=rendered.subject, body_format=apprise.NotifyFormat.TEXT))


def _service(address: str) -> Any:
    apprise = _apprise()
    return apprise.Apprise.instantiate(address, asset=apprise.AppriseAsset(async_mode=False))
