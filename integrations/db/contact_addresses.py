"""How people are reached: one address for each of an audience's names and channels, sealed where it lies."""

import json
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Final, Protocol
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Text, Uuid, and_, any_, bindparam, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.notification_tables import ContactAddress
from integrations.db.session import Executor
from integrations.db.tables import Contact
from integrations.db.vault import Vault, address_place
from integrations.domain.audience import is_owner, recipient_of
from integrations.domain.notification import Address, Recipient
from integrations.domain.quiet_hours import QuietHours

OF_RECIPIENT: Final = """
address.channel = {channel} AND address.audience IN ({recipient}, split_part({recipient}, '/', 1))
  AND address.audience || CASE WHEN address.name = '' THEN '' ELSE '/' || address.name END = {recipient}
"""
"""Which `address` a dispatch goes to by now: one that was removed and given anew is another row."""
_AT_ANY_HOUR: Final = QuietHours(starts=0, ends=0)
_ORDER: Final = (ContactAddress.audience, ContactAddress.name, ContactAddress.channel)


async def put(
    session: AsyncSession,
    vault: Vault,
    *,
    audience: str,
    name: str,
    channel: str,
    address: str,
    secret: str,
    origin: str,
    shown: str,
    by: str,
) -> None:
    """Write down where somebody is reached by a channel, in place of what was."""
    held = json.dumps({"address": address, "secret": secret}).encode()
    told = {
        "origin": origin,
        "shown": shown,
        "sealed": vault.seal(held, address_place(audience, name, channel)),
        "key_id": vault.key_id,
        "changed_by": by,
        "changed_at": func.now(),
    }
    await session.execute(
        insert(ContactAddress)
        .values(audience=audience, name=name, channel=channel, **told)
        .on_conflict_do_update(index_elements=_ORDER, set_=told)
    )


async def remove(session: AsyncSession, audience: str, name: str, channel: str) -> bool:
    """Forget an address. False when there was none."""
    gone = delete(ContactAddress).where(*_is(audience, name, channel)).returning(ContactAddress.id)
    return (await session.scalar(gone)) is not None


async def find(session: AsyncSession, audience: str, name: str, channel: str) -> ContactAddress | None:
    return await session.scalar(select(ContactAddress).where(*_is(audience, name, channel)))


async def listed(session: AsyncSession, audience: str | None = None) -> Sequence[ContactAddress]:
    """Those of an audience, or all."""
    found = select(ContactAddress).order_by(*_ORDER)
    if audience is not None:
        found = found.where(ContactAddress.audience == audience)
    return (await session.scalars(found)).all()


async def of(run: Executor, audiences: Collection[str], *, quiet: QuietHours) -> Mapping[str, Sequence[Recipient]]:
    """Who is reached as each of these audiences: nobody, where the sequence is empty.

    `quiet` is for owners of whom nothing is known; operators and lists are told at any hour.
    """
    audience = ContactAddress.audience
    # Of the address, so that the owner's row is found by its key.
    owner = and_(
        Contact.scope_type == func.split_part(audience, ":", 1),
        Contact.scope_id == func.substr(audience, func.strpos(audience, ":") + 1),
    )
    found = (
        select(
            ContactAddress.id,
            audience,
            ContactAddress.name,
            ContactAddress.channel,
            Contact.zone,
            Contact.quiet_starts,
            Contact.quiet_ends,
        )
        .outerjoin(Contact, owner)
        .where(audience == any_(bindparam(None, list(audiences), ARRAY(Text))))
        .order_by(*_ORDER)
    )
    reached: dict[str, list[Recipient]] = {each: [] for each in audiences}
    for (told, name), rows in groupby(await run.execute(found), lambda row: (row.audience, row.name)):
        ways = list(rows)
        first = ways[0]
        known = QuietHours(zone=first.zone, starts=first.quiet_starts, ends=first.quiet_ends) if first.zone else quiet
        recipient = Recipient(
            audience=told,
            name=name,
            quiet=known if is_owner(told) else _AT_ANY_HOUR,
            addresses={row.channel: row.id for row in ways},
        )
        reached[told].append(recipient)
    return reached


async def rows_of(session: AsyncSession, ids: Collection[UUID]) -> Mapping[UUID, ContactAddress]:
    """By id. One that was removed meanwhile is missing."""
    wanted = ContactAddress.id == any_(bindparam(None, list(ids), ARRAY(Uuid)))
    return {row.id: row for row in await session.scalars(select(ContactAddress).where(wanted))}


class SealedAddress(Protocol):
    """A row of the table, or what a claim brought of it."""

    @property
    def audience(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def channel(self) -> str: ...
    @property
    def sealed(self) -> bytes: ...
    @property
    def key_id(self) -> str: ...


def open_address(vault: Vault, row: SealedAddress) -> Address:
    """Where it leads, for one sending. Raises NotReadyError, which names whose it is, when it does not open."""
    held = json.loads(vault.open(row.sealed, row.key_id, address_place(row.audience, row.name, row.channel)))
    return Address(
        channel=row.channel,
        recipient=recipient_of(row.audience, row.name),
        name=row.name,
        address=held["address"],
        secret=held["secret"],
    )


def _is(audience: str, name: str, channel: str) -> tuple[ColumnElement[bool], ...]:
    return (
        ContactAddress.audience == audience,
        ContactAddress.name == name,
        ContactAddress.channel == channel,
    )
