"""Which Temporal a database belongs to, so that no command ever changes the wrong pair."""

from typing import Final

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.tables import Deployment
from integrations.domain.errors import StopError
from integrations.domain.message import Message

_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1", ""})


class Target(Message):
    """The Temporal that a process talks to."""

    address: str
    namespace: str
    embedded: str | None = None
    """The data folder, when it is the one that `up` started."""

    def __str__(self) -> str:
        kind = " (embedded)" if self.embedded else ""
        return f"{self.address}, namespace {self.namespace!r}{kind}"


def is_remote(database_url: str) -> bool:
    """Does the database live on another machine? A unix socket and a loopback address do not."""
    url = make_url(database_url)
    host = url.host or url.query.get("host", "")
    name = host if isinstance(host, str) else host[0]
    return not (name in _LOCAL or name.startswith(("/", "127.")))


def shown(database_url: str) -> str:
    """The database's address for a person: without a password, which libpq's form also allows in the query."""
    url = make_url(database_url)
    where = {name: value for name, value in url.query.items() if name in {"host", "port"}}
    return url.set(drivername="postgresql", query=where).render_as_string(hide_password=True)


async def check(session: AsyncSession, database_url: str, target: Target) -> None:
    """Raise StopError, naming both sides, unless the database belongs to this Temporal or to none yet."""
    refuse_remote(database_url, target)
    bound = await session.get(Deployment, True)
    if bound is None:
        raise StopError(
            f"the database {shown(database_url)} belongs to no Temporal yet: `runbook db upgrade` binds it to one"
        )
    if (bound.temporal_address, bound.temporal_namespace) != (target.address, target.namespace):
        raise StopError(
            f"the database {shown(database_url)} belongs to the Temporal at {bound.temporal_address}, namespace "
            f"{bound.temporal_namespace!r}, and this command talks to {target}. Set RUNBOOK_DATABASE_URL or "
            f"TEMPORAL_ADDRESS to a pair, or, when the same Temporal has moved, run `runbook db bind`"
        )


def refuse_remote(database_url: str, target: Target) -> None:
    if target.embedded and is_remote(database_url):
        raise StopError(
            f"the database {shown(database_url)} is remote and the Temporal at {target}: an embedded Temporal dies "
            "with this machine's session. Set TEMPORAL_ADDRESS to the real one, or unset RUNBOOK_DATABASE_URL"
        )


async def bind(session: AsyncSession, database_url: str, target: Target, *, by: str, move: bool = False) -> None:
    """Bind an unbound database; with `move`, bind it anew. A bound one is left alone and checked."""
    refuse_remote(database_url, target)
    values = {
        "temporal_address": target.address,
        "temporal_namespace": target.namespace,
        "embedded": target.embedded,
        "bound_by": by,
    }
    row = insert(Deployment).values(singleton=True, **values)
    if move:
        row = row.on_conflict_do_update(index_elements=[Deployment.singleton], set_=values | {"bound_at": func.now()})
        await session.execute(row)
        return
    # The embedded pair lives in one folder: when it comes up on other ports, it is still the pair.
    changes = {"temporal_address": target.address, "temporal_namespace": target.namespace}
    same_folder = Deployment.embedded == (target.embedded or "")
    await session.execute(
        row.on_conflict_do_update(index_elements=[Deployment.singleton], set_=changes, where=same_folder)
    )
    await check(session, database_url, target)
