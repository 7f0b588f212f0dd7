"""When each credential is due, so that a sweep finds what it has to refresh by one index."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_CREDENTIALS = "service_credentials"
# Spread over a day: an upgrade must not refresh everything that there is in its first minute.
_FIRST = """
UPDATE service_credentials AS kept SET
  provider_id = connection.provider_id,
  refresh_at = CASE WHEN kept.state <> 'active' THEN NULL
    WHEN kept.expires_at < now() + interval '15 min' THEN now() + random() * interval '1 h'
    ELSE least(kept.expires_at - interval '15 min', now() + random() * interval '24 h') END
FROM service_connections AS connection WHERE connection.id = kept.connection_id
"""


def upgrade() -> None:
    op.add_column(_CREDENTIALS, sa.Column("provider_id", sa.Text(), nullable=True))
    op.add_column(_CREDENTIALS, sa.Column("refresh_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(_CREDENTIALS, sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True))
    op.execute(_FIRST)
    op.create_check_constraint(
        op.f("ck_service_credentials_due_somewhere"), _CREDENTIALS, "refresh_at IS NULL OR provider_id IS NOT NULL"
    )
    op.create_index(
        "ix_service_connections_unfetched",
        "service_connections",
        ["created_at"],
        postgresql_where=sa.text("status = 'errored' AND status_reason = 'its first token was not fetched yet'"),
    )
    op.create_index(
        "ix_service_credentials_due",
        _CREDENTIALS,
        ["provider_id", "refresh_at"],
        postgresql_where=sa.text("state = 'active' AND refresh_at IS NOT NULL"),
    )
    op.create_index(
        "ix_service_credentials_failing",
        _CREDENTIALS,
        ["failing_since"],
        postgresql_where=sa.text("state = 'active' AND failing_since IS NOT NULL"),
    )
    op.create_index(
        "ix_service_credentials_retired",
        _CREDENTIALS,
        ["retired_at"],
        postgresql_where=sa.text("state = 'retired'"),
    )


def downgrade() -> None:
    op.drop_index("ix_service_connections_unfetched", "service_connections")
    op.drop_index("ix_service_credentials_retired", _CREDENTIALS)
    op.drop_index("ix_service_credentials_failing", _CREDENTIALS)
    op.drop_column(_CREDENTIALS, "failing_since")
    op.drop_index("ix_service_credentials_due", _CREDENTIALS)
    op.drop_constraint(op.f("ck_service_credentials_due_somewhere"), _CREDENTIALS)
    op.drop_column(_CREDENTIALS, "refresh_at")
    op.drop_column(_CREDENTIALS, "provider_id")
