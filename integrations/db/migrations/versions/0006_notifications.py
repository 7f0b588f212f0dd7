"""Notifications: how people are reached, and each message that somebody was to get."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_REQUESTS = "service_notification_requests"
_ADDRESSES = "service_contact_addresses"
_DISPATCHES = "service_notification_dispatches"


def upgrade() -> None:
    op.create_check_constraint(
        op.f("ck_service_notification_requests_status"), _REQUESTS, "status IN ('pending', 'expanded', 'unmapped')"
    )
    op.add_column("service_replay_items", sa.Column("verdict", sa.Text(), nullable=True))
    op.create_table(
        _ADDRESSES,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("shown", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_contact_addresses")),
        sa.UniqueConstraint(
            "audience", "name", "channel", name=op.f("uq_service_contact_addresses_audience_name_channel")
        ),
    )
    op.create_table(
        _DISPATCHES,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("part", sa.SmallInteger(), nullable=False),
        sa.Column("address_id", sa.Uuid(), nullable=True),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("plan_id", sa.Uuid(), nullable=True),
        sa.Column("cause", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rendered", postgresql.JSONB(), nullable=True),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("history", postgresql.JSONB(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('pending', 'processing', 'held', 'retrying', 'delivered', 'dead', 'nobody', 'dropped')",
            name=op.f("ck_service_notification_dispatches_status"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_notification_dispatches")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index(
        "ix_service_notification_dispatches_pending",
        _DISPATCHES,
        ["part", "due_at", "position"],
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "ix_service_notification_dispatches_held",
        _DISPATCHES,
        ["part"],
        postgresql_where=sa.text("status = 'held'"),
    )
    op.create_index(
        "ix_service_notification_dispatches_leased",
        _DISPATCHES,
        ["status", "lease_until"],
        postgresql_where=sa.text("status IN ('processing', 'retrying')"),
    )
    op.create_index(
        "ix_service_notification_dispatches_dead",
        _DISPATCHES,
        ["fingerprint", "position"],
        postgresql_where=sa.text("status IN ('dead', 'nobody')"),
    )
    op.create_index(
        "ix_service_notification_dispatches_dropped",
        _DISPATCHES,
        ["settled_at"],
        postgresql_where=sa.text("status = 'dropped'"),
    )
    op.create_index(op.f("ix_service_notification_dispatches_event_id"), _DISPATCHES, ["event_id"])


def downgrade() -> None:
    op.drop_table(_DISPATCHES)
    op.drop_table(_ADDRESSES)
    op.drop_column("service_replay_items", "verdict")
    op.drop_constraint(op.f("ck_service_notification_requests_status"), _REQUESTS)
