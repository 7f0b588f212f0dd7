"""Waiting: tasks that escalate, or that a person puts off."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_COLUMNS = ("escalated_at", "snoozed_until")


def upgrade() -> None:
    for name in _COLUMNS:
        op.add_column("service_operator_tasks", sa.Column(name, sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    for name in _COLUMNS:
        op.drop_column("service_operator_tasks", name)
