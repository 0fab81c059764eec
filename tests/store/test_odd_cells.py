"""SQLite keeps in a cell whatever it is given. Verifying names such entries, as it does all that were altered."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest

from broker.audit import tree
from broker.store import migrate, verification
from tests.support.world import opened

AT_2 = 'WHERE "index" = 2'
DEEP = b"[" * 60_000
NO_KEY = b'{"kind":"LEDGER_STARTED","effected":{"vkey":5}}'


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("odd") / "broker.db"
    migrate.upgrade(str(path))
    asyncio.run(fill(path))
    return path


async def fill(path: Path) -> None:
    async with opened(str(path)) as world:
        task = await world.task()
        for _ in range(6):
            await world.issue(task)


@pytest.fixture
def ledger(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(original, tmp_path / "broker.db"))


def altered(path: Path, statement: str, *values: object) -> verification.Report:
    with sqlite3.connect(path) as connection:
        connection.execute(statement, values)
    connection.close()
    return verification.verify(str(path))


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (f"UPDATE ledger_entries SET body = CAST(body AS TEXT) {AT_2}", 2),
        (f"UPDATE ledger_entries SET body = 5 {AT_2}", 2),
        (f"UPDATE ledger_entries SET body = 1.5 {AT_2}", 2),
        (f"UPDATE ledger_entries SET body = CAST(x'ff80' AS TEXT) {AT_2}", 2),
        (f"UPDATE ledger_entries SET leaf_hash = 'x' {AT_2}", 2),
        (f"UPDATE ledger_entries SET leaf_hash = CAST(leaf_hash AS TEXT) {AT_2}", 2),
        (f"UPDATE ledger_entries SET leaf_hash = 7 {AT_2}", 2),
        (f"UPDATE ledger_entries SET tenant = CAST(tenant AS BLOB) {AT_2}", 2),
        (f"UPDATE ledger_entries SET task_id = CAST(x'ff' AS TEXT) {AT_2}", 2),
        (f"UPDATE ledger_entries SET kind = 7 {AT_2}", 2),
        (f"UPDATE ledger_entries SET \"index\" = 'two' {AT_2}", 2),
        (f'UPDATE ledger_entries SET "index" = 2.5 {AT_2}', 2),
        (f'UPDATE ledger_entries SET "index" = 9223372036854775807 {AT_2}', 2),
        (f'UPDATE ledger_entries SET "index" = -9223372036854775808 {AT_2}', 0),
        ('UPDATE ledger_entries SET body = 5 WHERE "index" = 0', 0),
        ("UPDATE ledger_nodes SET hash = 'x' WHERE level = 1 AND \"index\" = 0", 0),
        ('UPDATE ledger_nodes SET hash = CAST(hash AS TEXT) WHERE level = 1 AND "index" = 1', 2),
        ("UPDATE ledger_nodes SET level = 'x' WHERE level = 1 AND \"index\" = 1", 2),
        ("UPDATE ledger_head SET peaks = CAST(peaks AS TEXT)", None),
        ("UPDATE ledger_head SET size = 'x'", None),
        ("UPDATE ledger_head SET size = 2.5", None),
        ("UPDATE ledger_head SET size = 9223372036854775807", None),
        ("UPDATE ledger_head SET size = -8", None),
        ("UPDATE ledger_head SET note = CAST(note AS BLOB)", None),
        ("UPDATE ledger_head SET note = CAST(x'ff80' AS TEXT)", None),
        ("UPDATE ledger_head SET note = note || hex(zeroblob(2000000))", None),
        ("UPDATE ledger_head SET origin = 5.5", None),
        ("UPDATE ledger_head SET origin = CAST(origin AS BLOB)", None),
    ],
)
def test_a_cell_of_another_type_is_found_where_it_is(ledger: Path, statement: str, index: int | None) -> None:
    report = altered(ledger, statement)
    assert index in {finding.index for finding in report.findings}, report.findings


@pytest.mark.parametrize(("body", "index"), [(DEEP, 2), (DEEP, 0), (NO_KEY, 0), (b"[]", 0), (b'"\\ud800"', 3)])
def test_a_body_that_is_no_entry_is_found_though_its_hash_was_redone(ledger: Path, body: bytes, index: int) -> None:
    statement = 'UPDATE ledger_entries SET body = ?, leaf_hash = ? WHERE "index" = ?'
    report = altered(ledger, statement, body, tree.leaf_hash(body), index)
    # The smallest subtree in which it shows is a pair.
    assert index & ~1 in {finding.index for finding in report.findings}, report.findings
