"""Alembic's entry: `integrations.db.migrate` hands in the connection, so there is no alembic.ini and no second URL."""

from alembic import context

from integrations.db.base import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    compare_type=True,
    compare_server_default=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
