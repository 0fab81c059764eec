"""The tree and its proofs, against published vectors and against RFC 6962 written down naively."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.proof import (
    NodeId,
    prove_consistency,
    prove_inclusion,
    verify_consistency,
    verify_inclusion,
)
from broker.audit.tree import EMPTY_ROOT, Frontier, leaf_hash

# The leaves and roots with which Certificate Transparency's own implementations are tested.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """MTH(D[n]), as RFC 6962 section 2.1 says it."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def bodies(size: int) -> list[bytes]:
    return [f"entry {number}".encode() for number in range(size)]


class Stored:
    """What a database keeps of a tree: leaf hashes and complete inner nodes."""

    def __init__(self, leaves: Sequence[bytes], batches: Sequence[int] = ()) -> None:
        hashes = [leaf_hash(leaf) for leaf in leaves]
        self.nodes = {NodeId(0, index): leaf for index, leaf in enumerate(hashes)}
        self.frontier = Frontier.empty()
        start = 0
        for size in [*batches, len(hashes)]:
            self.frontier, completed = self.frontier.extend(hashes[start : start + size])
            start = self.frontier.size
            for node in completed:
                assert NodeId(node.level, node.index) not in self.nodes, "a node is completed once"
                self.nodes[NodeId(node.level, node.index)] = node.hash

    def fetch(self, ids: Collection[NodeId]) -> dict[NodeId, bytes]:
        return {node: self.nodes[node] for node in ids}


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert Stored(LEAVES[:size]).frontier.root().hex() == ROOTS[size - 1]


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert Frontier.empty().root() == EMPTY_ROOT == sha256(b"").digest()


@given(st.integers(0, 130), st.lists(st.integers(0, 40), max_size=5))
def test_a_tree_grown_in_any_batches_has_the_naive_root_and_comes_back_from_its_bytes(
    size: int, batches: list[int]
) -> None:
    frontier = Stored(bodies(size), batches).frontier
    assert frontier.root() == naive_root(bodies(size))
    assert Frontier.from_bytes(frontier.size, frontier.to_bytes()) == frontier


@pytest.mark.parametrize(("size", "length"), [(-1, 0), (0, 32), (1, 0), (1, 31), (3, 32), (4, 64)])
def test_bytes_that_are_no_frontier_of_that_size_are_refused(size: int, length: int) -> None:
    with pytest.raises(ValueError, match="not the frontier"):
        Frontier.from_bytes(size, bytes(length))


@given(st.data())
def test_every_leaf_can_be_proved_and_no_other_in_its_place(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 130))
    index = data.draw(st.integers(0, size - 1))
    stored = Stored(bodies(size))
    root, leaf = stored.frontier.root(), leaf_hash(bodies(size)[index])
    path = prove_inclusion(index, size, stored.fetch)
    assert verify_inclusion(leaf, index, size, path, root)
    assert not verify_inclusion(leaf_hash(b"another"), index, size, path, root)
    assert not verify_inclusion(leaf, index, size, path, leaf_hash(b"another"))
    other = data.draw(st.integers(-1, size + 1))
    assert not verify_inclusion(leaf, other, size, path, root) or other == index
    if path:
        place = data.draw(st.integers(0, len(path) - 1))
        assert not verify_inclusion(leaf, index, size, [*path[:place], *path[place + 1 :]], root)
        assert not verify_inclusion(leaf, index, size, _altered(path, place), root)
    assert not verify_inclusion(leaf, index, size, [*path, root], root)


@given(st.data())
def test_growth_can_be_proved_and_no_other_history(data: st.DataObject) -> None:
    second = data.draw(st.integers(1, 130))
    first = data.draw(st.integers(1, second))
    stored = Stored(bodies(second))
    old, new = naive_root(bodies(first)), stored.frontier.root()
    proof = prove_consistency(first, second, stored.fetch)
    assert verify_consistency(first, second, old, new, proof)
    rewritten = naive_root([b"rewritten", *bodies(first)[1:]])
    assert not verify_consistency(first, second, rewritten, new, proof)
    assert not verify_consistency(first, second, old, rewritten, proof)
    assert not verify_consistency(first, second, old, new, [*proof, new])
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        assert not verify_consistency(first, second, old, new, _altered(proof, place))
        assert not verify_consistency(first, second, old, new, proof[:-1])
    else:
        assert first == second


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_there_is_no_proof_for_a_leaf_that_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="has no leaf"):
        prove_inclusion(index, size, Stored(bodies(3)).fetch)


@pytest.mark.parametrize(("first", "second"), [(0, 3), (-1, 3), (4, 3)])
def test_there_is_no_proof_of_growth_from_nothing_or_backwards(first: int, second: int) -> None:
    with pytest.raises(ValueError, match="no proof"):
        prove_consistency(first, second, Stored(bodies(4)).fetch)
    root = naive_root(bodies(3))
    assert not verify_consistency(first, second, EMPTY_ROOT, root, [])


def _altered(hashes: Sequence[bytes], place: int) -> list[bytes]:
    changed = bytearray(hashes[place])
    changed[0] ^= 1
    return [*hashes[:place], bytes(changed), *hashes[place + 1 :]]
