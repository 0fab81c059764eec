"""The Merkle tree of RFC 6962 section 2.1, grown at its right edge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

HASH_SIZE = 32
EMPTY_ROOT = sha256(b"").digest()


class Node(NamedTuple):
    """A complete inner node: the root of the 2^level leaves from index * 2^level on. Level 0 are the leaves."""

    level: int
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody asks a node for
    hash: bytes


def leaf_hash(body: bytes) -> bytes:
    """Hash one entry: SHA-256(0x00 || body)."""
    return sha256(b"\x00" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two neighbours into their parent: SHA-256(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """All that is needed of a tree to let it grow: its size, and the roots of its perfect subtrees, largest first."""

    size: int
    peaks: tuple[bytes, ...]

    @classmethod
    def empty(cls) -> Frontier:
        """Return the frontier of the empty tree."""
        return cls(0, ())

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> Frontier:
        """Read what `to_bytes` made.

        Raises:
            ValueError: the data does not belong to a tree of this size.
        """
        if size < 0 or len(data) != HASH_SIZE * size.bit_count():
            msg = f"{len(data)} bytes are not the frontier of a tree of size {size}"
            raise ValueError(msg)
        return cls(size, tuple(data[start : start + HASH_SIZE] for start in range(0, len(data), HASH_SIZE)))

    def to_bytes(self) -> bytes:
        """Return the peaks, largest subtree first."""
        return b"".join(self.peaks)

    def root(self) -> bytes:
        """Return the root of the whole tree."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root

    def extend(self, leaves: Sequence[bytes]) -> tuple[Frontier, list[Node]]:
        """Append leaf hashes. Return the new frontier, and the inner nodes that are complete now and were not."""
        size, peaks = self.size, list(self.peaks)
        completed: list[Node] = []
        for leaf in leaves:
            peaks.append(leaf)
            size += 1
            # Each trailing zero bit of the new size is a pair of equal subtrees that becomes one.
            for level in range(1, (size & -size).bit_length()):
                right = peaks.pop()
                peaks[-1] = node_hash(peaks[-1], right)
                completed.append(Node(level, (size >> level) - 1, peaks[-1]))
        return Frontier(size, tuple(peaks)), completed
