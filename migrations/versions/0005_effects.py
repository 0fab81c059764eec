"""Effects outside the database, as rows: what is due, tried, done or given up."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_PENDING = sa.text("done_at IS NULL AND given_up_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "effects",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("tried", sa.Integer(), nullable=False),
        sa.Column("last_problem", sa.Text(), nullable=True),
        sa.Column("done_at", sa.BigInteger(), nullable=True),
        sa.Column("given_up_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("effects_due", "effects", ["kind", "due_at"], sqlite_where=_PENDING, postgresql_where=_PENDING)
    op.create_index("effects_by_done", "effects", ["done_at"])
    op.create_index("effects_by_given_up", "effects", ["given_up_at"])


def downgrade() -> None:
    op.drop_table("effects")
