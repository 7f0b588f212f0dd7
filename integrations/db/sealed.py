"""Every place where sealed values live, and sealing a batch of them anew."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    LargeBinary,
    Row,
    Text,
    any_,
    bindparam,
    column,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.base import Base
from integrations.db.notification_tables import ContactAddress
from integrations.db.session import Sessions
from integrations.db.tables import ConsentSession, ConsentState, Credential
from integrations.db.vault import Vault, address_place, credential_place, session_place, webhook_place
from integrations.db.webhook_tables import WebhookSecret
from integrations.domain.errors import NotReadyError
from integrations.domain.keys import Pass

BATCH: Final = 1000
"""Rows of one transaction: some 30 ms, so that a refresh waits for no longer than that."""

Place = Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Sealed:
    """A table with sealed columns. Each row has an `id`, and one `key_id` for all of its sealed columns."""

    what: str
    """What its rows are called."""
    table: type[Base]
    columns: Mapping[str, Place]
    """Each sealed column, and the place that its values are bound to."""
    split: str | None = None
    """A column by whose values the rows are counted apart."""

    @property
    def rows(self) -> FromClause:
        return self.table.__table__

    @property
    def holds_something(self) -> ColumnElement[bool]:
        """A row whose values were forgotten keeps its key's id, and needs no key any more."""
        return or_(*(self.rows.c[name].is_not(None) for name in self.columns))


SEALED: Final = (
    Sealed(
        "credentials", Credential, {"sealed": lambda row: credential_place(row.connection_id, row.version)}, "state"
    ),
    Sealed(
        "consent sessions",
        ConsentSession,
        {
            "sealed_verifier": lambda row: session_place(row.id, "verifier"),
            "sealed_code": lambda row: session_place(row.id, "code"),
        },
    ),
    Sealed(
        "presses of invitations",
        ConsentState,
        {"sealed_verifier": lambda row: session_place(row.session_id, "verifier")},
    ),
    Sealed(
        "contact addresses",
        ContactAddress,
        {"sealed": lambda row: address_place(row.audience, row.name, row.channel)},
    ),
    Sealed(
        "webhook secrets",
        WebhookSecret,
        {"sealed": lambda row: webhook_place(row.provider_id, row.channel, row.version)},
    ),
)
"""All of them. A table that is missing here is not re-encrypted, and its key can be retired under it."""


def open_all(vault: Vault, sealed: Sealed, row: Row[Any]) -> dict[str, bytes | None]:
    """Every secret of a row. Raises NotReadyError, which names the row, when one does not open."""
    kept = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for a row by column
    return {
        name: None if kept[name] is None else vault.open(kept[name], row.key_id, place(row))
        for name, place in sealed.columns.items()
    }


async def newest(session: AsyncSession, sealed: Sealed, key_id: str) -> Row[Any] | None:
    """A row that is sealed with this key; the newest, where ids are numbers."""
    rows = sealed.rows
    found = select(rows).where(rows.c.key_id == key_id, sealed.holds_something).order_by(rows.c.id.desc()).limit(1)
    return (await session.execute(found)).first()


async def advance(sessions: Sessions, vault: Vault, key_id: str, at: Pass) -> Pass:
    """One batch further: what is not sealed with `key_id` yet is sealed with it.

    A row that no key opens is left alone and counted, and so is one that somebody else changes at the same time.
    Raises NotReadyError when this process has not got the wanted key.
    """
    if not vault.has(key_id):
        raise NotReadyError(f"this worker has no key {key_id!r} to seal with: put it into its {vault.where}")
    sealed = next((each for each in SEALED if each.what == at.what), SEALED[0])
    after = None if at.after is None else sealed.rows.c.id.type.python_type(at.after)
    async with sessions.begin() as session:
        page = await _page(session, sealed, key_id, after)
    unopened, opened = at.unopened, []
    for row in page:
        try:
            opened.append((row, _resealed(vault, sealed, row, key_id)))
        except NotReadyError as error:
            unopened = unopened.with_one(str(error))
    moved = await _settle(sessions, sealed, key_id, opened) if opened else 0
    further = at.model_copy(
        update={
            "what": sealed.what,
            "after": str(page[-1].id) if page else at.after,
            "moved": at.moved + moved,
            "busy": at.busy + len(opened) - moved,
            "unopened": unopened,
        }
    )
    return further if len(page) == BATCH else _next_table(further)


def _next_table(at: Pass) -> Pass:
    names = [each.what for each in SEALED]
    behind = names[names.index(at.what) + 1 :]
    return at.model_copy(update={"what": behind[0], "after": None} if behind else {"done": True})


async def _page(session: AsyncSession, sealed: Sealed, key_id: str, after: object) -> list[Row[Any]]:
    rows = sealed.rows
    found = select(rows).where(rows.c.key_id != key_id, sealed.holds_something).order_by(rows.c.id).limit(BATCH)
    if after is not None:
        found = found.where(rows.c.id > after)
    return list((await session.execute(found)).all())


def _resealed(vault: Vault, sealed: Sealed, row: Row[Any], key_id: str) -> dict[str, bytes | None]:
    return {
        name: None if secret is None else vault.seal_with(key_id, secret, sealed.columns[name](row))
        for name, secret in open_all(vault, sealed, row).items()
    }


async def _settle(
    sessions: Sessions, sealed: Sealed, key_id: str, opened: list[tuple[Row[Any], dict[str, bytes | None]]]
) -> int:
    """Write the batch, in one statement that waits for nobody. How many rows were still what had been read."""
    rows, names = sealed.rows, list(sealed.columns)
    arrays = {
        "id": ([row.id for row, _ in opened], rows.c.id.type),
        "key_id": ([row.key_id for row, _ in opened], Text()),
    }
    for name in names:
        arrays[f"old_{name}"] = ([row._mapping[name] for row, _ in opened], LargeBinary())  # noqa: SLF001 - as above
        arrays[f"new_{name}"] = ([fresh[name] for _, fresh in opened], LargeBinary())
    given = (
        func.unnest(*(bindparam(None, values, ARRAY(kind)) for values, kind in arrays.values()))
        .table_valued(*(column(name, kind) for name, (_, kind) in arrays.items()))
        .render_derived("given")
    )
    # A lock that is taken is left to its holder, who may want another row of this batch: no deadlock, no wait.
    free = (
        select(rows.c.id)
        .where(rows.c.id == any_(bindparam(None, arrays["id"][0], ARRAY(rows.c.id.type))))
        .with_for_update(skip_locked=True)
        .cte("free")
    )
    written = (
        update(sealed.table)
        .where(rows.c.id == given.c.id, rows.c.id.in_(select(free.c.id)), rows.c.key_id == given.c.key_id)
        .where(*(rows.c[name].is_not_distinct_from(given.c[f"old_{name}"]) for name in names))
        .values(key_id=key_id, **{name: given.c[f"new_{name}"] for name in names})
        .returning(rows.c.id)
        .execution_options(synchronize_session=False)
    )
    async with sessions.begin() as session:
        return len((await session.execute(written)).all())
