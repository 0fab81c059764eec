"""Whatever is done to a ledger, replaying it tells; and where it can be told, it names the entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit import checkpoint
from broker.audit.checkpoint import Checkpoint
from broker.audit.note import NoteSigner
from broker.audit.proof import NodeId
from broker.audit.replay import Discrepancy, Replay
from broker.audit.tree import Frontier, leaf_hash

ORIGIN = "broker.example/ledger"
SIGNER = NoteSigner.generate(ORIGIN)


@dataclass
class Ledger:
    """A ledger as stored: entries with index, body and leaf hash; inner nodes; head."""

    entries: list[tuple[int, bytes, bytes]]
    nodes: dict[NodeId, bytes]
    frontier: Frontier
    note: str

    @classmethod
    def of(cls, size: int) -> Ledger:
        bodies = [f"entry {index}".encode() for index in range(size)]
        frontier, completed = Frontier.empty().extend([leaf_hash(body) for body in bodies])
        return cls(
            [(index, body, leaf_hash(body)) for index, body in enumerate(bodies)],
            {NodeId(node.level, node.index): node.hash for node in completed},
            frontier,
            SIGNER.sign(checkpoint.format(Checkpoint(ORIGIN, frontier.size, frontier.root()))),
        )

    def findings(self, signer: NoteSigner = SIGNER) -> list[Discrepancy]:
        replay = Replay()
        for index, body, leaf in self.entries:
            replay.nodes(replay.entry(index, body, leaf), self.nodes)
        replay.head(self.frontier.size, self.frontier.root(), self.note, signer.vkey)
        return replay.findings

    def redo_hashes(self) -> None:
        """Make all hashes anew, as somebody would who owns the database but not the key."""
        self.entries = [(index, body, leaf_hash(body)) for index, body, _ in self.entries]
        self.frontier, completed = Frontier.empty().extend([leaf for _, _, leaf in self.entries])
        self.nodes = {NodeId(node.level, node.index): node.hash for node in completed}


@given(st.integers(0, 70))
def test_an_honest_ledger_has_no_findings(size: int) -> None:
    assert Ledger.of(size).findings() == []


@given(st.data())
def test_an_altered_entry_is_named_and_nothing_else(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 70))
    index = data.draw(st.integers(0, size - 1))
    ledger = Ledger.of(size)
    ledger.entries[index] = (index, b"altered", ledger.entries[index][2])
    assert [finding.index for finding in ledger.findings()] == [index]


@given(st.data())
def test_an_entry_altered_with_its_leaf_hash_is_narrowed_down_to_its_pair(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 70))
    index = data.draw(st.integers(0, size // 2 * 2 - 1))
    ledger = Ledger.of(size)
    ledger.entries[index] = (index, b"altered", leaf_hash(b"altered"))
    found = ledger.findings()
    assert len(found) == 1
    assert found[0].index == index // 2 * 2


@given(st.data())
def test_a_missing_entry_is_named_once(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 70))
    index = data.draw(st.integers(0, size - 2))
    ledger = Ledger.of(size)
    del ledger.entries[index]
    found = ledger.findings()
    assert [finding.index for finding in found] == [index]
    assert "missing" in found[0].problem


def cut_off(ledger: Ledger) -> None:
    del ledger.entries[-2:]


def cut_off_with_its_head(ledger: Ledger) -> None:
    shorter = Ledger.of(len(ledger.entries) - 2)
    ledger.entries, ledger.frontier = shorter.entries, shorter.frontier


def alter_and_redo(ledger: Ledger) -> None:
    ledger.entries[5] = (5, b"altered", b"")
    ledger.redo_hashes()


def swap_and_redo(ledger: Ledger) -> None:
    (_, one, _), (_, other, _) = ledger.entries[5:7]
    ledger.entries[5:7] = [(5, other, b""), (6, one, b"")]
    ledger.redo_hashes()


def add_and_redo(ledger: Ledger) -> None:
    ledger.entries.append((len(ledger.entries), b"added", b""))
    ledger.redo_hashes()


def lose_a_node(ledger: Ledger) -> None:
    del ledger.nodes[NodeId(1, 2)]


def sign_with_another_key(ledger: Ledger) -> None:
    ledger.note = NoteSigner.generate(ORIGIN).sign(ledger.note.partition("\n\n")[0] + "\n")


def break_the_note(ledger: Ledger) -> None:
    ledger.note = ledger.note.replace(ORIGIN, "evil.example/ledger", 1)


@pytest.mark.parametrize(
    "harm",
    [
        cut_off,
        cut_off_with_its_head,
        alter_and_redo,
        swap_and_redo,
        add_and_redo,
        lose_a_node,
        sign_with_another_key,
        break_the_note,
    ],
)
def test_every_harm_is_found(harm: Callable[[Ledger], None]) -> None:
    ledger = Ledger.of(21)
    harm(ledger)
    assert ledger.findings()


def test_a_head_that_is_not_the_one_that_was_signed_is_told() -> None:
    ledger = Ledger.of(8)
    ledger.note = Ledger.of(7).note
    assert "the stored head is not the one that was signed" in [finding.problem for finding in ledger.findings()]


def test_entries_whose_hashes_were_all_redone_are_not_those_of_the_head() -> None:
    ledger = Ledger.of(8)
    frontier = ledger.frontier
    alter_and_redo(ledger)
    ledger.frontier = frontier  # the head was left as it was signed
    assert [finding.problem for finding in ledger.findings()] == [
        "the entries are not those that were signed, all hashes having been redone"
    ]


def replayed(ledger: Ledger, kept: Checkpoint) -> list[str]:
    replay = Replay(kept)
    for index, body, leaf in ledger.entries:
        replay.nodes(replay.entry(index, body, leaf), ledger.nodes)
    replay.head(ledger.frontier.size, ledger.frontier.root(), ledger.note, SIGNER.vkey)
    return [finding.problem for finding in replay.findings]


def kept_of(ledger: Ledger) -> Checkpoint:
    return Checkpoint(ORIGIN, ledger.frontier.size, ledger.frontier.root())


def test_a_kept_checkpoint_shows_what_an_honest_head_cannot() -> None:
    ledger = Ledger.of(21)
    assert replayed(ledger, kept_of(Ledger.of(13))) == []
    assert replayed(ledger, kept_of(ledger)) == []
    assert [problem.partition(":")[0] for problem in replayed(ledger, kept_of(Ledger.of(30)))] == [
        "the kept checkpoint has 30 entries and the ledger 21"
    ]
    other = replace(kept_of(Ledger.of(13)), root=bytes(32))
    assert replayed(ledger, other) == ["the first 13 entries are not those of the kept checkpoint: another history"]


def adopted(*, adopts: bool, nodes: dict[NodeId, bytes]) -> list[Discrepancy]:
    """Replay four entries, of which the third, that may be an adoption, has passed indexes over."""
    replay = Replay()
    for index, (_, body, leaf) in zip((0, 1, 100, 101), Ledger.of(4).entries, strict=True):
        replay.nodes(replay.entry(index, body, leaf, adopts=adopts and index == 100), nodes)
    return replay.findings


def test_an_adoption_may_pass_indexes_over_and_nothing_else_may() -> None:
    nodes = Ledger.of(4).nodes
    assert adopted(adopts=True, nodes=nodes) == []
    assert adopted(adopts=False, nodes=nodes) == [Discrepancy(2, "entry 2 is missing: the next is 100")]


def test_behind_an_adoption_entries_are_named_by_their_index_and_not_by_their_place() -> None:
    findings = adopted(adopts=True, nodes=Ledger.of(4).nodes | {NodeId(1, 1): bytes(32)})
    assert [finding.index for finding in findings] == [100]
    assert "entry 100 or one up to 101 has been altered" in findings[0].problem
