"""Re-consent's endings: a state for each press of the button, owners' quiet hours, and what `why` shows."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_SESSIONS, _STATES = "service_consent_sessions", "service_consent_states"
_NOW = sa.text("now()")


def upgrade() -> None:
    for column in ("workflow_id", "run_id"):
        op.add_column("service_connection_transitions", sa.Column(column, sa.Text(), nullable=True))
    announced = sa.Column("announced_at", sa.DateTime(timezone=True), nullable=True)
    op.add_column("service_grant_events", announced)
    op.add_column(_SESSIONS, sa.Column("evidence", postgresql.JSONB(), server_default="{}", nullable=False))
    op.create_table(
        "service_contacts",
        sa.Column("scope_type", sa.Text(), nullable=False),
        sa.Column("scope_id", sa.Text(), nullable=False),
        sa.Column("zone", sa.Text(), nullable=False),
        sa.Column("quiet_starts", sa.SmallInteger(), nullable=False),
        sa.Column("quiet_ends", sa.SmallInteger(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.CheckConstraint("scope_type IN ('user', 'org')", name=op.f("ck_service_contacts_scope_type")),
        sa.PrimaryKeyConstraint("scope_type", "scope_id", name=op.f("pk_service_contacts")),
    )
    op.create_table(
        _STATES,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("state_hash", sa.LargeBinary(), nullable=False),
        sa.Column("browser_hash", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_verifier", sa.LargeBinary(), nullable=True),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("minted_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.ForeignKeyConstraint(["session_id"], [f"{_SESSIONS}.id"], name=op.f("fk_service_consent_states_session_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_consent_states")),
        sa.UniqueConstraint("state_hash", name=op.f("uq_service_consent_states_state_hash")),
    )
    for column in ("session_id", "key_id"):
        op.create_index(op.f(f"ix_{_STATES}_{column}"), _STATES, [column])
    # Owners who are at the provider at this moment come back to find their state.
    op.execute(
        "INSERT INTO service_consent_states "
        "(id, session_id, state_hash, browser_hash, sealed_verifier, key_id, minted_at) "
        "SELECT gen_random_uuid(), id, state_hash, browser_hash, "
        "CASE WHEN status = 'invited' THEN sealed_verifier END, key_id, minted_at "
        "FROM service_consent_sessions "
        "WHERE state_hash IS NOT NULL AND browser_hash IS NOT NULL AND key_id IS NOT NULL"
    )
    op.execute("UPDATE service_consent_sessions SET sealed_verifier = NULL WHERE status = 'invited'")
    for column in ("state_hash", "browser_hash", "minted_at"):
        op.drop_column(_SESSIONS, column)


def downgrade() -> None:
    for column in ("state_hash", "browser_hash"):
        op.add_column(_SESSIONS, sa.Column(column, sa.LargeBinary(), nullable=True))
    op.add_column(_SESSIONS, sa.Column("minted_at", sa.DateTime(timezone=True), nullable=True))
    # There is room for one press: the last.
    op.execute(
        "UPDATE service_consent_sessions s SET state_hash = p.state_hash, browser_hash = p.browser_hash, "
        "minted_at = p.minted_at, "
        "sealed_verifier = CASE WHEN s.status = 'invited' THEN p.sealed_verifier ELSE s.sealed_verifier END, "
        "key_id = CASE WHEN s.status = 'invited' THEN p.key_id ELSE s.key_id END "
        "FROM (SELECT DISTINCT ON (session_id) * FROM service_consent_states ORDER BY session_id, minted_at DESC) p "
        "WHERE p.session_id = s.id"
    )
    op.create_unique_constraint(op.f(f"uq_{_SESSIONS}_state_hash"), _SESSIONS, ["state_hash"])
    op.drop_table(_STATES)
    op.drop_table("service_contacts")
    op.drop_column(_SESSIONS, "evidence")
    op.drop_column("service_grant_events", "announced_at")
    for column in ("workflow_id", "run_id"):
        op.drop_column("service_connection_transitions", column)
