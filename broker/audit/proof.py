"""Inclusion and consistency proofs (RFC 6962 sections 2.1.1 and 2.1.2): made from stored nodes, checked by anyone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from broker.audit.tree import node_hash


class NodeId(NamedTuple):
    """Names a complete node: the root of the 2^level leaves from index * 2^level on."""

    level: int
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody asks a node for


Fetch = Callable[[Collection[NodeId]], Mapping[NodeId, bytes]]
"""Finds the hashes of complete nodes."""

_Range = tuple[int, int]


def prove_inclusion(index: int, size: int, fetch: Fetch) -> list[bytes]:
    """Prove that the leaf at `index` is in the tree of `size`: the audit path, from the leaf up.

    Raises:
        ValueError: there is no such leaf.
        KeyError: a node is not stored.
    """
    if not 0 <= index < size:
        msg = f"a tree of size {size} has no leaf {index}"
        raise ValueError(msg)
    return _fold(_inclusion_ranges(index, 0, size), fetch)


def inclusion_nodes(index: int, size: int) -> list[NodeId]:
    """List the nodes that `prove_inclusion` asks for, to fetch those of many proofs at once."""
    return [node for start, end in _inclusion_ranges(index, 0, size) for node in perfect_subtrees(start, end)]


def prove_consistency(first: int, second: int, fetch: Fetch) -> list[bytes]:
    """Prove that the tree of size `first` is a prefix of that of size `second`.

    Raises:
        ValueError: `first` is not from 1 to `second`.
        KeyError: a node is not stored.
    """
    if not 1 <= first <= second:
        msg = f"there is no proof from size {first} to {second}"
        raise ValueError(msg)
    return _fold(_consistency_ranges(first, 0, second, whole=True), fetch)


def verify_inclusion(leaf_hash: bytes, index: int, size: int, hashes: Sequence[bytes], root: bytes) -> bool:
    """Check an inclusion proof against a root (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last, found = index, size - 1, leaf_hash
    for sibling in hashes:
        if last == 0:
            return False
        if node & 1 or node == last:
            found = node_hash(sibling, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and found == root


def verify_consistency(first: int, second: int, first_root: bytes, second_root: bytes, hashes: Sequence[bytes]) -> bool:
    """Check a consistency proof against both roots (RFC 9162 section 2.1.4.2)."""
    if not 1 <= first <= second:
        return False
    if first == second:
        return not hashes and first_root == second_root
    # A first tree that is perfect is a node of the second, and then the proof leaves it out.
    path = [first_root, *hashes] if first.bit_count() == 1 else list(hashes)
    return bool(path) and _climb(first - 1, second - 1, path) == (first_root, second_root)


def _climb(node: int, last: int, path: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """Recompute both roots from a consistency proof; None if it has the wrong length."""
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return None
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    return (old, new) if last == 0 else None


def _inclusion_ranges(index: int, start: int, end: int) -> list[_Range]:
    """List the ranges of leaves whose roots are the path: PATH(m, D[n]) of RFC 6962."""
    if end - start == 1:
        return []
    middle = start + _split(end - start)
    if index < middle:
        return [*_inclusion_ranges(index, start, middle), (middle, end)]
    return [*_inclusion_ranges(index, middle, end), (start, middle)]


def _consistency_ranges(first: int, start: int, end: int, *, whole: bool) -> list[_Range]:
    """List the ranges of leaves whose roots are the proof: SUBPROOF(m, D[n], b) of RFC 6962."""
    if first == end:
        return [] if whole else [(start, end)]
    middle = start + _split(end - start)
    if first <= middle:
        return [*_consistency_ranges(first, start, middle, whole=whole), (middle, end)]
    return [*_consistency_ranges(first, middle, end, whole=False), (start, middle)]


def _fold(ranges: Sequence[_Range], fetch: Fetch) -> list[bytes]:
    """Find the root of each range, with one look at the store."""
    subtrees = [perfect_subtrees(start, end) for start, end in ranges]
    stored = fetch([node for nodes in subtrees for node in nodes])
    roots = []
    for nodes in subtrees:
        root = stored[nodes[-1]]
        for node in reversed(nodes[:-1]):
            root = node_hash(stored[node], root)
        roots.append(root)
    return roots


def perfect_subtrees(start: int, end: int) -> list[NodeId]:
    """Split a range of leaves into perfect subtrees, largest first. Its start is a multiple of the largest."""
    nodes = []
    while start < end:
        level = (end - start).bit_length() - 1
        nodes.append(NodeId(level, start >> level))
        start += 1 << level
    return nodes


def _split(size: int) -> int:
    """Return the largest power of two smaller than `size`."""
    return 1 << (size - 1).bit_length() - 1
