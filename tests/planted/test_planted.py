"""Each fault that is planted is found by the tests that are there for it, and these pass without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.planted import of_audit, of_keys, of_lease, of_revocation, of_sdk
from tests.planted.plant import Fault, Tree, copied, passes

FAULTS = {
    f"{room}: {fault.what}": fault
    for room, faults in (
        ("lease", of_lease.FAULTS),
        ("revocation", of_revocation.FAULTS),
        ("audit", of_audit.FAULTS),
        ("keys", of_keys.FAULTS),
        ("sdk", of_sdk.FAULTS),
    )
    for fault in faults
}
QUICK = (
    "audit: the nodes of a proof are swapped",
    "keys: a key that was not announced before signs at once",
    "lease: a lock is ignored",
    "revocation: freshness runs from now",
    "sdk: a token lives on for the leeway of clocks",
)


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree.read()


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_has_its_place_and_its_tests(fault: Fault, tree: Tree) -> None:
    assert fault.file(tree).is_file()
    assert [tree.node(test) for test in fault.tests]
    assert fault.text != fault.instead


def test_there_are_thirty_and_no_two_are_one() -> None:
    assert len({(fault.text, fault.instead) for fault in FAULTS.values()}) == len(FAULTS) >= 30


@pytest.mark.parametrize("name", QUICK)
def test_a_few_faults_are_found(tmp_path: Path, name: str) -> None:
    _check(FAULTS[name], tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(FAULTS.keys() - set(QUICK)))
def test_every_other_fault_is_found(tmp_path: Path, name: str) -> None:
    _check(FAULTS[name], tmp_path)


def test_without_a_fault_the_same_tests_pass(tmp_path: Path) -> None:
    tests = {test for name in QUICK for test in FAULTS[name].tests}
    assert passes(copied(tmp_path / "tree"), sorted(tests))


@pytest.mark.long
def test_without_any_fault_all_these_tests_pass(tmp_path: Path) -> None:
    assert passes(copied(tmp_path / "tree"), sorted({test for fault in FAULTS.values() for test in fault.tests}))


def _check(fault: Fault, folder: Path) -> None:
    root = copied(folder / "tree")
    fault.plant(root)
    blind = [test for test in fault.tests if passes(root, [test])]
    assert not blind, f"{fault.what}: {blind} do not see it"
