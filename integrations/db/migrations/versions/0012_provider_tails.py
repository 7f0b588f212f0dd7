"""The failing calls that a provider's calls end in, so that one is seen down that is called each five minutes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_TAILS = "service_provider_tails"


def upgrade() -> None:
    op.create_table(
        _TAILS,
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failing_at", postgresql.ARRAY(postgresql.TIMESTAMP(timezone=True)), nullable=False),
        sa.PrimaryKeyConstraint("provider_id", name=op.f("pk_service_provider_tails")),
    )


def downgrade() -> None:
    op.drop_table(_TAILS)
