"""The ledger: the outbox's drain and projections, what is held and retried, dispatchers, and replays."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_OUTBOX = "service_lifecycle_outbox"


def upgrade() -> None:
    op.execute("ALTER TABLE service_lifecycle_outbox SET (fillfactor = 60)")
    _states("'pending', 'processing', 'held', 'retrying', 'delivered', 'dead'")
    op.create_check_constraint(
        op.f("ck_service_lifecycle_outbox_complete"),
        _OUTBOX,
        "name <> '' AND provider_id <> '' AND scope_id <> '' AND order_key <> ''",
    )
    op.create_check_constraint(op.f("ck_service_lifecycle_outbox_scope_type"), _OUTBOX, "scope_type IN ('user', 'org')")
    op.create_table(
        "service_activity_entries",
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("scope_type", sa.Text(), nullable=False),
        sa.Column("scope_id", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.Uuid(), nullable=True),
        sa.Column("order_key", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("projected_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("out_of_order", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_service_activity_entries")),
    )
    op.create_index(
        op.f("ix_service_activity_entries_scope_type_scope_id_id"),
        "service_activity_entries",
        ["scope_type", "scope_id", "id"],
        unique=False,
    )
    op.create_table(
        "service_dispatch_scales",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("dispatchers", sa.SmallInteger(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("dispatchers BETWEEN 1 AND 16", name=op.f("ck_service_dispatch_scales_dispatchers")),
        sa.PrimaryKeyConstraint("ledger", name=op.f("pk_service_dispatch_scales")),
    )
    op.create_table(
        "service_dispatchers",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("parts", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("running", sa.Boolean(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("suspect", sa.Uuid(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("items", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("errors", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("last_error_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("ledger", "number", name=op.f("pk_service_dispatchers")),
    )
    op.create_table(
        "service_ledger_holds",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("part", sa.SmallInteger(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("order_key", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("ledger", "part", "destination", "order_key", name=op.f("pk_service_ledger_holds")),
    )
    op.create_index(op.f("ix_service_ledger_holds_item_id"), "service_ledger_holds", ["item_id"], unique=False)
    op.create_table(
        "service_ledger_samples",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("arrived", sa.BigInteger(), nullable=False),
        sa.Column("settled", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ledger", "at", name=op.f("pk_service_ledger_samples")),
    )
    op.create_table(
        "service_ledger_watermarks",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("part", sa.SmallInteger(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("items", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("ledger", "part", "destination", name=op.f("pk_service_ledger_watermarks")),
    )
    op.create_table(
        "service_notification_requests",
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("order_key", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("out_of_order", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_service_notification_requests")),
    )
    op.create_index(
        "ix_service_notification_requests_pending",
        "service_notification_requests",
        ["id"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_table(
        "service_order_keys",
        sa.Column("order_key", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("order_key", name=op.f("pk_service_order_keys")),
    )
    op.create_table(
        "service_projector_ledger",
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("projector", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="delivered", nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("part", sa.SmallInteger(), nullable=True),
        sa.Column("order_key", sa.Text(), nullable=True),
        sa.Column("attempts", sa.SmallInteger(), nullable=True),
        sa.Column("cause", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("history", postgresql.JSONB(), nullable=True),
        sa.CheckConstraint(
            "status IN ('held', 'retrying', 'delivered', 'dead')", name=op.f("ck_service_projector_ledger_status")
        ),
        sa.PrimaryKeyConstraint("event_id", "projector", name=op.f("pk_service_projector_ledger")),
        postgresql_with={"fillfactor": 70},
    )
    op.create_index(
        "ix_service_projector_ledger_behind",
        "service_projector_ledger",
        ["projector", "order_key", "position"],
        unique=False,
        postgresql_where=sa.text("status = 'held'"),
    )
    op.create_index(
        "ix_service_projector_ledger_dead",
        "service_projector_ledger",
        ["projector", "fingerprint", "position"],
        unique=False,
        postgresql_where=sa.text("status = 'dead'"),
    )
    op.create_index(
        "ix_service_projector_ledger_held",
        "service_projector_ledger",
        ["projector", "part", "position"],
        unique=False,
        postgresql_where=sa.text("status = 'held'"),
    )
    op.create_index(
        "ix_service_projector_ledger_retrying",
        "service_projector_ledger",
        ["lease_until"],
        unique=False,
        postgresql_where=sa.text("status = 'retrying'"),
    )
    op.create_table(
        "service_replay_items",
        sa.Column("plan_id", sa.Uuid(), nullable=False),
        sa.Column("part", sa.SmallInteger(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.CheckConstraint("outcome IN ('skipped', 'dead')", name=op.f("ck_service_replay_items_outcome")),
        sa.PrimaryKeyConstraint("plan_id", "part", "n", name=op.f("pk_service_replay_items")),
    )
    op.create_table(
        "service_replay_plans",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="planned", nullable=False),
        sa.Column("filters", postgresql.JSONB(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("histogram", postgresql.JSONB(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rate", sa.Integer(), server_default="0", nullable=False),
        sa.Column("max_failures", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("released", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("paced_from", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("paced_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("request", postgresql.JSONB(), nullable=True),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_by", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", postgresql.JSONB(), nullable=True),
        sa.CheckConstraint(
            "status IN ('planned', 'running', 'paused', 'done', 'stopped', 'cancelled')",
            name=op.f("ck_service_replay_plans_status"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_replay_plans")),
    )
    op.create_index(
        "ix_service_replay_plans_running",
        "service_replay_plans",
        ["ledger"],
        unique=False,
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_table(
        "service_replay_progress",
        sa.Column("plan_id", sa.Uuid(), nullable=False),
        sa.Column("part", sa.SmallInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("upto", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("delivered", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("skipped", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("dead", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["plan_id"],
            ["service_replay_plans.id"],
            name=op.f("fk_service_replay_progress_plan_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("plan_id", "part", name=op.f("pk_service_replay_progress")),
    )
    op.add_column("service_lifecycle_outbox", sa.Column("source", sa.Text(), server_default="runbook", nullable=False))
    op.drop_index(op.f("ix_service_lifecycle_outbox_connection_id_seq"), table_name="service_lifecycle_outbox")
    op.create_index("ux_service_lifecycle_outbox_order", "service_lifecycle_outbox", ["order_key", "seq"], unique=True)


def downgrade() -> None:
    op.execute("ALTER TABLE service_lifecycle_outbox RESET (fillfactor)")
    op.drop_index("ux_service_lifecycle_outbox_order", table_name="service_lifecycle_outbox")
    op.create_index(
        op.f("ix_service_lifecycle_outbox_connection_id_seq"),
        "service_lifecycle_outbox",
        ["connection_id", "seq"],
        unique=False,
    )
    op.drop_column("service_lifecycle_outbox", "source")
    op.drop_table("service_replay_progress")
    op.drop_table("service_replay_plans")
    op.drop_table("service_replay_items")
    op.drop_table("service_projector_ledger")
    op.drop_table("service_order_keys")
    op.drop_table("service_notification_requests")
    op.drop_table("service_ledger_watermarks")
    op.drop_table("service_ledger_samples")
    op.drop_table("service_ledger_holds")
    op.drop_table("service_dispatchers")
    op.drop_table("service_dispatch_scales")
    op.drop_table("service_activity_entries")
    op.drop_constraint(op.f("ck_service_lifecycle_outbox_complete"), _OUTBOX)
    op.drop_constraint(op.f("ck_service_lifecycle_outbox_scope_type"), _OUTBOX)
    # What was held had not been projected; without a hold it is pending.
    op.execute("UPDATE service_lifecycle_outbox SET status = 'pending' WHERE status = 'held'")
    _states("'pending', 'processing', 'retrying', 'delivered', 'dead'")


def _states(listed: str) -> None:
    name = op.f("ck_service_lifecycle_outbox_status")
    op.drop_constraint(name, _OUTBOX)
    op.create_check_constraint(name, _OUTBOX, f"status IN ({listed})")
