"""The broker never signs behind what it has signed: a database that is put back, swapped, cut or deleted is refused."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from broker.audit.note import NoteSigner
from broker.model.errors import Reason, Refusal
from broker.model.task import Task
from broker.store import migrate
from broker.store.ledger import LedgerMismatch
from broker.store.marks import FILE, Marks
from tests.support.world import ManualClock, World, note_signer, opened


@dataclass
class Deployment:
    """A broker's folder, with its marks beside the database."""

    folder: Path
    note_key: NoteSigner = field(default_factory=note_signer)
    clock: ManualClock = field(default_factory=ManualClock)

    @property
    def database(self) -> Path:
        return self.folder / "broker.db"

    @property
    def mark(self) -> Path:
        return self.folder / FILE

    async def live(self, task: Task | None = None, leases: int = 3) -> Task:
        async with self.opened() as world:
            task = task or await world.task()
            for _ in range(leases):
                await world.issue(task)
            return task

    def opened(self) -> AbstractAsyncContextManager[World]:
        return opened(
            str(self.database),
            clock=self.clock,
            note_key=self.note_key,
            mark_dirs=[self.folder, self.folder / "second"],
        )

    def backup(self) -> bytes:
        with sqlite3.connect(self.database) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        return self.database.read_bytes()

    def put(self, content: bytes | None) -> None:
        for file in self.folder.glob("broker.db*"):
            file.unlink()
        if content is not None:
            self.database.write_bytes(content)
        else:
            migrate.upgrade(str(self.database))


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    (tmp_path / "second").mkdir()
    migrate.upgrade(str(tmp_path / "broker.db"))
    return Deployment(tmp_path)


async def test_an_older_copy_of_the_database_is_refused_at_the_start(deployment: Deployment) -> None:
    task = await deployment.live()
    older = deployment.backup()
    await deployment.live(task)
    newest = deployment.backup()
    deployment.put(older)
    with pytest.raises(LedgerMismatch, match=r"behind: its ledger has 5 entries, and this broker has signed 8"):
        await deployment.live(task)
    deployment.put(newest)
    await deployment.live(task)


async def test_a_database_that_is_gone_is_not_begun_anew(deployment: Deployment) -> None:
    await deployment.live()
    deployment.put(None)
    with pytest.raises(LedgerMismatch, match="holds no ledger, and this broker has signed 5 entries"):
        await deployment.live()


async def test_another_history_of_the_same_key_is_a_fork(deployment: Deployment) -> None:
    await deployment.live()
    first = deployment.backup()
    deployment.put(None)
    shutil.copy(deployment.mark, deployment.folder / "kept")
    for mark in (deployment.mark, deployment.folder / "second" / FILE):
        mark.unlink()
    await deployment.live(leases=20)
    deployment.put(first)
    with pytest.raises(LedgerMismatch, match="behind"):
        await deployment.live()
    shutil.copy(deployment.folder / "kept", deployment.mark)
    (deployment.folder / "second" / FILE).unlink()
    await deployment.live()
    deployment.put(None)
    for mark in (deployment.mark, deployment.folder / "second" / FILE):
        mark.unlink()
    await deployment.live(leases=20)
    shutil.copy(deployment.folder / "kept", deployment.mark)
    (deployment.folder / "second" / FILE).unlink()
    with pytest.raises(LedgerMismatch, match="the history has forked"):
        await deployment.live()


@pytest.mark.parametrize("lost", ["first", "second", "both"])
async def test_a_mark_counts_from_whichever_place_is_left(deployment: Deployment, lost: str) -> None:
    task = await deployment.live()
    older = deployment.backup()
    await deployment.live(task)
    if lost in ("first", "both"):
        deployment.mark.unlink()
    if lost in ("second", "both"):
        (deployment.folder / "second" / FILE).unlink()
    deployment.put(older)
    with pytest.raises(LedgerMismatch, match="behind" if lost != "both" else "no mark of what this broker has signed"):
        await deployment.live(task)


async def test_a_mark_that_was_altered_is_told(deployment: Deployment) -> None:
    task = await deployment.live()
    deployment.mark.write_text(deployment.mark.read_text().replace("\n5\n", "\n4\n"))
    with pytest.raises(LedgerMismatch, match="is not a checkpoint signed by this broker's key"):
        await deployment.live(task)


async def test_a_mark_that_cannot_be_written_is_told_at_the_start(deployment: Deployment) -> None:
    (deployment.folder / "second").rmdir()
    with pytest.raises(LedgerMismatch, match=r"second/ledger.mark: the mark of the ledger cannot be written"):
        await deployment.live()


async def test_a_place_that_is_lost_under_a_running_broker_leaves_the_other_up_to_date(
    deployment: Deployment,
) -> None:
    task = await deployment.live()
    older = deployment.backup()
    async with deployment.opened() as world:
        deployment.mark.unlink()
        deployment.mark.mkdir()  # a file cannot be put in its place
        await world.issue(task)
    deployment.mark.rmdir()
    deployment.put(older)
    with pytest.raises(LedgerMismatch, match="the database is behind"):
        await deployment.live(task)


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(lambda start: [f'DELETE FROM ledger_entries WHERE "index" >= {start}'], id="entries cut"),
        pytest.param(lambda _start: ["UPDATE ledger_head SET size = size - 1"], id="size"),
        pytest.param(lambda _start: ["UPDATE ledger_head SET peaks = zeroblob(length(peaks))"], id="peaks"),
    ],
)
async def test_a_ledger_cut_under_a_running_broker_is_not_signed_again(
    deployment: Deployment, alter: Callable[[int], list[str]]
) -> None:
    async with deployment.opened() as world:
        task = await world.task()
        await world.issue(task)
        old = _read(deployment.database, "SELECT size, next_index, peaks, note FROM ledger_head")
        for _ in range(3):
            await world.issue(task)
        _write(
            deployment.database,
            "UPDATE ledger_head SET size = ?, next_index = ?, peaks = ?, note = ?",
            *old,
            then=alter(int(str(old[1]))) if alter(0)[0].startswith("DELETE") else alter(0),
        )
        await _refused(world, task)


async def test_a_file_that_was_deleted_or_replaced_under_a_running_broker_is_not_written_on(
    deployment: Deployment,
) -> None:
    async with deployment.opened() as world:
        task = await world.task()
        content = deployment.backup()
        away = deployment.folder / "away.db"
        deployment.database.rename(away)
        await _refused(world, task)
        deployment.database.write_bytes(content)
        await _refused(world, task)
        deployment.database.unlink()
        away.rename(deployment.database)
        await world.issue(task)


async def _refused(world: World, task: Task) -> None:
    with pytest.raises(Refusal) as refused:
        await world.issue(task)
    assert refused.value.reason is Reason.LEDGER_UNAVAILABLE, refused.value


def _read(database: Path, query: str) -> tuple[object, ...]:
    with sqlite3.connect(database) as connection:
        row: tuple[object, ...] = connection.execute(query).fetchone()
    connection.close()
    return row


def _write(database: Path, statement: str, *values: object, then: list[str]) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute(statement, values)
        for following in then:
            connection.execute(following)
    connection.close()


async def test_of_two_that_keep_one_mark_neither_puts_it_back(deployment: Deployment) -> None:
    await deployment.live()
    slow, older = Marks([deployment.folder], deployment.note_key.vkey), deployment.mark.read_text()
    await deployment.live()
    newer = deployment.mark.read_text()
    slow.move(older)
    slow.catch_up()
    assert deployment.mark.read_text() == newer
    deployment.mark.write_text(older)
    slow.move(newer)
    slow.catch_up()
    assert deployment.mark.read_text() == newer
