"""Outages: what was found, what was done, the brakes that are on, and the jobs that are parked."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_OUTAGES = "service_outages"
_NOTES = "service_outage_notes"
_MITIGATIONS = "service_mitigations"
_PARKED = "service_parked_jobs"


def _now(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)


def _then(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=True)


def _text(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=null)


def upgrade() -> None:
    op.create_table(
        _OUTAGES,
        sa.Column("id", sa.Uuid(), nullable=False),
        _text("provider_id"),
        _text("scope"),
        sa.Column("names", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        _text("step"),
        _text("reason"),
        _text("opened_by"),
        _now("opened_at"),
        sa.Column("observed", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        _text("why_not", null=True),
        sa.Column("finding", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("baseline", postgresql.JSONB(), nullable=True),
        _now("seen_at"),
        _text("ended", null=True),
        _then("closed_at"),
        _text("closed_by", null=True),
        _text("closed_reason", null=True),
        sa.CheckConstraint(
            "scope IN ('provider', 'endpoint', 'tenant', 'ours')", name=op.f("ck_service_outages_scope")
        ),
        sa.CheckConstraint(
            "step IN ('scope', 'contain', 'shield', 'hold', 'probe', 'ramp', 'replay', 'validate', 'close')",
            name=op.f("ck_service_outages_step"),
        ),
        sa.CheckConstraint(
            "ended IN ('healed', 'unfounded', 'by_hand', 'passed', 'abandoned')", name=op.f("ck_service_outages_ended")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_outages")),
    )
    op.create_index(
        "ux_service_outages_open", _OUTAGES, ["provider_id"], unique=True, postgresql_where=sa.text("closed_at IS NULL")
    )
    op.create_index(op.f("ix_service_outages_provider_id_opened_at"), _OUTAGES, ["provider_id", "opened_at"])
    op.create_table(
        _NOTES,
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("outage_id", sa.Uuid(), nullable=False),
        _text("key"),
        _now("at"),
        _text("step"),
        _text("what"),
        sa.Column("percent", sa.Integer(), nullable=True),
        sa.Column("rate", sa.Float(), nullable=True),
        sa.Column("facts", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["outage_id"], [f"{_OUTAGES}.id"], name=op.f("fk_service_outage_notes_outage_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_outage_notes")),
    )
    op.create_index("ux_service_outage_notes_key", _NOTES, ["outage_id", "key"], unique=True)
    op.create_table(
        _MITIGATIONS,
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("outage_id", sa.Uuid(), nullable=False),
        _text("provider_id"),
        _text("brake"),
        _text("name"),
        sa.Column("rate", sa.Float(), nullable=True),
        sa.Column("before", sa.Float(), nullable=True),
        sa.Column("before_weight", sa.Float(), nullable=True),
        _text("reason"),
        _text("put_by"),
        _now("put_at"),
        _now("changed_at"),
        _then("admitted_at"),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        _then("released_at"),
        _text("released_by", null=True),
        _text("released_reason", null=True),
        sa.CheckConstraint(
            "brake IN ('queue', 'circuit', 'tenant', 'shield')", name=op.f("ck_service_mitigations_brake")
        ),
        sa.ForeignKeyConstraint(["outage_id"], [f"{_OUTAGES}.id"], name=op.f("fk_service_mitigations_outage_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_mitigations")),
    )
    op.create_index(
        "ux_service_mitigations_on",
        _MITIGATIONS,
        ["provider_id", "brake", "name"],
        unique=True,
        postgresql_where=sa.text("released_at IS NULL"),
    )
    op.create_index(op.f("ix_service_mitigations_outage_id"), _MITIGATIONS, ["outage_id"])
    op.create_table(
        _PARKED,
        _text("workflow_id"),
        _text("run_id"),
        _text("provider_id"),
        sa.Column("connection_id", sa.Uuid(), nullable=False),
        _text("tenant"),
        _text("capability"),
        _text("cause"),
        _now("parked_at"),
        sa.Column("times", sa.Integer(), server_default=sa.text("1"), nullable=False),
        _then("released_at"),
        _text("released_by", null=True),
        _then("settled_at"),
        _text("outcome", null=True),
        sa.PrimaryKeyConstraint("workflow_id", name=op.f("pk_service_parked_jobs")),
    )
    op.create_index(
        "ix_service_parked_jobs_waiting", _PARKED, ["provider_id"], postgresql_where=sa.text("settled_at IS NULL")
    )


def downgrade() -> None:
    for table in (_PARKED, _MITIGATIONS, _NOTES, _OUTAGES):
        op.drop_table(table)
