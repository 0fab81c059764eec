"""What the tables should hold, derived from entries into a scratch database of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection, create_engine, func, select

from broker.audit import canonical
from broker.audit.effects import Adopted, Commitment, Effect, Explained, Forgotten, Started
from broker.audit.in_force import CommitmentMismatch, InForce
from broker.audit.replay import Discrepancy
from broker.model.clock import to_micros
from broker.store import ledger
from broker.store.derived import TABLES, Derivation
from broker.store.differences import differences
from broker.store.ledger import Head, Span
from broker.store.schema import explanations, ledger_head, ledger_nodes, metadata

_COMMITMENTS = "CREATE TABLE commitments (place INTEGER PRIMARY KEY, at INTEGER, commitment TEXT)"
_COMMITTED = "INSERT INTO commitments VALUES (?, ?, ?)"
_COMMITMENT = "SELECT commitment FROM commitments WHERE place = ?"


class Expected:
    """Follows the entries, and then tells what is not as they say."""

    def __init__(self, scratch: Connection) -> None:
        """Begin in an empty scratch database."""
        self.problems: list[Discrepancy] = []
        self._scratch = scratch
        self._tables = Derivation(scratch)
        self._in_force: InForce | None = InForce()
        self._committed: int | None = None
        self._spans: list[Span] = []
        self._forgotten_before: int | None = None
        self._leaves = self._nodes = self._next_index = 0

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Expected]:
        """Open a scratch database for as long as the block runs."""
        with TemporaryDirectory(prefix="credbroker-verify-") as folder:
            engine = create_engine(f"sqlite+pysqlite:///{Path(folder) / 'expected.db'}")
            metadata.create_all(engine, list(TABLES))
            try:
                with engine.connect() as scratch:
                    for pragma in ("journal_mode = OFF", "synchronous = OFF"):
                        scratch.exec_driver_sql(f"PRAGMA {pragma}")
                    scratch.exec_driver_sql(_COMMITMENTS)
                    yield cls(scratch)
            finally:
                engine.dispose()

    @property
    def origins(self) -> set[str]:
        """The names that the ledger has had."""
        return {span.origin for span in self._spans}

    @property
    def is_committed_to(self) -> bool:
        """Whether some entry commits to the state: versions that record none keep less in their tables."""
        return self._committed is not None

    def follow(self, index: int, done: Sequence[Effect], nodes: int) -> None:
        """Follow one entry, which has completed so many inner nodes of the tree."""
        for effect in done:
            match effect:
                case Started(origin) | Adopted(origin=origin):
                    self._spans.append(Span(self._leaves, index, origin))
                case Explained(at=at, commitment=commitment):
                    self._scratch.exec_driver_sql(_COMMITTED, (index, to_micros(at), commitment))
                case Forgotten(before):
                    self._forgotten_before = max(to_micros(before), self._forgotten_before or 0)
                case Commitment():
                    self._committed = index
                case _:
                    pass
        self._tables.apply(index, done)
        self._follow_what_is_in_force(index, done)
        self._leaves += 1
        self._nodes += nodes
        self._next_index = index + 1

    def findings(self, connection: Connection, head: Head) -> Iterator[Discrepancy]:
        """List what differs in the tables."""
        self._tables.flush()
        yield from self.problems
        yield from self._of_the_head(connection, head)
        for difference in differences(connection, self._scratch, self._forgotten_before):
            yield Discrepancy(difference.index, difference.problem)
        yield from self._of_explanations(connection)

    def _follow_what_is_in_force(self, index: int, done: Sequence[Effect]) -> None:
        if self._in_force is None:
            return
        try:
            self._in_force.apply(done)
        except CommitmentMismatch as error:
            self.problems.append(Discrepancy(index, str(error)))
            self._in_force = None  # one wrong commitment makes all that follow wrong

    def _of_the_head(self, connection: Connection, head: Head) -> Iterator[Discrepancy]:
        if (head.next_index, head.committed_index) != (self._next_index, self._committed):
            yield Discrepancy(None, "ledger_head: `next_index` or `committed_index` was altered")
        if connection.execute(select(func.count()).select_from(ledger_head)).scalar_one() != 1:
            yield Discrepancy(None, "ledger_head: there is more than one head")
        if list(ledger.spans(connection).spans) != self._spans:
            yield Discrepancy(None, "ledger_origins: the names and first indexes are not those of the entries")
        if connection.execute(select(func.count()).select_from(ledger_nodes)).scalar_one() != self._nodes:
            yield Discrepancy(None, "ledger_nodes: there are nodes that no entries complete")

    def _of_explanations(self, connection: Connection) -> Iterator[Discrepancy]:
        """Hold each explanation against the entry that commits to it. Those kept for long enough are gone."""
        for row in connection.execute(select(explanations)):
            index, salt, text = row[0], row.salt, row.text
            commitment = self._scratch.exec_driver_sql(_COMMITMENT, (index,)).scalar()
            self._scratch.exec_driver_sql("DELETE FROM commitments WHERE place = ?", (index,))
            if not isinstance(salt, bytes) or not isinstance(text, str) or commitment != canonical.commit(salt, text):
                yield Discrepancy(index, f"explanations: index `{index}` is not what its entry commits to")
        missing = "SELECT place FROM commitments WHERE at >= ? ORDER BY place"
        for (index,) in self._scratch.exec_driver_sql(missing, (self._forgotten_before or 0,)):
            yield Discrepancy(index, f"explanations: index `{index}` is missing")
