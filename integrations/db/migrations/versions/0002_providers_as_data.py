"""Providers as data: what completes a connection's addresses, wider grants as an event, and the keys there were."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_COMPLETED = ("service_connections", "service_credentials", "service_consent_sessions")
_KIND = "ck_service_grant_events_kind"


def upgrade() -> None:
    for table in _COMPLETED:
        variables = sa.Column("variables", postgresql.JSONB(), server_default="{}", nullable=False)
        op.add_column(table, variables)
    _allow_kinds("'revoked', 'downgraded', 'requested', 'granted', 'expanded'")
    op.create_table(
        "service_keys",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("canary", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retired_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_service_keys")),
    )


def downgrade() -> None:
    op.drop_table("service_keys")
    op.execute("UPDATE service_grant_events SET kind = 'granted' WHERE kind = 'expanded'")
    _allow_kinds("'revoked', 'downgraded', 'requested', 'granted'")
    for table in _COMPLETED:
        op.drop_column(table, "variables")


def _allow_kinds(kinds: str) -> None:
    op.drop_constraint(op.f(_KIND), "service_grant_events", type_="check")
    op.create_check_constraint(op.f(_KIND), "service_grant_events", f"kind IN ({kinds})")
