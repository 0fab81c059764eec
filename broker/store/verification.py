"""Verify a ledger where it lies: recompute everything from the entries, trusting nothing but one public key.

One pass over the entries recomputes the tree, and derives the state that they make in a scratch database; then every
row of the tables is held against it.

SQLite keeps in a cell whatever it is given: a number where a text belongs, a text that is not UTF-8, an index that is
none. Each is a finding like any other alteration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from broker.audit import checkpoint
from broker.audit.canonical import MalformedEntry
from broker.audit.checkpoint import Checkpoint
from broker.audit.effects import Adopted, Effect
from broker.audit.note import VerifierKey, verify_note
from broker.audit.proof import NodeId
from broker.audit.readings import effects
from broker.audit.replay import Discrepancy, Replay
from broker.store import ledger
from broker.store.database import open_database
from broker.store.expected import Expected
from broker.store.ledger import Head, MalformedHead, StoredEntry
from broker.store.opening import named_key

_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. `trusted` tells whether the key was given, or only taken from the ledger itself.

    `kept_size`: of the checkpoint that the ledger was held against. Without one nobody can tell this ledger from an
    older copy of it. `uncompared`: why the rows of the tables were not held against the entries; empty, if they were.
    """

    size: int
    findings: Sequence[Discrepancy]
    vkey: str
    trusted: bool
    kept_size: int | None = None
    uncompared: str = ""

    @property
    def ok(self) -> bool:
        """Report whether everything is as it was signed."""
        return not self.findings

    def unknown(self) -> list[str]:
        """Return what cannot be known without a trusted key, a kept checkpoint, or entries that verify."""
        unknown = []
        if not self.trusted:
            unknown.append("whether all of it was made anew with another key: give --vkey")
        if self.kept_size is None:
            unknown.append("whether the newest entries were cut off, or this is an older copy: give --checkpoint")
        if self.uncompared:
            unknown.append(f"whether the rows of the tables are what the entries say: {self.uncompared}")
        return unknown


Progress = Callable[[int, int], None]
"""Is told how many entries of how many are done."""


def verify(url: str, vkey: str | None = None, progress: Progress | None = None, kept: str | None = None) -> Report:
    """Recompute a ledger, and hold it against a checkpoint that somebody has kept, a signed note.

    Raises:
        InvalidNote: the verifier key is malformed.
        ValueError: the database holds no ledger, or what was kept is no checkpoint by the key.
    """
    database = open_database(url, at_leisure=True)
    try:
        with database.snapshot() as connection, Expected.opened() as expected:
            ledger.forgive_texts(connection)
            return _Verification(connection, expected, vkey, kept, progress or (lambda _done, _all: None)).report()
    finally:
        database.close()


class _Verification:
    def __init__(
        self, connection: Connection, expected: Expected, vkey: str | None, kept: str | None, progress: Progress
    ) -> None:
        self._connection = connection
        self._expected = expected
        self._progress = progress
        self._trusted = vkey is not None
        self._key = VerifierKey.parse(vkey) if vkey else named_key(connection)
        self._kept = _kept(kept, self._key)
        self._replay = Replay(self._kept)
        self._done = 0

    def report(self) -> Report:
        findings = self._replay.findings
        head = self._head()
        for batch in self._batches():
            self._follow(batch)
            self._progress(self._done, self._done if head is None else head.frontier.size)
        if self._key is None:
            findings.append(Discrepancy(0, "entry 0 does not name the ledger's key"))
        elif head is not None:
            self._check_head(head, self._key)
        uncompared = ""
        if head is None or findings:
            uncompared = "these do not verify"
        elif not self._expected.is_committed_to:
            uncompared = "an older version wrote both, and the broker makes the rows anew when it next starts"
        else:
            findings.extend(self._expected.findings(self._connection, head))
        key = "" if self._key is None else str(self._key)
        kept_size = None if self._kept is None else self._kept.size
        return Report(self._done, findings, key, self._trusted, kept_size, uncompared)

    def _follow(self, batch: Sequence[StoredEntry]) -> None:
        completed = []
        for entry in batch:
            done = self._effects(entry)
            adopts = any(isinstance(effect, Adopted) for effect in done)
            nodes = self._replay.entry(entry.index, entry.body, entry.leaf_hash, adopts=adopts)
            completed += nodes
            self._expected.follow(entry.index, done, len(nodes))
        self._done += len(batch)
        stored = ledger.fetch_nodes(self._connection, [NodeId(node.level, node.index) for node in completed])
        self._replay.nodes(completed, stored)
        self._replay.findings.extend(_misfiled(batch))

    def _effects(self, entry: StoredEntry) -> Sequence[Effect]:
        try:
            return effects(entry.index, entry.body)
        except MalformedEntry as error:
            self._expected.problems.append(Discrepancy(entry.index, str(error)))
            return ()

    def _check_head(self, head: Head, key: VerifierKey) -> None:
        # A ledger that was adopted goes on under another name; its key is the same.
        named = VerifierKey(head.origin, key.public) if key.name in self._expected.origins else key
        signed = self._replay.head(head.frontier.size, head.frontier.root(), head.note, named)
        if signed is not None and signed.origin != head.origin:
            self._replay.findings.append(
                Discrepancy(None, "the head names another origin than the one that was signed")
            )

    def _head(self) -> Head | None:
        """Read the head; None, and a finding, if it is none.

        Raises:
            ValueError: there is none, so this is no ledger.
        """
        try:
            head = ledger.head(self._connection)
        except MalformedHead as error:
            self._replay.findings.append(Discrepancy(None, str(error)))
            return None
        if head is None:
            raise ValueError("the database holds no ledger")
        return head

    def _batches(self) -> Iterator[Sequence[StoredEntry]]:
        """Stream all entries that have a place, ascending; hashes and bodies that are no bytes are empty."""
        start, has_reported = ledger.LEAST_INDEX, False
        while rows := ledger.page(self._connection, None, None, start, _BATCH):
            placed = [row for row in rows if _is_index(row.index)]
            if len(placed) < len(rows) and not has_reported:
                has_reported = True
                problem = f"an entry among those from {max(start, 0)} on has an index that is none"
                self._replay.findings.append(Discrepancy(None, problem))
            yield [row._replace(body=_bytes(row.body), leaf_hash=_bytes(row.leaf_hash)) for row in placed]
            if not placed or placed[-1].index == ledger.GREATEST_INDEX:
                return
            start = placed[-1].index + 1


def _kept(note: str | None, key: VerifierKey | None) -> Checkpoint | None:
    """Take a kept checkpoint, under whatever name the ledger had then."""
    if note is None:
        return None
    if key is None:
        raise ValueError("the checkpoint cannot be checked: the ledger names no key; give one with --vkey")
    try:
        return checkpoint.parse(verify_note(note, VerifierKey(note.partition("\n")[0], key.public)))
    except ValueError as error:
        msg = f"the kept checkpoint does not verify by the key: {error}"
        raise ValueError(msg) from error


def _is_index(cell: object) -> bool:
    return isinstance(cell, int)


def _bytes(cell: object) -> bytes:
    """Return a cell's bytes. What is none has no bytes that could have been hashed."""
    return cell if isinstance(cell, bytes) else b""


def _misfiled(batch: Sequence[StoredEntry]) -> Iterator[Discrepancy]:
    """Hold the columns by which entries are found against the entries themselves."""
    for entry in batch:
        try:
            body = json.loads(entry.body)
            filed = (body["tenant"], body["task_id"], body["kind"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # altered, which the hash has told already
        if filed != (entry.tenant, entry.task_id, entry.kind):
            yield Discrepancy(
                entry.index, f"entry {entry.index} is filed under another tenant, task or kind than its own"
            )
