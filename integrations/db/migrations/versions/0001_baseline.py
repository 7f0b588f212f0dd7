"""baseline."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "service_connections",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("scope_type", sa.Text(), nullable=False),
        sa.Column("scope_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("status_reason", sa.Text(), nullable=False),
        sa.Column("status_since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("account_name", sa.Text(), nullable=True),
        sa.Column("grants", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("missing_grants", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("lifecycle_id", sa.Uuid(), nullable=True),
        sa.Column("seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("scope_type IN ('user', 'org')", name=op.f("ck_service_connections_scope_type")),
        sa.CheckConstraint(
            "status IN ('active', 'pending_reauth', 'needs_reconsent', 'errored', 'disconnected')",
            name=op.f("ck_service_connections_status"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_connections")),
    )
    op.create_index(op.f("ix_service_connections_provider_id"), "service_connections", ["provider_id"], unique=False)
    op.create_index(
        op.f("ix_service_connections_scope_type_scope_id"),
        "service_connections",
        ["scope_type", "scope_id"],
        unique=False,
    )
    op.create_index(
        "ix_service_connections_watched",
        "service_connections",
        ["id"],
        unique=False,
        postgresql_where=sa.text("status IN ('pending_reauth', 'needs_reconsent') OR lifecycle_id IS NOT NULL"),
    )
    op.create_table(
        "service_deployment",
        sa.Column("singleton", sa.Boolean(), nullable=False),
        sa.Column("temporal_address", sa.Text(), nullable=False),
        sa.Column("temporal_namespace", sa.Text(), nullable=False),
        sa.Column("embedded", sa.Text(), nullable=True),
        sa.Column("bound_by", sa.Text(), nullable=False),
        sa.Column("bound_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("singleton", name=op.f("ck_service_deployment_one_row")),
        sa.PrimaryKeyConstraint("singleton", name=op.f("pk_service_deployment")),
    )
    op.create_table(
        "service_lifecycle_outbox",
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("scope_type", sa.Text(), nullable=False),
        sa.Column("scope_id", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.Uuid(), nullable=True),
        sa.Column("order_key", sa.Text(), nullable=False),
        sa.Column("part", sa.SmallInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "status IN ('pending', 'processing', 'retrying', 'delivered', 'dead')",
            name=op.f("ck_service_lifecycle_outbox_status"),
        ),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_service_lifecycle_outbox")),
    )
    op.create_index(
        op.f("ix_service_lifecycle_outbox_connection_id_seq"),
        "service_lifecycle_outbox",
        ["connection_id", "seq"],
        unique=False,
    )
    op.create_index(
        "ix_service_lifecycle_outbox_pending",
        "service_lifecycle_outbox",
        ["part", "id"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_table(
        "service_connection_transitions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("connection_id", sa.Uuid(), nullable=False),
        sa.Column("from_status", sa.Text(), nullable=False),
        sa.Column("to_status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("evidence", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("lifecycle_id", sa.Uuid(), nullable=True),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "from_status IN ('active', 'pending_reauth', 'needs_reconsent', 'errored', 'disconnected')",
            name=op.f("ck_service_connection_transitions_from_status"),
        ),
        sa.CheckConstraint(
            "to_status IN ('active', 'pending_reauth', 'needs_reconsent', 'errored', 'disconnected')",
            name=op.f("ck_service_connection_transitions_to_status"),
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["service_connections.id"], name=op.f("fk_service_connection_transitions_connection_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_connection_transitions")),
    )
    op.create_index(
        op.f("ix_service_connection_transitions_connection_id_id"),
        "service_connection_transitions",
        ["connection_id", "id"],
        unique=False,
    )
    op.create_table(
        "service_consent_sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("connection_id", sa.Uuid(), nullable=False),
        sa.Column("lifecycle_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("link_hash", sa.LargeBinary(), nullable=False),
        sa.Column("asked_grants", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("state_hash", sa.LargeBinary(), nullable=True),
        sa.Column("browser_hash", sa.LargeBinary(), nullable=True),
        sa.Column("sealed_verifier", sa.LargeBinary(), nullable=True),
        sa.Column("sealed_code", sa.LargeBinary(), nullable=True),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("minted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("signalled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("denied_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("account_name", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "status IN ('invited', 'received', 'exchanging', 'exchanged', 'completed', 'refused', 'replaced', 'expired')",
            name=op.f("ck_service_consent_sessions_status"),
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["service_connections.id"], name=op.f("fk_service_consent_sessions_connection_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_consent_sessions")),
        sa.UniqueConstraint("link_hash", name=op.f("uq_service_consent_sessions_link_hash")),
        sa.UniqueConstraint("state_hash", name=op.f("uq_service_consent_sessions_state_hash")),
    )
    op.create_index(
        op.f("ix_service_consent_sessions_connection_id_created_at"),
        "service_consent_sessions",
        ["connection_id", "created_at"],
        unique=False,
    )
    op.create_index(
        "ix_service_consent_sessions_unsignalled",
        "service_consent_sessions",
        ["received_at"],
        unique=False,
        postgresql_where=sa.text("status = 'received'"),
    )
    op.create_index(
        "ux_service_consent_sessions_open",
        "service_consent_sessions",
        ["lifecycle_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('invited','received','exchanging','exchanged')"),
    )
    op.create_table(
        "service_credentials",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("connection_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("grants", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("activated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('unchecked', 'candidate', 'active', 'retired')", name=op.f("ck_service_credentials_state")
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["service_connections.id"], name=op.f("fk_service_credentials_connection_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_credentials")),
        sa.UniqueConstraint("connection_id", "version", name=op.f("uq_service_credentials_connection_id_version")),
    )
    op.create_index(op.f("ix_service_credentials_key_id"), "service_credentials", ["key_id"], unique=False)
    op.create_index(
        "ux_service_credentials_active",
        "service_credentials",
        ["connection_id"],
        unique=True,
        postgresql_where=sa.text("state = 'active'"),
    )
    op.create_index("ux_service_credentials_session", "service_credentials", ["session_id"], unique=True)
    op.create_table(
        "service_grant_events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("connection_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("evidence", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("credential_version", sa.Integer(), nullable=True),
        sa.Column("noticed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("handled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lifecycle_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('revoked', 'downgraded', 'requested', 'granted')", name=op.f("ck_service_grant_events_kind")
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["service_connections.id"], name=op.f("fk_service_grant_events_connection_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_grant_events")),
    )
    op.create_index(
        op.f("ix_service_grant_events_connection_id_noticed_at"),
        "service_grant_events",
        ["connection_id", "noticed_at"],
        unique=False,
    )
    op.create_index(
        "ix_service_grant_events_unhandled",
        "service_grant_events",
        ["noticed_at"],
        unique=False,
        postgresql_where=sa.text("handled_at IS NULL"),
    )
    op.create_table(
        "service_operator_tasks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("connection_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("lifecycle_id", sa.Uuid(), nullable=True),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("way_out", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_by", sa.Text(), nullable=True),
        sa.Column("closed_reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "status IN ('open', 'acknowledged', 'closed')", name=op.f("ck_service_operator_tasks_status")
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["service_connections.id"], name=op.f("fk_service_operator_tasks_connection_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_operator_tasks")),
    )
    op.create_index(
        "ux_service_operator_tasks_open",
        "service_operator_tasks",
        ["connection_id", "kind"],
        unique=True,
        postgresql_where=sa.text("status <> 'closed'"),
    )
    op.create_table(
        "service_refresh_leases",
        sa.Column("connection_id", sa.Uuid(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_version", sa.Integer(), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["service_connections.id"], name=op.f("fk_service_refresh_leases_connection_id")
        ),
        sa.PrimaryKeyConstraint("connection_id", name=op.f("pk_service_refresh_leases")),
    )


def downgrade() -> None:
    op.drop_table("service_refresh_leases")
    op.drop_index(
        "ux_service_operator_tasks_open",
        table_name="service_operator_tasks",
        postgresql_where=sa.text("status <> 'closed'"),
    )
    op.drop_table("service_operator_tasks")
    op.drop_index(
        "ix_service_grant_events_unhandled",
        table_name="service_grant_events",
        postgresql_where=sa.text("handled_at IS NULL"),
    )
    op.drop_index(op.f("ix_service_grant_events_connection_id_noticed_at"), table_name="service_grant_events")
    op.drop_table("service_grant_events")
    op.drop_index("ux_service_credentials_session", table_name="service_credentials")
    op.drop_index(
        "ux_service_credentials_active", table_name="service_credentials", postgresql_where=sa.text("state = 'active'")
    )
    op.drop_index(op.f("ix_service_credentials_key_id"), table_name="service_credentials")
    op.drop_table("service_credentials")
    op.drop_index(
        "ux_service_consent_sessions_open",
        table_name="service_consent_sessions",
        postgresql_where=sa.text("status IN ('invited','received','exchanging','exchanged')"),
    )
    op.drop_index(
        "ix_service_consent_sessions_unsignalled",
        table_name="service_consent_sessions",
        postgresql_where=sa.text("status = 'received'"),
    )
    op.drop_index(op.f("ix_service_consent_sessions_connection_id_created_at"), table_name="service_consent_sessions")
    op.drop_table("service_consent_sessions")
    op.drop_index(
        op.f("ix_service_connection_transitions_connection_id_id"), table_name="service_connection_transitions"
    )
    op.drop_table("service_connection_transitions")
    op.drop_index(
        "ix_service_lifecycle_outbox_pending",
        table_name="service_lifecycle_outbox",
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.drop_index(op.f("ix_service_lifecycle_outbox_connection_id_seq"), table_name="service_lifecycle_outbox")
    op.drop_table("service_lifecycle_outbox")
    op.drop_table("service_deployment")
    op.drop_index(
        "ix_service_connections_watched",
        table_name="service_connections",
        postgresql_where=sa.text("status IN ('pending_reauth', 'needs_reconsent') OR lifecycle_id IS NOT NULL"),
    )
    op.drop_index(op.f("ix_service_connections_scope_type_scope_id"), table_name="service_connections")
    op.drop_index(op.f("ix_service_connections_provider_id"), table_name="service_connections")
    op.drop_table("service_connections")
