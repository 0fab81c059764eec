"""Proofs against the newest checkpoint, from stored nodes, in one read transaction."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from broker.audit import proof
from broker.audit.tree import Frontier, leaf_hash
from broker.store import ledger
from broker.store.ledger import Head


@dataclass(frozen=True, slots=True)
class Inclusion:
    """That an entry is under a head. `leaf` is its number among the leaves of the tree."""

    head: Head
    leaf: int
    leaf_hash: bytes
    hashes: list[bytes]


@dataclass(frozen=True, slots=True)
class Consistency:
    """That an earlier tree is a prefix of a head's."""

    head: Head
    hashes: list[bytes]


def newest_head(connection: Connection) -> Head:
    """Read the head of a ledger that has been started.

    Raises:
        LedgerMismatch: it is gone.
    """
    head = ledger.head(connection)
    if head is None:
        raise ledger.no_head()
    return head


def prove_inclusion(connection: Connection, index: int) -> Inclusion | None:
    """Prove that an entry is under the newest head; None if there is no such entry."""
    head = newest_head(connection)
    entry, leaf = ledger.entry(connection, index), ledger.spans(connection).leaf_of(index)
    if entry is None or leaf is None or leaf >= head.frontier.size:
        return None
    hashes = proof.prove_inclusion(leaf, head.frontier.size, lambda ids: ledger.fetch_nodes(connection, ids))
    return Inclusion(head, leaf, leaf_hash(entry.body), hashes)


def prove_consistency(connection: Connection, first_size: int) -> Consistency | None:
    """Prove that the tree of `first_size` is a prefix of the newest head's; None if there never was such a tree."""
    head = newest_head(connection)
    if not 1 <= first_size <= head.frontier.size:
        return None
    hashes = proof.prove_consistency(first_size, head.frontier.size, lambda ids: ledger.fetch_nodes(connection, ids))
    return Consistency(head, hashes)


def frontier_at(connection: Connection, size: int) -> Frontier:
    """Return the frontier of the tree as it was at an earlier size, by its stored nodes.

    Raises:
        KeyError: a node is not stored.
    """
    nodes = proof.perfect_subtrees(0, size)
    stored = ledger.fetch_nodes(connection, nodes)
    return Frontier(size, tuple(stored[node] for node in nodes))
