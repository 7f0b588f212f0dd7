"""Owners: where their clock is, and when they want to be left alone."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.tables import Contact
from integrations.domain.quiet_hours import QuietHours


def quiet_hours_of(row: Contact | None) -> QuietHours | None:
    """None of an owner of whom nothing is known."""
    return None if row is None else QuietHours(zone=row.zone, starts=row.quiet_starts, ends=row.quiet_ends)


async def put(session: AsyncSession, scope_type: str, scope_id: str, quiet: QuietHours, *, by: str) -> None:
    """Write down what is known of an owner, in place of what was."""
    told = {
        "zone": quiet.zone,
        "quiet_starts": quiet.starts,
        "quiet_ends": quiet.ends,
        "changed_by": by,
        "changed_at": func.now(),
    }
    await session.execute(
        insert(Contact)
        .values(scope_type=scope_type, scope_id=scope_id, **told)
        .on_conflict_do_update(index_elements=[Contact.scope_type, Contact.scope_id], set_=told)
    )


async def listed(session: AsyncSession) -> Sequence[Contact]:
    return (await session.scalars(select(Contact).order_by(Contact.scope_type, Contact.scope_id))).all()
