"""The keys that there ever were, what is sealed with each, and proofs that a ring has the right ones."""

from collections import defaultdict
from typing import Final

from sqlalchemy import func, literal, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.sealed import SEALED, Sealed, newest, open_all
from integrations.db.tables import Key
from integrations.db.vault import Vault
from integrations.domain.errors import NotReadyError, StopError, TryAgainError
from integrations.domain.keys import KeyPlace, KeyState, Proof

_CANARY: Final = b"runbook"
_LOCK_NOT_AVAILABLE: Final = "55P03"
_PATIENCE_MS: Final = 500
"""For the writers that are under way when a key retires; theirs are milliseconds. Shorter than PostgreSQL's
`deadlock_timeout`, so that nobody else is ever sacrificed for it."""


async def remember(session: AsyncSession, vault: Vault, key_id: str, *, by: str) -> None:
    """Write a key's canary unless there is one, and make sure that it opens.

    Raises StopError when the database knows another key under this id, or the key was retired.
    """
    if await session.get(Key, key_id) is None:
        await _prove_by_rows(session, vault, key_id)
        canary = vault.seal_with(key_id, _CANARY, _place(key_id))
        row = insert(Key).values(key_id=key_id, canary=canary, created_by=by)
        # Another process may have been as quick; then it is its canary that has to open.
        await session.execute(row.on_conflict_do_nothing(index_elements=[Key.key_id]))
    known = await session.get_one(Key, key_id)
    if _canary(vault, known) is not Proof.OPENS:
        raise StopError(
            f"{vault.where} has other bytes as {key_id!r} than the key that this database knows by that name: put the "
            "right one back. `runbook keys status` shows which key needs what"
        )
    if known.retired_at is not None:
        raise StopError(
            f"key {key_id!r} was retired by {known.retired_by} on {known.retired_at:%Y-%m-%d}, and {vault.where} still "
            "seals with it: take over the ring of the machine that rotated (docs/runbook/keys.md)"
        )


async def check(session: AsyncSession, vault: Vault, *, by: str) -> None:
    """What a process does before it seals anything: is the current key the one that the database knows?

    Raises StopError when it is not, and NotReadyError when the ring cannot be read.
    """
    await remember(session, vault, vault.key_id, by=by)


async def known_ids(session: AsyncSession) -> set[str]:
    """Every id that was ever used: none is used for another key."""
    ids = set((await session.scalars(select(Key.key_id))).all())
    return ids | set(await usage(session))


async def usage(session: AsyncSession) -> dict[str, dict[str, int]]:
    """By key: how many rows of each kind are sealed with it."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for sealed in SEALED:
        rows = sealed.rows
        kind = rows.c[sealed.split] if sealed.split else literal("")
        counted = select(rows.c.key_id, kind, func.count()).where(sealed.holds_something).group_by(rows.c.key_id, kind)
        for key_id, each, count in (await session.execute(counted)).all():
            found[key_id][f"{each} {sealed.what}".strip()] = count
    return found


async def left(session: AsyncSession, key_id: str) -> int:
    """How many rows are sealed with another key than this one."""
    counts = 0
    for sealed in SEALED:
        rows = sealed.rows
        other = select(func.count()).select_from(rows).where(rows.c.key_id != key_id, sealed.holds_something)
        counts += await session.scalar(other) or 0
    return counts


async def survey(session: AsyncSession, vault: Vault) -> list[KeyState]:
    """Every key of the ring, of the rows, and of those remembered."""
    ring, used = vault.ring, await usage(session)
    known = {row.key_id: row for row in await session.scalars(select(Key).order_by(Key.created_at))}
    ids = list(dict.fromkeys([*known, *used, *ring.keys]))
    return [await _state(session, vault, key_id, known.get(key_id), used.get(key_id, {})) for key_id in ids]


async def retire(session: AsyncSession, key_id: str, *, by: str) -> None:
    """Mark a key that nothing is sealed with as retired. Raises StopError while anything is."""
    await session.execute(text(f"SET LOCAL lock_timeout = {_PATIENCE_MS}"))
    try:
        for sealed in SEALED:
            # Whoever sealed with it a moment ago commits first, and is counted.
            await session.execute(text(f"LOCK TABLE {sealed.table.__tablename__} IN SHARE MODE"))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        raise TryAgainError(f"{sealed.what} are being written without a pause: try again in a moment") from None
    rows = (await usage(session)).get(key_id)
    if rows:
        counts = ", ".join(f"{count} {what}" for what, count in rows.items())
        raise StopError(f"{key_id!r} is still needed by {counts}: `runbook keys reencrypt` seals them anew")
    known = await session.get(Key, key_id)
    if known is None:
        raise StopError(f"the database knows no key {key_id!r}: `runbook keys status` lists them")
    await session.execute(
        update(Key).where(Key.key_id == key_id, Key.retired_at.is_(None)).values(retired_at=func.now(), retired_by=by)
    )


async def _state(session: AsyncSession, vault: Vault, key_id: str, known: Key | None, rows: dict[str, int]) -> KeyState:
    ring = vault.ring
    place = KeyPlace.OLD if key_id in ring.keys else KeyPlace.MISSING
    if key_id == ring.current:
        place = KeyPlace.CURRENT
    elif key_id in ring.staged:
        place = KeyPlace.STAGED
    elif known is not None and known.retired_at is not None and not rows:
        place = KeyPlace.RETIRED
    tried = [await _row(session, vault, sealed, key_id) for sealed in SEALED] if key_id in ring.keys else []
    return KeyState(
        key_id=key_id,
        place=place,
        made_at=known and known.created_at,
        made_by=known and known.created_by,
        retired_at=known and known.retired_at,
        retired_by=known and known.retired_by,
        rows=rows,
        canary=_canary(vault, known) if known is not None and key_id in ring.keys else Proof.NONE,
        row=max(tried, key=_worst, default=Proof.NONE),
    )


def _worst(proof: Proof) -> int:
    return [Proof.NONE, Proof.OPENS, Proof.WRONG].index(proof)


async def _prove_by_rows(session: AsyncSession, vault: Vault, key_id: str) -> None:
    """A canary must not be made with a key that is already known to be wrong: by what it should open and does not."""
    for sealed in SEALED:
        if await _row(session, vault, sealed, key_id) is Proof.WRONG:
            raise StopError(
                f"{vault.where} has other bytes as {key_id!r} than the key that this database's {sealed.what} are "
                "sealed with: put the right one back"
            )


async def _row(session: AsyncSession, vault: Vault, sealed: Sealed, key_id: str) -> Proof:
    row = await newest(session, sealed, key_id)
    if row is None:
        return Proof.NONE
    try:
        open_all(vault, sealed, row)
    except NotReadyError:
        return Proof.WRONG
    return Proof.OPENS


def _canary(vault: Vault, known: Key) -> Proof:
    try:
        vault.open(known.canary, known.key_id, _place(known.key_id))
    except NotReadyError:
        return Proof.WRONG
    return Proof.OPENS


def _place(key_id: str) -> str:
    return f"canary of key {key_id}"
