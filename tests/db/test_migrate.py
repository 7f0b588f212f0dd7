import asyncio
from collections.abc import Callable

import pytest
from alembic import command
from sqlalchemy import inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from integrations.db import migrate
from integrations.db.base import Base
from integrations.domain.errors import StopError


async def tables(engine: AsyncEngine) -> set[str]:
    async with engine.connect() as connection:
        return set(await connection.run_sync(lambda c: inspect(c).get_table_names()))


async def run(engine: AsyncEngine, statement: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(statement))


class TestAnUpgrade:
    async def test_makes_every_table_and_leaves_no_drift(self, empty_database: AsyncEngine) -> None:
        before, after = await migrate.upgrade(empty_database)

        assert (before, after) == (None, migrate.newest())
        assert await tables(empty_database) == {*Base.metadata.tables, "alembic_version"}
        assert await migrate.drift(empty_database) == []
        assert await migrate.revision(empty_database) == migrate.newest()

    async def test_is_nothing_the_second_time(self, empty_database: AsyncEngine) -> None:
        await migrate.upgrade(empty_database)
        await run(
            empty_database,
            "INSERT INTO service_deployment VALUES (true, 'here:7233', 'default', NULL, 'ada', now())",
        )

        before, after = await migrate.upgrade(empty_database)

        assert before == after == migrate.newest()
        async with empty_database.connect() as connection:
            assert await connection.scalar(text("SELECT count(*) FROM service_deployment")) == 1

    async def test_waits_for_another_one_and_finds_nothing_to_do(self, empty_database: AsyncEngine) -> None:
        befores = [before for before, _ in await asyncio.gather(*(migrate.upgrade(empty_database) for _ in range(3)))]

        assert sorted(befores, key=str) == [migrate.newest(), migrate.newest(), None]

    async def test_refuses_tables_of_our_names_that_it_did_not_make(self, empty_database: AsyncEngine) -> None:
        await run(empty_database, "CREATE TABLE service_connections (id int)")

        with pytest.raises(StopError, match=r"service_connections.*nothing was changed"):
            await migrate.upgrade(empty_database)

        assert await tables(empty_database) == {"service_connections"}

    async def test_leaves_a_host_applications_tables_alone(self, empty_database: AsyncEngine) -> None:
        await run(empty_database, "CREATE TABLE orders (id int)")

        await migrate.upgrade(empty_database)

        assert "orders" in await tables(empty_database)
        assert await migrate.drift(empty_database) == []

    async def test_refuses_a_database_whose_alembic_is_another_applications(self, empty_database: AsyncEngine) -> None:
        await run(empty_database, "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
        await run(empty_database, "INSERT INTO alembic_version VALUES ('of_the_host')")

        with pytest.raises(StopError, match=r"'of_the_host'.*a database of its own"):
            await migrate.upgrade(empty_database)

        assert await tables(empty_database) == {"alembic_version"}


class TestTheEndings:
    """Revision 0004: owners who are at the provider while it is deployed come back to find their press."""

    @staticmethod
    async def move(engine: AsyncEngine, step: Callable[..., None], to: str) -> None:
        async with engine.begin() as connection:
            await connection.run_sync(lambda c: step(migrate._config(c), to))

    async def test_moves_a_press_into_a_row_of_its_own_and_back(self, empty_database: AsyncEngine) -> None:
        await self.move(empty_database, command.upgrade, "0003")
        await run(
            empty_database,
            "INSERT INTO service_connections (id, provider_id, scope_type, scope_id, status, status_reason) "
            "VALUES ('11111111-1111-4111-8111-111111111111', 'simulator', 'org', 'acme', 'pending_reauth', 'revoked')",
        )
        await run(
            empty_database,
            "INSERT INTO service_consent_sessions (id, connection_id, lifecycle_id, status, link_hash, asked_grants, "
            "why, expires_at, state_hash, browser_hash, sealed_verifier, key_id, minted_at) "
            "SELECT id, id, id, 'invited', 'link', '{}', 'revoked', now(), 'state', 'browser', 'sealed', 'k1', now() "
            "FROM service_connections",
        )

        await self.move(empty_database, command.upgrade, "0004")
        async with empty_database.connect() as connection:
            pressed = (await connection.execute(text("SELECT * FROM service_consent_states"))).mappings().one()
            left = await connection.scalar(text("SELECT sealed_verifier FROM service_consent_sessions"))
        await self.move(empty_database, command.downgrade, "0003")
        async with empty_database.connect() as connection:
            back = (await connection.execute(text("SELECT * FROM service_consent_sessions"))).mappings().one()

        assert (pressed["state_hash"], pressed["browser_hash"]) == (b"state", b"browser")
        assert (pressed["sealed_verifier"], pressed["key_id"]) == (b"sealed", "k1")
        assert left is None
        assert (back["state_hash"], back["browser_hash"], back["sealed_verifier"]) == (b"state", b"browser", b"sealed")


class TestDrift:
    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ("ALTER TABLE service_connections ADD COLUMN nickname text", "nickname"),
            ("ALTER TABLE service_connections DROP COLUMN account_name", "account_name"),
            ("ALTER TABLE service_connections ALTER COLUMN provider_id DROP NOT NULL", "provider_id"),
            ("ALTER TABLE service_connections ALTER COLUMN seq TYPE int", "seq"),
            ("DROP INDEX ux_service_credentials_active", "ux_service_credentials_active"),
            ("DROP TABLE service_operator_tasks", "service_operator_tasks"),
        ],
    )
    async def test_names_what_was_changed_by_hand(self, empty_database: AsyncEngine, change: str, told: str) -> None:
        await migrate.upgrade(empty_database)
        await run(empty_database, change)

        drift = await migrate.drift(empty_database)

        assert drift
        assert told in " ".join(drift)
