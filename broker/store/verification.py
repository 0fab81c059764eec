"""Verify a ledger where it lies: recompute everything from the entries, trusting nothing but one public key.

SQLite keeps in a cell whatever it is given: a number where a text belongs, a text that is not UTF-8, an index that is
none. Each is a finding like any other alteration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from broker.audit.note import VerifierKey
from broker.audit.proof import NodeId
from broker.audit.replay import Finding, Replay
from broker.store import ledger
from broker.store.database import open_database
from broker.store.ledger import Head, MalformedHead, StoredEntry
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
    ledger.forgive_texts(connection)
    replay, done = Replay(), 0
    head = _head(connection, replay.findings)
    for batch in _batches(connection, replay.findings):
        completed = [node for entry in batch for node in replay.entry(entry.index, entry.body, entry.leaf_hash)]
        stored = ledger.fetch_nodes(connection, [NodeId(node.level, node.index) for node in completed])
        replay.nodes(completed, stored)
        replay.findings.extend(_misfiled(batch))
        done += len(batch)
        if progress is not None:
            progress(done, done if head is None else head.frontier.size)
    key = VerifierKey.parse(vkey) if vkey else named_key(connection)
    if key is None:
        findings = [*replay.findings, Finding(0, "entry 0 does not name the ledger's key")]
        return Report(done, findings, "", trusted=False)
    if head is not None:
        signed = replay.head(head.frontier.size, head.frontier.root(), head.note, key)
        if signed is not None and signed.origin != head.origin:
            replay.findings.append(Finding(None, "the ledger's head names another origin than the one that was signed"))
    return Report(done, replay.findings, str(key), trusted=vkey is not None)


def _head(connection: Connection, findings: list[Finding]) -> Head | None:
    """Read the head; None, and a finding, if it is none.

    Raises:
        ValueError: there is none, so this is no ledger.
    """
    try:
        head = ledger.head(connection)
    except MalformedHead as error:
        findings.append(Finding(None, str(error)))
        return None
    if head is None:
        raise ValueError("the database holds no ledger")
    return head


def _batches(connection: Connection, findings: list[Finding]) -> Iterator[Sequence[StoredEntry]]:
    """Stream all entries that have a place, ascending; hashes and bodies that are no bytes are empty."""
    start, told = ledger.LEAST_INDEX, False
    while rows := ledger.page(connection, None, None, start, _BATCH):
        placed = [row for row in rows if _is_index(row.index)]
        if len(placed) < len(rows) and not told:
            told = True
            findings.append(Finding(None, f"an entry among those from {max(start, 0)} on has an index that is none"))
        yield [row._replace(body=_bytes(row.body), leaf_hash=_bytes(row.leaf_hash)) for row in placed]
        if not placed or placed[-1].index == ledger.GREATEST_INDEX:
            return
        start = placed[-1].index + 1


def _is_index(cell: object) -> bool:
    return isinstance(cell, int)


def _bytes(cell: object) -> bytes:
    """Give a cell's bytes. What is none has no bytes that could have been hashed."""
    return cell if isinstance(cell, bytes) else b""


def _misfiled(batch: Sequence[StoredEntry]) -> Iterator[Finding]:
    """Hold the columns by which entries are found against the entries themselves."""
    for entry in batch:
        try:
            body = json.loads(entry.body)
            filed = (body["tenant"], body["task_id"], body["kind"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # altered, which the hash has told already
        if filed != (entry.tenant, entry.task_id, entry.kind):
            yield Finding(entry.index, f"entry {entry.index} is filed under another tenant, task or kind than its own")
