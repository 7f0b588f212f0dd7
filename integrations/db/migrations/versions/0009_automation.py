"""Automation: pauses, observing, and what would have been done meanwhile."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_DEPLOYMENT = "service_deployment"
_DETECTIONS = "service_grant_events"
_PAUSES = "service_automation_pauses"
_UNDONE = "service_would_have_done"
_MODES = "mode IN ('outage', 'reauth', 'webhook', 'outbox', 'notification')"


def upgrade() -> None:
    now = sa.text("now()")
    op.add_column(_DEPLOYMENT, sa.Column("conduct", sa.Text(), server_default="act", nullable=False))
    op.add_column(
        _DEPLOYMENT, sa.Column("conduct_since", sa.DateTime(timezone=True), server_default=now, nullable=False)
    )
    op.create_check_constraint(op.f(f"ck_{_DEPLOYMENT}_conduct"), _DEPLOYMENT, "conduct IN ('act', 'observe')")
    op.add_column(_DETECTIONS, sa.Column("ordered", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table(
        _PAUSES,
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("paused_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("resumed_by", sa.Text(), nullable=True),
        sa.Column("resumed_reason", sa.Text(), nullable=True),
        sa.CheckConstraint(_MODES, name=op.f(f"ck_{_PAUSES}_mode")),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{_PAUSES}")),
    )
    op.create_index(op.f(f"ix_{_PAUSES}_mode_until"), _PAUSES, ["mode", "until"])
    op.create_table(
        _UNDONE,
        sa.Column("connection_id", sa.Uuid(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("times", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.CheckConstraint(_MODES, name=op.f(f"ck_{_UNDONE}_mode")),
        sa.PrimaryKeyConstraint("connection_id", "step", "fingerprint", name=op.f(f"pk_{_UNDONE}")),
    )
    op.create_index(op.f(f"ix_{_UNDONE}_last_at"), _UNDONE, ["last_at"])


def downgrade() -> None:
    op.drop_table(_UNDONE)
    op.drop_table(_PAUSES)
    op.drop_column(_DETECTIONS, "ordered")
    op.drop_column(_DEPLOYMENT, "conduct_since")
    op.drop_column(_DEPLOYMENT, "conduct")
