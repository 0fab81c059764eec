"""The register of brokers that share a database, and of their verifiers. That of a SQLite file is kept beside it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_OF_THE_VERSION_BEFORE = """
    INSERT INTO brokers (id, name, version, beat, asked, answers)
    SELECT 'unregistered', '', '', 0, '{}', '{}' WHERE EXISTS (SELECT 1 FROM ledger_head)
"""


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    op.create_table(
        "brokers",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.Column("asked", sa.Text(), nullable=False),
        sa.Column("answers", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "verifier_sessions",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("broker", sa.String(length=64), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("verifier", sa.String(length=2048), nullable=False),
        sa.Column("tenant", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("id", "broker"),
    )
    op.create_index("verifier_sessions_by_broker", "verifier_sessions", ["broker", "tenant"])
    op.create_index("verifier_sessions_by_secret", "verifier_sessions", ["secret_hash"])
    # Brokers that run now register nowhere: as long as one of them may live, barriers wait a whole window.
    op.execute(_OF_THE_VERSION_BEFORE)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_table("verifier_sessions")
        op.drop_table("brokers")
