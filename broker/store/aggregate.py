"""What a transaction is made of: aggregates, each of which knows what changes see of it, and what they write.

A new one is a subclass of `Aggregate` in the module of its SQL, and a line in `Transaction`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from broker.audit.effects import Effect
from broker.audit.in_force import InForce
from broker.audit.tree import Frontier
from broker.model.lease import Lease
from broker.model.task import Task
from broker.store.provenance import Proven


class Named(Protocol):
    """What a change has named because it will look at it. The fields are those of `transaction.Change`."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Ids of tasks."""

    @property
    def leases(self) -> tuple[str, ...]:
        """Ids of leases."""

    @property
    def requests(self) -> tuple[tuple[str, str], ...]:
        """Request ids, each behind the principal whose it is."""


@dataclass(frozen=True, slots=True)
class AtHead:
    """Where a transaction stands: it holds the ledger's head, of which `frontier` is the tree.

    `at` is the one instant of all its changes.
    """

    connection: Connection
    at: datetime
    frontier: Frontier
    in_force: InForce
    proven: Proven

    def altered(self, records: Iterable[Task | Lease]) -> set[str]:
        """Find the ids of the records that are not what their entries say."""
        return self.proven.altered(self.connection, self.frontier, records)


class Aggregate:
    """One kind of record in a transaction. What a kind does not need it leaves as it is here.

    Changes run between `prefetch` and `write`, one after the other; each sees what those before it wrote.
    """

    def prefetch(self, named: Collection[Named]) -> None:
        """Read what changes have named, all at once."""

    def tail(self) -> Sequence[Effect]:
        """List what has changed of what is in force, for those who follow the ledger."""
        return ()

    def write(self) -> None:
        """Write what has changed to the tables."""

    def committed(self) -> None:
        """Take note that it is durable."""
