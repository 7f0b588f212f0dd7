"""Addresses: by which channels owners, operators and lists are reached."""

import base64
import binascii
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from integrations.db import contact_addresses as rows
from integrations.db import keys
from integrations.db.notification_tables import ContactAddress
from integrations.db.vault import Vault
from integrations.domain.audience import read_audience, read_name, recipient_of, way_to_reach
from integrations.domain.errors import NotReadyError, WrongUsageError
from integrations.domain.nearest import nearest
from integrations.domain.notification import CHANNELS
from integrations.providers.channels.channel import Channel as SendingChannel
from starters.notification_kit import channels_of
from starters.one_line import from_file, from_stdin, typed
from starters.reach import changing, reading
from starters.shell import FAILED, By, Json, as_json, command, fail, out

_STDIN: Final = "-"
_MARK: Final = "whsec_"
_SIZES: Final = range(24, 65)
"""Bytes of a signing secret, as Standard Webhooks has them; one of ours has the fewest."""

Audience = Annotated[str, typer.Argument(help="org:ID, user:ID, operators.primary, operators.secondary or list.NAME.")]
Channel = Annotated[str, typer.Argument(help=f"One of {', '.join(CHANNELS)}.")]
Name = Annotated[str, typer.Option(help="A person's, where the audience has several.")]


@command
async def add(
    audience: Audience,
    channel: Channel,
    address: Annotated[str, typer.Argument(help="A mailbox or a URL; - reads it from stdin.")],
    by: By,
    name: Name = "",
    secret_file: Annotated[str, typer.Option(help="Where the signing secret of a webhook is; - reads stdin.")] = "",
) -> None:
    """Write down by which address a channel reaches somebody, in place of what was. Safe to repeat.

    Others can read a command line: an address that holds a secret, as those of apprise do, is given on stdin. A webhook
    keeps its signing secret while its address stays; otherwise a new one is made, and shown once.

    Example: runbook contacts add org:acme email ada@acme.example --name ada
    """
    audience, name = read_audience(audience), read_name(name)
    channel = _channel(channel)
    given = _given_secret(channel, secret_file, address)
    address = typed("Address") if address == _STDIN else address
    async with changing() as reach, channels_of(reach.settings) as channels, reach.sessions.begin() as session:
        address, origin, shown = checked(channels[channel], address)
        vault = Vault(reach.settings.keys)
        await keys.check(session, vault, by="runbook contacts add")
        before = await rows.find(session, audience, name, channel)
        known = given or _kept_secret(vault, before, address)
        made = "" if known or channel != "webhook" else f"{_MARK}{base64.b64encode(os.urandom(_SIZES[0])).decode()}"
        await rows.put(
            session,
            vault,
            audience=audience,
            name=name,
            channel=channel,
            address=address,
            secret=known or made,
            origin=origin,
            shown=shown,
            by=by,
        )
        was = "" if before is None else before.shown
    instead = f", and no more at {was}" if was not in {"", shown} else ""
    out.print(f"{recipient_of(audience, name)} is reached by {channel} at {shown}{instead}", markup=False)
    if made:
        out.print(f"What it gets is signed with this secret, shown only now. Pass it on:\n\n  {made}\n", markup=False)


@command
async def remove(audience: Audience, channel: Channel, name: Name = "") -> None:
    """Forget an address. Safe to repeat.

    Example: runbook contacts remove org:acme email --name ada
    """
    audience, name, channel = read_audience(audience), read_name(name), _channel(channel)
    async with changing() as reach, reach.sessions.begin() as session:
        gone = await rows.remove(session, audience, name, channel)
        left = await rows.listed(session, audience)
    done = "is reached by {} no more" if gone else "was not reached by {} before"
    out.print(f"{recipient_of(audience, name)} {done.format(channel)}; {_in_words(audience, left)}", markup=False)


@command
async def check(audience: Audience, json: Json = False) -> None:
    """Tell who is reached as an audience, and by which channels. Exit code 1 when nobody is.

    Example: runbook contacts check operators.primary
    """
    audience = read_audience(audience)
    async with reading() as reach, reach.sessions.begin() as session:
        found = await rows.listed(session, audience)
    if json:
        as_json({"audience": audience, "reached": bool(found), "addresses": [told(row) for row in found]})
    elif found:
        out.print(_in_words(audience, found), markup=False)
    if not found:
        fail(_in_words(audience, found), FAILED)


def told(row: ContactAddress) -> dict[str, Any]:
    """What is shown of an address."""
    return {
        "audience": row.audience,
        "name": row.name,
        "channel": row.channel,
        "address": row.shown,
        "changed_by": row.changed_by,
        "changed_at": row.changed_at,
    }


def checked(to: SendingChannel, address: str) -> tuple[str, str, str]:
    """An address as its channel takes it, the origin that it fails with, and how it is shown.

    Raises WrongUsageError, without the address, which may hold a secret.
    """
    try:
        address = to.check(address)
    except ValueError as error:
        raise WrongUsageError(f"the address is not one that {to.name} takes: {error}") from None
    return address, to.origin(address), to.masked(address)


def _in_words(audience: str, found: Sequence[ContactAddress]) -> str:
    if not found:
        return f"nobody is reached as {audience}: {way_to_reach(audience)}"
    ways = (f"{row.name} by {row.channel} at {row.shown}".strip() for row in found)
    return f"reached as {audience}: {'; '.join(ways)}"


def _channel(name: str) -> str:
    if name not in CHANNELS:
        raise WrongUsageError(f"{name[:80]!r} is no channel{nearest(name, CHANNELS)}")
    return name


def _given_secret(channel: str, file: str, address: str) -> str:
    """The secret of `--secret-file`, empty without one. Raises WrongUsageError, without the secret."""
    if not file:
        return ""
    if channel != "webhook":
        raise WrongUsageError(f"--secret-file is for webhook: nothing is signed by {channel}")
    if file == address == _STDIN:
        raise WrongUsageError("the address and the secret cannot both be read from stdin: put the secret into a file")
    try:
        secret = from_stdin() if file == _STDIN else from_file(Path(file))
        size = len(base64.b64decode(secret.removeprefix(_MARK), validate=True))
    except OSError as error:
        raise WrongUsageError(f"--secret-file {file[:200]}: {error.strerror}") from None
    except binascii.Error:
        size = 0
    if not secret.startswith(_MARK) or size not in _SIZES:
        raise WrongUsageError(
            f"--secret-file {file[:200]} holds no signing secret: it is written {_MARK} and "
            f"{_SIZES[0]} to {_SIZES[-1]} bytes in base64; without the option one is made"
        )
    return secret


def _kept_secret(vault: Vault, before: ContactAddress | None, address: str) -> str:
    """That of the same address, before. What does not open any more is replaced."""
    if before is None:
        return ""
    try:
        known = rows.open_address(vault, before)
    except NotReadyError:
        return ""
    return known.secret if known.address == address else ""
