"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "explanations",
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("index"),
    )
    with op.batch_alter_table("explanations", schema=None) as batch_op:
        batch_op.create_index("explanations_by_expiry", ["expires_at"], unique=False)

    op.create_table(
        "leases",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=255), nullable=False),
        sa.Column("task_id", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=2048), nullable=False),
        sa.Column("resource", sa.String(length=512), nullable=False),
        sa.Column("grants", sa.Text(), nullable=False),
        sa.Column("binding", sa.String(length=16), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("max_expires_at", sa.BigInteger(), nullable=False),
        sa.Column("renewals", sa.Integer(), nullable=False),
        sa.Column("decision_id", sa.String(length=64), nullable=False),
        sa.Column("policies", sa.Text(), nullable=False),
        sa.Column("policy_revision", sa.String(length=64), nullable=False),
        sa.Column("index", sa.BigInteger(), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("leases", schema=None) as batch_op:
        batch_op.create_index("leases_by_holder", ["holder", "index"], unique=False)
        batch_op.create_index("leases_by_resource", ["resource", "index"], unique=False)
        batch_op.create_index("leases_by_task", ["task_id", "index"], unique=False)
        batch_op.create_index("leases_by_tenant", ["tenant", "index"], unique=False)
        batch_op.create_index(
            "leases_closed",
            ["expires_at"],
            unique=False,
            sqlite_where=sa.text("closed"),
            postgresql_where=sa.text("closed"),
        )
        batch_op.create_index(
            "leases_due",
            ["expires_at"],
            unique=False,
            sqlite_where=sa.text("NOT closed"),
            postgresql_where=sa.text("NOT closed"),
        )

    op.create_table(
        "ledger_entries",
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tenant", sa.String(length=255), nullable=False),
        sa.Column("task_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("index"),
    )
    with op.batch_alter_table("ledger_entries", schema=None) as batch_op:
        batch_op.create_index("ledger_entries_by_task", ["task_id", "index"], unique=False)
        batch_op.create_index("ledger_entries_by_tenant", ["tenant", "index"], unique=False)

    op.create_table(
        "ledger_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("origin", sa.String(length=255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("peaks", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "ledger_nodes",
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("index", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "index"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "locks",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=255), nullable=False),
        sa.Column("target", sa.String(length=16), nullable=False),
        sa.Column("value", sa.String(length=2700), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_by", sa.String(length=2048), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("index", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "quotas",
        sa.Column("tenant", sa.String(length=255), nullable=False),
        sa.Column("window", sa.BigInteger(), nullable=False),
        sa.Column("leases_issued", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant"),
    )
    op.create_table(
        "requests",
        sa.Column("principal", sa.String(length=2048), nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("result", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("principal", "request_id"),
    )
    with op.batch_alter_table("requests", schema=None) as batch_op:
        batch_op.create_index("requests_by_expiry", ["expires_at"], unique=False)

    op.create_table(
        "rules",
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tenant", sa.String(length=255), nullable=False),
        sa.Column("target", sa.String(length=16), nullable=False),
        sa.Column("value", sa.String(length=2700), nullable=False),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("relevant_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("index"),
    )
    with op.batch_alter_table("rules", schema=None) as batch_op:
        batch_op.create_index("rules_by_relevance", ["relevant_until", "index"], unique=False)
        batch_op.create_index("rules_by_selector", ["target", "value", "tenant", "index"], unique=False)

    op.create_table(
        "tasks",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=255), nullable=False),
        sa.Column("owner", sa.String(length=256), nullable=False),
        sa.Column("purpose", sa.String(length=64), nullable=False),
        sa.Column("environment", sa.String(length=16), nullable=False),
        sa.Column("agents", sa.Text(), nullable=False),
        sa.Column("tools", sa.Text(), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.Column("risk_threshold", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=2048), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("index", sa.BigInteger(), nullable=False),
        sa.Column("leases_issued", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.create_index("tasks_by_state", ["tenant", "state", "index"], unique=False)
        batch_op.create_index("tasks_by_tenant", ["tenant", "index"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.drop_index("tasks_by_tenant")
        batch_op.drop_index("tasks_by_state")

    op.drop_table("tasks")
    with op.batch_alter_table("rules", schema=None) as batch_op:
        batch_op.drop_index("rules_by_selector")
        batch_op.drop_index("rules_by_relevance")

    op.drop_table("rules")
    with op.batch_alter_table("requests", schema=None) as batch_op:
        batch_op.drop_index("requests_by_expiry")

    op.drop_table("requests")
    op.drop_table("quotas")
    op.drop_table("locks")
    op.drop_table("ledger_nodes")
    op.drop_table("ledger_head")
    with op.batch_alter_table("ledger_entries", schema=None) as batch_op:
        batch_op.drop_index("ledger_entries_by_tenant")
        batch_op.drop_index("ledger_entries_by_task")

    op.drop_table("ledger_entries")
    with op.batch_alter_table("leases", schema=None) as batch_op:
        batch_op.drop_index("leases_due", sqlite_where=sa.text("NOT closed"), postgresql_where=sa.text("NOT closed"))
        batch_op.drop_index("leases_closed", sqlite_where=sa.text("closed"), postgresql_where=sa.text("closed"))
        batch_op.drop_index("leases_by_tenant")
        batch_op.drop_index("leases_by_task")
        batch_op.drop_index("leases_by_resource")
        batch_op.drop_index("leases_by_holder")

    op.drop_table("leases")
    with op.batch_alter_table("explanations", schema=None) as batch_op:
        batch_op.drop_index("explanations_by_expiry")

    op.drop_table("explanations")
