"""On whose behalf an activity calls a provider."""

from temporalio import activity

from integrations.db.tables import Connection
from integrations.domain.call import Caller
from integrations.domain.gate import Purpose


def caller(connection: Connection, purpose: Purpose) -> Caller:
    attempt = activity.info().attempt
    return Caller(tenant=connection.tenant, connection_id=connection.id, purpose=purpose, attempt=attempt)
