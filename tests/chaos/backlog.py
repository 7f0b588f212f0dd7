"""A backlog of the outbox, drained at a pace that leaves time to shoot at whoever drains it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from integrations.domain.ledger import partition_of
from tests.chaos.ground import Ground
from tests.chaos.waiting import until

# What a row's projection costs, and what some events do to whoever projects them.
_TROUBLE: Final = """
CREATE TABLE IF NOT EXISTS chaos_pace AS SELECT 0::float8 AS seconds;
CREATE OR REPLACE FUNCTION chaos() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  PERFORM pg_sleep(seconds) FROM chaos_pace;
  IF NEW.name = 'poison' THEN
    RAISE 'it is refused';
  ELSIF NEW.name = 'recovers' AND 2 > coalesce((SELECT attempts FROM service_projector_ledger
      WHERE event_id = NEW.event_id AND projector = 'activity'), 0) THEN
    RAISE 'not yet';
  ELSIF NEW.name = 'ends the session' THEN
    PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(1);
  ELSIF NEW.name = 'ends the process' THEN
    PERFORM pg_sleep(25);
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER chaos BEFORE INSERT ON service_activity_entries FOR EACH ROW EXECUTE FUNCTION chaos();
"""
DOOMED: Final = ("poison", "ends the session", "ends the process")
"""Events that the projector `activity` never takes."""
_ADD: Final = """
INSERT INTO service_lifecycle_outbox
  (event_id, name, provider_id, scope_type, scope_id, connection_id, order_key, part, seq, payload)
SELECT gen_random_uuid(), coalesce(trouble.name, 'connection.tested'), 'simulator', 'org', 'acme', key.id, key.id, part,
  (i - 1) / :connections + 1, jsonb_build_object('n', i)
FROM generate_series(1, :count) AS i
JOIN unnest(cast(:keys AS uuid[]), cast(:parts AS smallint[])) WITH ORDINALITY AS key (id, part, n)
  ON n = (i - 1) % :connections + 1
LEFT JOIN unnest(cast(:places AS int[]), cast(:names AS text[])) AS trouble (place, name) ON place = i
ORDER BY i RETURNING 1
"""
_PENDING: Final = "SELECT count(*) FROM service_lifecycle_outbox WHERE status = 'pending'"


@dataclass(frozen=True)
class Backlog:
    ground: Ground

    async def prepare(self) -> None:
        connection = await self.ground.connect()
        try:
            await connection.execute(_TROUBLE)
        finally:
            await connection.close()

    async def pace(self, seconds: float) -> None:
        """What each row costs from the next batch on: a running one goes on with what it began with, or not."""
        await self.ground.rows("UPDATE chaos_pace SET seconds = :seconds RETURNING 1", seconds=seconds)

    async def add(self, count: int, *, connections: int, trouble: Mapping[int, str] | None = None) -> None:
        """Events in turn for so many new connections. `trouble`: the names of those at some places, from 1."""
        keys = [uuid4() for _ in range(connections)]
        await self.ground.rows(
            _ADD,
            count=count,
            connections=connections,
            keys=keys,
            parts=[partition_of(str(key)) for key in keys],
            places=list(trouble or {}),
            names=list((trouble or {}).values()),
        )

    async def pending(self) -> int:
        return int(await self.ground.one(_PENDING))

    async def is_down_to(self, pending: int, *, within: float = 60) -> None:
        async def probe() -> bool:
            return await self.pending() <= pending

        await until(f"at most {pending} events are pending", probe, within=within)

    async def has(self, what: str, sql: str, *, within: float = 60) -> None:
        """Wait until a query's one value is true."""

        async def probe() -> bool:
            return bool(await self.ground.one(sql))

        await until(what, probe, within=within)
