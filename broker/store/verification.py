"""Verify a ledger where it lies: recompute everything from the entries, trusting nothing but one public key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import Connection

from broker.audit.note import VerifierKey
from broker.audit.proof import NodeId
from broker.audit.replay import Finding, Replay
from broker.store import ledger
from broker.store.database import open_database
from broker.store.ledger import StoredEntry
from broker.store.opening import named_key

_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. `trusted` tells whether the key was given, or only taken from the ledger itself."""

    size: int
    findings: Sequence[Finding]
    vkey: str
    trusted: bool

    @property
    def ok(self) -> bool:
        """Tell whether everything is as it was signed."""
        return not self.findings


def verify(url: str, vkey: str | None = None, progress: Callable[[int, int], None] | None = None) -> Report:
    """Recompute a ledger. `progress` is told how many entries of how many are done.

    Raises:
        InvalidNote: the verifier key is malformed.
        ValueError: the database holds no ledger.
    """
    database = open_database(url)
    try:
        with database.snapshot() as connection:
            return _verify(connection, vkey, progress)
    finally:
        database.close()


def _verify(connection: Connection, vkey: str | None, progress: Callable[[int, int], None] | None) -> Report:
    head = ledger.head(connection)
    if head is None:
        raise ValueError("the database holds no ledger")
    replay, done = Replay(), 0
    entries = ledger.entries(connection)
    while batch := list(islice(entries, _BATCH)):
        completed = [node for entry in batch for node in replay.entry(entry.index, entry.body, entry.leaf_hash)]
        stored = ledger.fetch_nodes(connection, [NodeId(node.level, node.index) for node in completed])
        replay.nodes(completed, stored)
        replay.findings.extend(_misfiled(batch))
        done += len(batch)
        if progress is not None:
            progress(done, head.frontier.size)
    key = VerifierKey.parse(vkey) if vkey else named_key(connection)
    if key is None:
        findings = [*replay.findings, Finding(0, "entry 0 does not name the ledger's key")]
        return Report(done, findings, "", trusted=False)
    replay.head(head.frontier.size, head.frontier.root(), head.note, key)
    return Report(done, replay.findings, str(key), trusted=vkey is not None)


def _misfiled(batch: Sequence[StoredEntry]) -> Iterator[Finding]:
    """Hold the columns by which entries are found against the entries themselves."""
    for entry in batch:
        try:
            body = json.loads(entry.body)
            filed = (body["tenant"], body["task_id"], body["kind"])
        except (ValueError, KeyError, TypeError):
            continue  # altered, which the hash has told already
        if filed != (entry.tenant, entry.task_id, entry.kind):
            yield Finding(entry.index, f"entry {entry.index} is filed under another tenant, task or kind than its own")
