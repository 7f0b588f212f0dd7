"""A surge of refused refreshes: what was tried and refused at each provider, and tasks that are about a provider."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TASKS = "service_operator_tasks"
_TRIES = "service_refresh_tries"
_REFUSALS = "service_refresh_refusals"


def upgrade() -> None:
    op.add_column(_TASKS, sa.Column("provider_id", sa.Text(), nullable=True))
    op.alter_column(_TASKS, "connection_id", existing_type=sa.Uuid(), nullable=True)
    op.create_check_constraint(
        op.f("ck_service_operator_tasks_about_one"), _TASKS, "num_nonnulls(connection_id, provider_id) = 1"
    )
    op.create_index(
        "ux_service_operator_tasks_open_provider",
        _TASKS,
        ["provider_id", "kind"],
        unique=True,
        postgresql_where=sa.text("status <> 'closed' AND provider_id IS NOT NULL"),
    )
    op.create_table(
        _TRIES,
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("connection_ids", postgresql.ARRAY(sa.Uuid()), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_refresh_tries")),
    )
    op.create_index(op.f("ix_service_refresh_tries_provider_id_at"), _TRIES, ["provider_id", "at"])
    op.create_table(
        _REFUSALS,
        sa.Column("connection_id", sa.Uuid(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("meaning", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("held_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "meaning IN ('owner_must_act', 'operator_must_act')", name=op.f("ck_service_refresh_refusals_meaning")
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["service_connections.id"], name=op.f("fk_service_refresh_refusals_connection_id")
        ),
        sa.PrimaryKeyConstraint("connection_id", name=op.f("pk_service_refresh_refusals")),
    )
    op.create_index(op.f("ix_service_refresh_refusals_provider_id_at"), _REFUSALS, ["provider_id", "at"])
    op.create_index(
        "ix_service_refresh_refusals_held",
        _REFUSALS,
        ["provider_id"],
        postgresql_where=sa.text("held_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_table(_REFUSALS)
    op.drop_table(_TRIES)
    op.execute(f"DELETE FROM {_TASKS} WHERE connection_id IS NULL")  # noqa: S608 - our own name
    op.drop_index("ux_service_operator_tasks_open_provider", table_name=_TASKS)
    op.drop_constraint(op.f("ck_service_operator_tasks_about_one"), _TASKS)
    op.alter_column(_TASKS, "connection_id", existing_type=sa.Uuid(), nullable=False)
    op.drop_column(_TASKS, "provider_id")
