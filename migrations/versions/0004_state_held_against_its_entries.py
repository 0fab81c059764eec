"""State that is held against its entries: where each row was changed last, what is kept until when, and past origins.

What the new columns say of older rows follows from the entries: the broker derives it when it first starts. Request ids
were kept as they came, and are hashes now, so that what is asked again is found again.
"""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_HASH_SIZE = 64
_BATCH = 10_000
_IN_CLEAR = sa.text(
    "SELECT principal, request_id FROM requests WHERE length(request_id) <> :size AND principal <> 'once' LIMIT :batch"
)
_HASHED = sa.text("UPDATE requests SET request_id = :hashed WHERE principal = :principal AND request_id = :request_id")


def upgrade() -> None:
    op.create_table(
        "ledger_origins",
        sa.Column("first_leaf", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("first_index", sa.BigInteger(), nullable=False),
        sa.Column("origin", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("first_leaf"),
    )
    op.execute("INSERT INTO ledger_origins SELECT 0, 0, origin FROM ledger_head")
    with op.batch_alter_table("ledger_head", schema=None) as batch_op:
        batch_op.add_column(sa.Column("next_index", sa.BigInteger(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("committed_index", sa.BigInteger(), nullable=True))
    op.execute("UPDATE ledger_head SET next_index = size")
    with op.batch_alter_table("ledger_head", schema=None) as batch_op:
        batch_op.alter_column("next_index", existing_type=sa.BigInteger(), server_default=None)
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.add_column(sa.Column("changed_index", sa.BigInteger(), nullable=True))
    with op.batch_alter_table("leases", schema=None) as batch_op:
        batch_op.add_column(sa.Column("changed_index", sa.BigInteger(), nullable=True))
    with op.batch_alter_table("locks", schema=None) as batch_op:
        batch_op.add_column(sa.Column("lifted_index", sa.BigInteger(), nullable=True))
    with op.batch_alter_table("rules", schema=None) as batch_op:
        batch_op.add_column(sa.Column("task_deadline", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("kept_until", sa.BigInteger(), nullable=False, server_default="0"))
        batch_op.drop_index("rules_by_relevance")
        batch_op.create_index("rules_kept", ["kept_until", "index"], unique=False)
    op.execute("UPDATE rules SET kept_until = relevant_until")
    with op.batch_alter_table("rules", schema=None) as batch_op:
        batch_op.alter_column("kept_until", existing_type=sa.BigInteger(), server_default=None)
    _hash_request_ids(op.get_bind())


def _hash_request_ids(connection: sa.Connection) -> None:
    while rows := connection.execute(_IN_CLEAR, {"size": _HASH_SIZE, "batch": _BATCH}).all():
        hashed = [
            {
                "principal": principal,
                "request_id": request_id,
                "hashed": hashlib.sha256(request_id.encode()).hexdigest(),
            }
            for principal, request_id in rows
        ]
        connection.execute(_HASHED, hashed)


def downgrade() -> None:
    with op.batch_alter_table("rules", schema=None) as batch_op:
        batch_op.drop_index("rules_kept")
        batch_op.create_index("rules_by_relevance", ["relevant_until", "index"], unique=False)
        batch_op.drop_column("kept_until")
        batch_op.drop_column("task_deadline")
    with op.batch_alter_table("locks", schema=None) as batch_op:
        batch_op.drop_column("lifted_index")
    with op.batch_alter_table("leases", schema=None) as batch_op:
        batch_op.drop_column("changed_index")
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.drop_column("changed_index")
    with op.batch_alter_table("ledger_head", schema=None) as batch_op:
        batch_op.drop_column("committed_index")
        batch_op.drop_column("next_index")
    op.drop_table("ledger_origins")
