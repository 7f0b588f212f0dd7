"""The shield: while a provider's outage is contained, nobody acts on what it says of a grant or of our registration.

A terminal answer that comes meanwhile is set aside, not believed: noted as what would have been done. When the shield
lifts, each connection of which something was set aside is refreshed at once, and that answer counts.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, SQLColumnExpression, Text, Uuid, and_, bindparam, exists, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.outage_tables import Mitigation
from integrations.db.surge_counts import Refusal
from integrations.db.tables import Connection
from integrations.domain.automation import FailureMode, Shield, shielded
from integrations.domain.ledger import Failure
from integrations.domain.outage import Brake
from integrations.domain.reauth import Detected

_CAUSE_LIMIT: Final = 500
_UP: Final = and_(Mitigation.brake == Brake.SHIELD, Mitigation.released_at.is_(None))
# In the order of their ids, as everybody who takes several.
_SET_ASIDE: Final = text(f"""
INSERT INTO service_would_have_done AS noted (connection_id, step, fingerprint, mode, cause)
SELECT connection.id, refused.step, refused.fingerprint, '{FailureMode.REAUTH}', refused.cause
FROM unnest(:ids, :steps, :fingerprints, :causes) AS refused (connection_id, step, fingerprint, cause)
JOIN service_connections AS connection ON connection.id = refused.connection_id
WHERE EXISTS (SELECT FROM service_mitigations AS shield
  WHERE shield.provider_id = connection.provider_id AND shield.brake = '{Brake.SHIELD}'
    AND shield.name IN ('', connection.scope_type || ':' || connection.scope_id) AND shield.released_at IS NULL)
ORDER BY connection.id
ON CONFLICT (connection_id, step, fingerprint)
  DO UPDATE SET times = noted.times + 1, cause = excluded.cause, last_at = now()
RETURNING connection_id
""").bindparams(  # noqa: S608 - our own words
    bindparam("ids", type_=ARRAY(Uuid)),
    bindparam("steps", type_=ARRAY(Text)),
    bindparam("fingerprints", type_=ARRAY(Text)),
    bindparam("causes", type_=ARRAY(Text)),
)
# A revocation that was confirmed when the outage began waits as a detection: it too is looked at again in place of
# being acted on. What can not be refreshed keeps its detection, which reconcile announces.
_LIFTED: Final = text(f"""
WITH shield AS (
  SELECT provider_id, name, put_at FROM service_mitigations WHERE outage_id = :outage AND brake = '{Brake.SHIELD}'
), aside AS (
  SELECT noted.connection_id, noted.last_at FROM service_would_have_done AS noted
  WHERE noted.last_at >= (SELECT min(put_at) FROM shield)
  UNION ALL SELECT detected.connection_id, 'infinity' FROM service_grant_events AS detected
  WHERE detected.handled_at IS NULL AND NOT detected.ordered AND detected.kind = '{Detected.REVOKED}'
), ours AS (
  SELECT DISTINCT connection.id FROM aside JOIN service_connections AS connection ON connection.id = aside.connection_id
  JOIN shield ON shield.provider_id = connection.provider_id AND shield.put_at <= aside.last_at
    AND shield.name IN ('', connection.scope_type || ':' || connection.scope_id)
), due AS (
  UPDATE service_credentials AS kept SET refresh_at = least(kept.refresh_at, now()) FROM ours
  WHERE kept.connection_id = ours.id AND kept.state = 'active' AND kept.refresh_at IS NOT NULL
  RETURNING kept.connection_id
), answered AS (
  UPDATE service_grant_events AS detected SET handled_at = now() FROM due
  WHERE detected.connection_id = due.connection_id AND detected.handled_at IS NULL AND NOT detected.ordered
    AND detected.kind = '{Detected.REVOKED}'
)
SELECT count(*) FROM due
""")  # noqa: S608 - our own words


def over(row: Connection) -> ColumnElement[bool]:
    """Of `Mitigation`: is it a shield that is up over this connection?"""
    return and_(_UP, Mitigation.provider_id == row.provider_id, Mitigation.name.in_(("", row.tenant)))


def over_each(*, at: SQLColumnExpression[datetime] | None = None) -> ColumnElement[bool]:
    """Is a shield up over the `Connection` of a statement, and was it at that moment?"""
    tenant = Connection.scope_type + ":" + Connection.scope_id
    names = (Mitigation.name == "") | (Mitigation.name == tenant)
    moment = [] if at is None else [Mitigation.put_at <= at]
    return (
        exists(Mitigation.id)
        .where(_UP, Mitigation.provider_id == Connection.provider_id, names, *moment)
        .correlate_except(Mitigation)
    )


async def up(session: AsyncSession) -> list[Shield]:
    """The shields that are up."""
    rows = await session.scalars(select(Mitigation).where(_UP).order_by(Mitigation.put_at, Mitigation.id))
    return [Shield(provider_id=row.provider_id, tenant=row.name, since=row.put_at) for row in rows]


async def why(session: AsyncSession, row: Connection) -> str | None:
    """What keeps a terminal answer about a connection from being believed, in words. None: there is no shield."""
    since = await session.scalar(select(Mitigation.put_at).where(over(row)).order_by(Mitigation.put_at).limit(1))
    return None if since is None else shielded(row.provider_id, since)


async def set_aside(session: AsyncSession, name: str, refused: Sequence[Refusal]) -> frozenset[UUID]:
    """Note those terminal answers that came under a shield. The connections that they are about.

    `name`: the provider's, for people.
    """
    if not refused:
        return frozenset()
    causes = [f"{name} refused a refresh: {each.answer}"[:_CAUSE_LIMIT] for each in refused]
    values = {
        "ids": [each.connection_id for each in refused],
        "steps": [each.leads_to for each in refused],
        "fingerprints": [
            Failure.of(each.leads_to, cause).fingerprint for each, cause in zip(refused, causes, strict=True)
        ],
        "causes": causes,
    }
    return frozenset((await session.scalars(_SET_ASIDE, values)).all())


async def lifted(session: AsyncSession, outage_id: UUID) -> int:
    """What was set aside under the shields of an outage is looked at again at once. How many connections are due.

    Called in the transaction that releases the shields, before or after they are: what is refused from then on is
    believed, and what was confirmed before is announced by nobody in between. Safe to repeat.
    """
    return int((await session.execute(_LIFTED, {"outage": outage_id})).scalar_one())
