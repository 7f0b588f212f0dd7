"""An SMTP server on aiosmtpd that takes mail for everybody, and fails on order. Imported only where one is wanted."""

import asyncio
from collections.abc import Sequence
from typing import NoReturn

from aiosmtpd.smtp import SMTP, Envelope, Session

from simulator.connections import held, reset
from simulator.faults import Fault, Faults
from simulator.mail_order import MailOrder, Stage
from simulator.mailbox import Mailbox

BIGGEST = 1_048_576
"""Bytes, told to whoever asks (RFC 1870): a notification is a page, and 500 of the biggest have to fit into memory."""


class MailServer:
    def __init__(self, mailbox: Mailbox, faults: Faults) -> None:
        self._mailbox = mailbox
        self._faults = faults

    async def open(self, host: str, port: int) -> None:
        """Listen, on a free port if it is 0. Raises OSError when the port is taken."""
        self._listening = await asyncio.get_running_loop().create_server(self._answer, host, port)
        self._mailbox.address = f"smtp://{host}:{self._listening.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        self._listening.close()

    def _answer(self) -> asyncio.Protocol:
        if self._take("connect"):
            return _Slammed()
        # Its own name: to look this machine's up would block everything else.
        return SMTP(self, hostname="simulator", data_size_limit=BIGGEST, enable_SMTPUTF8=True)

    async def handle_RCPT(  # noqa: N802 aiosmtpd's name
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._take("connect"):  # whoever was here already is torn away like the others
            reset(_transport(server))
            await _cut()
        if fault := self._take("rcpt", [address]):
            return _refusal(fault.order)
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 Recipient ok"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 aiosmtpd's name
        recipients = [str(address) for address in envelope.rcpt_tos]
        fault = self._take("data", recipients)
        if fault and fault.order.kind == "status":
            return _refusal(fault.order)
        if fault is None or fault.order.kind == "drop":
            assert isinstance(envelope.content, bytes)
            self._mailbox.catch(recipients, envelope.content)
        if fault:
            if fault.order.kind == "drop":
                _transport(server).abort()
            with held(fault, _transport(server)):
                await _cut()
        return "250 2.0.0 Message caught"

    def _take(self, stage: Stage, recipients: Sequence[str] = ()) -> Fault[MailOrder] | None:
        """Choose the oldest fault that breaks this step, and count the hit."""
        for fault in self._faults.live(MailOrder):
            if fault.order.may_hit(stage, recipients) and fault.order.draws():
                fault.hits += 1
                return fault
        return None


class _Slammed(asyncio.Protocol):
    """The door, slammed in the caller's face."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        reset(transport)


def _transport(session: SMTP) -> asyncio.Transport:
    assert isinstance(session.transport, asyncio.Transport)
    return session.transport


def _refusal(order: MailOrder) -> str:
    return f"{order.status} {order.status // 100}.0.0 Broken on purpose"


async def _cut() -> NoReturn:
    """Wait until the connection is gone; aiosmtpd cancels this then."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("nobody sets it")
