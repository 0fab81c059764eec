"""The tables. `migrations/` makes them; a test holds the two against each other.

Instants are microseconds since the Unix epoch. No column ever holds a token, a private key or a downstream secret.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData()

ledger_head = Table(
    "ledger_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1: the row that writers queue behind
    Column("origin", String(255), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("next_index", BigInteger, nullable=False),  # of the next entry; the size, unless a ledger was adopted
    Column("peaks", LargeBinary, nullable=False),  # roots of the perfect subtrees, largest first
    Column("note", Text, nullable=False),  # the signed checkpoint of this size
    Column("committed_index", BigInteger),  # of the newest entry that commits to what is in force
)

ledger_origins = Table(
    "ledger_origins",  # the names that the ledger has had: entry `first_index` is leaf `first_leaf` of the tree
    metadata,
    Column("first_leaf", BigInteger, primary_key=True, autoincrement=False),
    Column("first_index", BigInteger, nullable=False),
    Column("origin", String(255), nullable=False),
)

ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("tenant", String(255), nullable=False),
    Column("task_id", String(64), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("body", LargeBinary, nullable=False),  # canonical JSON, exactly as hashed
    Column("leaf_hash", LargeBinary, nullable=False),
    Index("ledger_entries_by_tenant", "tenant", "index"),
    Index("ledger_entries_by_task", "task_id", "index"),
)

ledger_nodes = Table(
    "ledger_nodes",
    metadata,
    Column("level", Integer, nullable=False),  # from 1: the leaves are with the entries
    Column("index", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("level", "index"),
    sqlite_with_rowid=False,
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(255), nullable=False),
    Column("owner", String(256), nullable=False),
    Column("purpose", String(64), nullable=False),
    Column("environment", String(16), nullable=False),
    Column("agents", Text, nullable=False),  # JSON: a list of SPIFFE IDs
    Column("tools", Text, nullable=False),  # JSON: resources, tools and constraints
    Column("deadline", BigInteger, nullable=False),
    Column("risk_threshold", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", String(2048), nullable=False),
    Column("ended_at", BigInteger),
    Column("index", BigInteger, nullable=False),
    Column("leases_issued", BigInteger, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("changed_index", BigInteger),  # of the last entry that changed it
    Index("tasks_by_tenant", "tenant", "index"),
    Index("tasks_by_state", "tenant", "state", "index"),
    Index("tasks_by_deadline", "tenant", "state", "deadline"),
)

task_agents = Table(
    "task_agents",  # the agents of tasks that have not ended, to find a task by its agent
    metadata,
    Column("task_id", String(64), nullable=False),
    Column("agent", String(2048), nullable=False),
    Column("tenant", String(255), nullable=False),
    Column("deadline", BigInteger, nullable=False),
    PrimaryKeyConstraint("task_id", "agent"),
    Index("task_agents_by_agent", "agent", "tenant", "deadline"),
    Index("task_agents_by_deadline", "deadline"),
)

leases = Table(
    "leases",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(255), nullable=False),
    Column("task_id", String(64), nullable=False),
    Column("holder", String(2048), nullable=False),
    Column("resource", String(512), nullable=False),
    Column("grants", Text, nullable=False),  # JSON: tools and constraints
    Column("binding", String(16), nullable=False),
    Column("confirmation", String(64), nullable=False),  # a thumbprint, where the binding is to a key
    Column("issued_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("max_expires_at", BigInteger, nullable=False),
    Column("renewals", Integer, nullable=False),
    Column("decision_id", String(64), nullable=False),
    Column("policies", Text, nullable=False),  # JSON: a list of policy ids
    Column("policy_revision", String(64), nullable=False),
    Column("index", BigInteger, nullable=False),
    Column("closed", Boolean, nullable=False),  # its end is recorded; it was dead before that
    Column("changed_index", BigInteger),  # of the entry of its last renewal
    Index("leases_by_tenant", "tenant", "index"),
    Index("leases_by_task", "task_id", "index"),
    Index("leases_by_holder", "holder", "index"),
    Index("leases_by_resource", "resource", "index"),
    Index("leases_due", "expires_at", sqlite_where=text("NOT closed"), postgresql_where=text("NOT closed")),
    Index("leases_closed", "expires_at", sqlite_where=text("closed"), postgresql_where=text("closed")),
)

rules = Table(
    "rules",
    metadata,
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("tenant", String(255), nullable=False),
    Column("target", String(16), nullable=False),
    Column("value", String(2700), nullable=False),
    Column("cause", String(16), nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    Column("relevant_until", BigInteger, nullable=False),
    Column("task_deadline", BigInteger),  # of the task that it ends
    Column("kept_until", BigInteger, nullable=False),  # the later of the two
    Index("rules_by_selector", "target", "value", "tenant", "index"),
    Index("rules_kept", "kept_until", "index"),
)

locks = Table(
    "locks",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(255), nullable=False),
    Column("target", String(16), nullable=False),
    Column("value", String(2700), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_by", String(2048), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("index", BigInteger, nullable=False),
    Column("lifted_index", BigInteger),  # of the entry that lifts it
)

requests = Table(
    "requests",
    metadata,
    Column("principal", String(2048), nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("digest", LargeBinary, nullable=False),  # of what was asked: a version, and a SHA-256
    Column("result", String(64), nullable=False),  # the id of what was made
    Column("expires_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("principal", "request_id"),
    Index("requests_by_expiry", "expires_at"),
)

quotas = Table(
    "quotas",
    metadata,
    Column("tenant", String(255), nullable=False),
    Column("window", BigInteger, nullable=False),  # the minute, since the Unix epoch, by the clock of who issued
    Column("leases_issued", BigInteger, nullable=False),  # in that minute
    PrimaryKeyConstraint("tenant", "window"),
    Index("quotas_by_window", "window"),
)

explanations = Table(
    "explanations",
    metadata,
    Column("index", BigInteger, primary_key=True, autoincrement=False),  # of the entry that commits to it
    Column("salt", LargeBinary, nullable=False),
    Column("text", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("explanations_by_expiry", "expires_at"),
)

_PENDING = text("done_at IS NULL AND given_up_at IS NULL")

effects = Table(
    "effects",  # outside the database: see docs/decisions/0013
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(64), nullable=False),  # who can do it
    Column("payload", Text, nullable=False),  # JSON, without secrets: what is to be done
    Column("due_at", BigInteger, nullable=False),  # when the next try may begin
    Column("tried", Integer, nullable=False),  # tries begun
    Column("last_problem", Text),  # of the last try that failed
    Column("done_at", BigInteger),
    Column("given_up_at", BigInteger),
    Index("effects_due", "kind", "due_at", sqlite_where=_PENDING, postgresql_where=_PENDING),
    Index("effects_by_done", "done_at"),
    Index("effects_by_given_up", "given_up_at"),
)

register_metadata = MetaData()
"""The register of the brokers on a database: in PostgreSQL beside the others, with SQLite in a file of its own."""

brokers = Table(
    "brokers",  # one row for each life of a broker
    register_metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False),  # where it listens, for people
    Column("version", String(64), nullable=False),
    Column("beat", BigInteger, nullable=False),  # counts its writes here
    Column("asked", Text, nullable=False),  # JSON: the newest rule on which it holds a barrier, by tenant
    Column("answers", Text, nullable=False),  # JSON: how far the barriers of others are closed here, by tenant
)

verifier_sessions = Table(
    "verifier_sessions",  # the verifiers that a broker may keep fresh
    register_metadata,
    Column("id", String(64), primary_key=True),
    Column("broker", String(64), primary_key=True),  # a life may have put on record what was not heard of any more
    Column("secret_hash", LargeBinary, nullable=False),  # SHA-256 of what the verifier shows when it comes again
    Column("verifier", String(2048), nullable=False),
    Column("tenant", String(255), nullable=False),
    Index("verifier_sessions_by_broker", "broker", "tenant"),
    Index("verifier_sessions_by_secret", "secret_hash"),
)
