"""Bind leases to keys, and find tasks by their agents."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_PAGE = 1_000


def upgrade() -> None:
    with op.batch_alter_table("leases", schema=None) as batch_op:
        batch_op.add_column(sa.Column("confirmation", sa.String(length=64), server_default="", nullable=False))
    with op.batch_alter_table("leases", schema=None) as batch_op:
        batch_op.alter_column("confirmation", server_default=None)
    agents = op.create_table(
        "task_agents",
        sa.Column("task_id", sa.String(length=64), nullable=False),
        sa.Column("agent", sa.String(length=2048), nullable=False),
        sa.Column("tenant", sa.String(length=255), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "agent"),
    )
    with op.batch_alter_table("task_agents", schema=None) as batch_op:
        batch_op.create_index("task_agents_by_agent", ["agent", "tenant", "deadline"], unique=False)
        batch_op.create_index("task_agents_by_deadline", ["deadline"], unique=False)
    _find_agents(agents)


def _find_agents(agents: sa.Table) -> None:
    """List the agents of the tasks that have not ended."""
    tasks = sa.table("tasks", *(sa.column(name) for name in ("id", "agents", "tenant", "deadline", "state", "index")))
    connection, last = op.get_bind(), -1
    while True:
        query = sa.select(tasks).where(tasks.c.state == "active", tasks.c["index"] > last)
        found = connection.execute(query.order_by(tasks.c["index"]).limit(_PAGE)).mappings().all()
        rows = [
            {"task_id": task["id"], "agent": agent, "tenant": task["tenant"], "deadline": task["deadline"]}
            for task in found
            for agent in json.loads(task["agents"])
        ]
        if rows:
            connection.execute(agents.insert(), rows)
        if len(found) < _PAGE:
            return
        last = found[-1]["index"]


def downgrade() -> None:
    op.drop_table("task_agents")
    with op.batch_alter_table("leases", schema=None) as batch_op:
        batch_op.drop_column("confirmation")
