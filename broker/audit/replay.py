"""Recompute a ledger from its entries, and name what is not as it was signed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broker.audit import checkpoint
from broker.audit.checkpoint import Checkpoint
from broker.audit.note import InvalidNote, VerifierKey, verify_note
from broker.audit.proof import NodeId
from broker.audit.tree import Frontier, Node, leaf_hash


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Something that is not as it was signed. `index` names the entry, if it can be told."""

    index: int | None
    problem: str


class Replay:
    """Takes the entries in order, in memory that does not grow with them.

    Each entry is held against the leaf hash that was stored with it, and each subtree that it completes against the
    stored inner node; so an altered entry is found where it is, even if its leaf hash was altered with it.
    """

    def __init__(self, kept: Checkpoint | None = None) -> None:
        """Begin with the empty tree. `kept`: a checkpoint of it that somebody has kept elsewhere."""
        self.findings: list[Discrepancy] = []
        self._kept = kept
        self._frontier = Frontier.empty()
        self._next = 0
        self._jumps = [(0, 0)]  # from this leaf on, entries have indexes from that one on
        self._gap = False

    def entry(self, index: int, body: bytes, stored_leaf: bytes, *, adopts: bool = False) -> list[Node]:
        """Take the next entry; return the inner nodes it completes, to be held against the stored ones by `nodes`.

        One that `adopts` the ledger may pass indexes over.
        """
        if adopts and index > self._next:
            self._jumps.append((self._frontier.size, index))
        elif index != self._next:
            self.findings.append(Discrepancy(self._next, f"entry {self._next} is missing: the next is {index}"))
            self._gap = True
        self._next = index + 1
        leaf = leaf_hash(body)
        if leaf != stored_leaf:
            self.findings.append(Discrepancy(index, f"entry {index} has been altered: it is not what was hashed"))
            leaf = stored_leaf  # go on with what was hashed, so that one alteration is one finding
        self._frontier, completed = self._frontier.extend([leaf])
        if self._kept is not None and self._kept.size == self._frontier.size:
            self._hold_against(self._kept)
        return [] if self._gap else completed  # behind a gap no subtree can be recomputed

    def nodes(self, completed: list[Node], stored: Mapping[NodeId, bytes]) -> None:
        """Hold completed inner nodes against the stored ones."""
        for node in completed:
            found = stored.get(NodeId(node.level, node.index))
            if found == node.hash:
                continue
            first, last = (
                self._index_of(leaf) for leaf in (node.index << node.level, ((node.index + 1) << node.level) - 1)
            )
            if any(finding.index is not None and first <= finding.index <= last for finding in self.findings):
                continue  # told already, by the smallest subtree in which it shows
            what = "is missing" if found is None else "is not the hash of its entries"
            self.findings.append(
                Discrepancy(first, f"entry {first} or one up to {last} has been altered: their stored hash {what}")
            )

    def head(self, size: int, root: bytes, note: str, key: VerifierKey) -> Checkpoint | None:
        """Take the stored head and its signed note; return the checkpoint, if the key has signed it."""
        if self._kept is not None and self._kept.size > self._frontier.size:
            self.findings.append(
                Discrepancy(
                    None,
                    f"the kept checkpoint has {self._kept.size} entries and the ledger {self._frontier.size}: the "
                    "newest were cut off, or this is an older copy",
                )
            )
        if self._frontier.size != size and not self._gap:
            missing = min(self._frontier.size, size)
            self.findings.append(
                Discrepancy(missing, f"there are {self._frontier.size} entries under a head of {size}")
            )
        try:
            signed = checkpoint.parse(verify_note(note, key))
        except (InvalidNote, ValueError) as error:
            self.findings.append(Discrepancy(None, f"the checkpoint does not verify: {error}"))
            return None
        if (signed.size, signed.root) != (size, root):
            self.findings.append(Discrepancy(None, "the stored head is not the one that was signed"))
        if (signed.size, signed.root) != (self._frontier.size, self._frontier.root()) and not self.findings:
            self.findings.append(
                Discrepancy(None, "the entries are not those that were signed, all hashes having been redone")
            )
        return signed

    def _hold_against(self, kept: Checkpoint) -> None:
        if kept.root != self._frontier.root():
            self.findings.append(
                Discrepancy(
                    None, f"the first {kept.size} entries are not those of the kept checkpoint: another history"
                )
            )

    def _index_of(self, leaf: int) -> int:
        first_leaf, first_index = next(jump for jump in reversed(self._jumps) if jump[0] <= leaf)
        return leaf - first_leaf + first_index
