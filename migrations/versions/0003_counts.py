"""Count tasks by deadline, and leases in each minute by itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.create_index("tasks_by_deadline", ["tenant", "state", "deadline"], unique=False)
    # What is counted in one minute is nothing in the next: there is nothing to take over.
    op.drop_table("quotas")
    op.create_table(
        "quotas",
        sa.Column("tenant", sa.String(length=255), nullable=False),
        sa.Column("window", sa.BigInteger(), nullable=False),
        sa.Column("leases_issued", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "window"),
    )
    with op.batch_alter_table("quotas", schema=None) as batch_op:
        batch_op.create_index("quotas_by_window", ["window"], unique=False)


def downgrade() -> None:
    op.drop_table("quotas")
    op.create_table(
        "quotas",
        sa.Column("tenant", sa.String(length=255), nullable=False),
        sa.Column("window", sa.BigInteger(), nullable=False),
        sa.Column("leases_issued", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant"),
    )
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.drop_index("tasks_by_deadline")
