"""Webhooks: channels and their secrets, deliveries, their repeats, and what was refused."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_CHANNELS = "service_webhook_channels"
_SECRETS = "service_webhook_secrets"
_DELIVERIES = "service_webhook_deliveries"
_REPEATS = "service_webhook_repeats"
_REFUSALS = "service_webhook_refusals"


def _now(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)


def _then(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=True)


def _text(name: str, *, null: bool = False, default: str | None = None) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=null, server_default=default)


def _number(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.SmallInteger(), nullable=False, server_default="0")


def upgrade() -> None:
    op.create_table(
        _CHANNELS,
        _text("provider_id"),
        _text("channel"),
        sa.Column("connection_id", sa.Uuid(), nullable=True),
        _text("made_by"),
        _text("reason"),
        _now("made_at"),
        _text("tested_hash", null=True),
        _then("tested_at"),
        sa.Column("tested", postgresql.JSONB(), nullable=True),
        _then("closed_at"),
        _text("closed_by", null=True),
        _text("closed_reason", null=True),
        sa.PrimaryKeyConstraint("provider_id", "channel", name=op.f("pk_service_webhook_channels")),
    )
    op.create_table(
        _SECRETS,
        sa.Column("id", sa.Uuid(), nullable=False),
        _text("provider_id"),
        _text("channel"),
        sa.Column("version", sa.Integer(), nullable=False),
        _text("state", default="live"),
        _text("key_id"),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        _text("made_by"),
        _text("reason"),
        _now("made_at"),
        _then("ends_at"),
        sa.CheckConstraint("state IN ('live', 'retired')", name=op.f("ck_service_webhook_secrets_state")),
        sa.CheckConstraint(
            "state = 'retired' OR sealed IS NOT NULL", name=op.f("ck_service_webhook_secrets_live_is_sealed")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_webhook_secrets")),
    )
    op.create_index(
        op.f("ix_service_webhook_secrets_provider_id_channel_version"),
        _SECRETS,
        ["provider_id", "channel", "version"],
        unique=True,
    )
    op.create_table(
        _DELIVERIES,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        _text("provider_id"),
        _text("channel"),
        _text("delivery_id"),
        _text("identity"),
        _text("event", default=""),
        _text("reaction"),
        _text("resource", default=""),
        _text("account", default=""),
        sa.Column("notices", postgresql.JSONB(), nullable=True),
        sa.Column("headers", postgresql.JSONB(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("part", sa.SmallInteger(), nullable=False),
        _text("status", default="pending"),
        _now("received_at"),
        _then("sent_at"),
        _then("occurred_at"),
        _now("due_at"),
        _text("waits", null=True),
        _then("settled_at"),
        _text("handled_as", null=True),
        sa.Column("folded_into", sa.Uuid(), nullable=True),
        _number("woken"),
        _number("attempts"),
        _text("cause", null=True),
        _text("fingerprint", null=True),
        _text("error", null=True),
        _then("failed_at"),
        _then("lease_until"),
        sa.Column("history", postgresql.JSONB(), nullable=True),
        sa.CheckConstraint(
            "status IN ('pending', 'retrying', 'delivered', 'coalesced', 'dead')",
            name=op.f("ck_service_webhook_deliveries_status"),
        ),
        sa.CheckConstraint("identity IN ('id', 'digest')", name=op.f("ck_service_webhook_deliveries_identity")),
        sa.CheckConstraint(
            "reaction IN ('revoked', 'uninstalled', 'reauthorize', 'missed', 'self test', 'event')",
            name=op.f("ck_service_webhook_deliveries_reaction"),
        ),
        sa.CheckConstraint(
            "(status = 'coalesced') = (folded_into IS NOT NULL)", name=op.f("ck_service_webhook_deliveries_folded")
        ),
        sa.CheckConstraint(
            "status <> 'dead' OR cause IS NOT NULL", name=op.f("ck_service_webhook_deliveries_dead_has_a_cause")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_webhook_deliveries")),
    )
    op.create_index(
        "ux_service_webhook_deliveries_delivery", _DELIVERIES, ["provider_id", "channel", "delivery_id"], unique=True
    )
    _partial("pending", ["part", "due_at"], "status = 'pending'")
    _partial(
        "waiting",
        ["provider_id", "channel", "resource", "account", "position"],
        "status IN ('pending', 'retrying', 'dead') AND resource <> ''",
    )
    _partial(
        "handled",
        ["provider_id", "channel", "resource", "account", "position"],
        "status = 'delivered' AND resource <> ''",
    )
    _partial("retrying", ["lease_until"], "status = 'retrying'")
    _partial("dead", ["fingerprint", "position"], "status = 'dead'")
    op.create_table(
        _REPEATS,
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        _text("provider_id"),
        _text("channel"),
        _text("delivery_id"),
        _now("at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_webhook_repeats")),
    )
    op.create_index(op.f("ix_service_webhook_repeats_at"), _REPEATS, ["at"], unique=False)
    op.create_index(
        "ix_service_webhook_repeats_delivery",
        _REPEATS,
        ["provider_id", "channel", "delivery_id", "at"],
        unique=False,
    )
    op.create_table(
        _REFUSALS,
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        _text("provider_id"),
        _text("channel"),
        _text("reason"),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hour", "provider_id", "channel", "reason", name=op.f("pk_service_webhook_refusals")),
    )

    # Whose a delivery is, by the account that it names.
    op.create_index(
        "ix_service_connections_account",
        "service_connections",
        ["provider_id", "account_id"],
        unique=False,
        postgresql_where=sa.text("account_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_service_connections_account", "service_connections")
    for table in (_REFUSALS, _REPEATS, _DELIVERIES, _SECRETS, _CHANNELS):
        op.drop_table(table)


def _partial(name: str, columns: list[str], where: str) -> None:
    op.create_index(
        f"ix_service_webhook_deliveries_{name}",
        _DELIVERIES,
        columns,
        unique=False,
        postgresql_where=sa.text(where),
    )
