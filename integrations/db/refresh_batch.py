"""Storing what many refreshes brought, in one transaction of three statements.

Only what nothing but the tokens changed for: the connection is active and stays as it is, with the same grants and
values. Everything else is settled one by one (`refresh.settle`), which knows what a change means.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, DateTime, Integer, LargeBinary, Text, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession

from integrations.db.credentials import Tokens
from integrations.db.refresh import Claim
from integrations.db.vault import Vault
from integrations.domain.connection import Status

# In the order of their ids, as everybody who takes several: two batches never wait for each other.
_LOCKED: Final = text("""
SELECT connection.id FROM service_connections AS connection
JOIN unnest(:ids, cast(:granted AS text[]), cast(:missing AS text[])) AS ours (connection_id, granted, missing)
  ON ours.connection_id = connection.id
WHERE connection.status = 'active' AND array_to_string(connection.grants, ' ') = ours.granted
  AND array_to_string(connection.missing_grants, ' ') = ours.missing
  AND NOT EXISTS (SELECT FROM service_operator_tasks AS task
                  WHERE task.connection_id = connection.id AND task.status <> 'closed' AND task.kind = 'contested')
ORDER BY connection.id FOR UPDATE OF connection
""").bindparams(bindparam("ids", type_=ARRAY(Uuid)))
# A lease that was lost, or a version that is not the active one any more, stores nothing.
_STORED: Final = text("""
WITH ours AS (
  SELECT * FROM unnest(:ids, :tokens, :versions, :next, :keys, :sealed, :expires, :refresh)
    AS ours (connection_id, token, version, next, key_id, sealed, expires_at, refresh_at)
), released AS (
  UPDATE service_refresh_leases AS lease SET until = now() - interval '1 s', sent_version = NULL, sent_at = NULL
  FROM ours WHERE lease.connection_id = ours.connection_id AND lease.token = ours.token
  RETURNING lease.connection_id
), retired AS (
  UPDATE service_credentials AS kept SET state = 'retired', retired_at = now()
  FROM ours JOIN released USING (connection_id)
  WHERE kept.connection_id = ours.connection_id AND kept.version = ours.version AND kept.state = 'active'
  RETURNING kept.connection_id, kept.provider_id, kept.grants, kept.variables
)
INSERT INTO service_credentials (connection_id, provider_id, version, state, key_id, sealed, grants, variables,
                                 expires_at, refresh_at, activated_at)
SELECT connection_id, provider_id, next, 'active', key_id, sealed, grants, variables, expires_at, refresh_at, now()
FROM ours JOIN retired USING (connection_id)
RETURNING connection_id
""").bindparams(
    bindparam("ids", type_=ARRAY(Uuid)),
    bindparam("tokens", type_=ARRAY(BigInteger)),
    bindparam("versions", type_=ARRAY(Integer)),
    bindparam("next", type_=ARRAY(Integer)),
    bindparam("keys", type_=ARRAY(Text)),
    bindparam("sealed", type_=ARRAY(LargeBinary)),
    bindparam("expires", type_=ARRAY(DateTime(timezone=True))),
    bindparam("refresh", type_=ARRAY(DateTime(timezone=True))),
)


@dataclass(frozen=True, slots=True)
class Renewed:
    """What one refresh brought, and under which claim."""

    claim: Claim
    tokens: Tokens
    granted: tuple[str, ...] | None
    """None: the answer named no grants, which are as they were."""
    values: dict[str, str]
    expires_at: datetime | None
    refresh_at: datetime | None

    @property
    def is_plain(self) -> bool:
        """Did nothing change but the tokens? As far as it was known when the connection was claimed."""
        kept = self.claim.credential
        return (
            self.claim.connection.status == Status.ACTIVE
            and (self.granted is None or sorted(self.granted) == kept.grants)
            # What this credential lacks was not taken away while the platform could not act by itself.
            and set(self.claim.connection.grants) <= set(kept.grants)
            and self.values.items() <= kept.variables.items()
        )


async def store(session: AsyncSession, vault: Vault, renewed: Sequence[Renewed]) -> set[UUID]:
    """Store the new versions and retire the old ones. The connections for which that was done.

    `renewed` holds plain ones only. Raises IntegrityError when somebody has added a candidate since the claim.
    """
    locked = set(
        (
            await session.scalars(
                _LOCKED,
                {
                    "ids": [each.claim.connection.id for each in renewed],
                    "granted": [" ".join(each.claim.connection.grants) for each in renewed],
                    "missing": [" ".join(each.claim.connection.missing_grants) for each in renewed],
                },
            )
        ).all()
    )
    ours = [each for each in renewed if each.claim.connection.id in locked]
    if not ours:
        return set()
    sealed = [(vault.key_id, _sealed(vault, each)) for each in ours]
    # A statement of its own, after the locks were waited for: it sees what their last holders committed.
    stored = await session.scalars(
        _STORED,
        {
            "ids": [each.claim.connection.id for each in ours],
            "tokens": [each.claim.token for each in ours],
            "versions": [each.claim.credential.version for each in ours],
            "next": [each.claim.newest + 1 for each in ours],
            "keys": [key_id for key_id, _ in sealed],
            "sealed": [each for _, each in sealed],
            "expires": [each.expires_at for each in ours],
            "refresh": [each.refresh_at for each in ours],
        },
    )
    return set(stored.all())


def _sealed(vault: Vault, renewed: Renewed) -> bytes:
    return renewed.tokens.sealed(vault, renewed.claim.connection.id, renewed.claim.newest + 1)
