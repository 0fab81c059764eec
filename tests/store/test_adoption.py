"""A ledger that was adopted: one tree, another name, and everything from before dead."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from broker.audit import checkpoint
from broker.audit.effects import AnnouncedKey
from broker.audit.note import NoteSigner
from broker.audit.proof import verify_inclusion
from broker.keystore.folder import create_keys
from broker.lease import lock
from broker.lease.activation import keys_announced
from broker.lease.release import revoke_token
from broker.lease.single_use import use_once
from broker.lease.token import Issued
from broker.model.errors import Reason, Refusal
from broker.model.lease import LeaseState
from broker.model.principal import Once
from broker.model.task import Task
from broker.store import adoption, leases, ledger, locks, migrate, proofs, register, tasks, verification
from broker.store.database import open_database
from broker.store.ledger import LedgerMismatch
from broker.store.marks import Marks
from broker.system import uuid7
from tests.support import world
from tests.support.token_keys import token_keys
from tests.support.world import OPERATOR, ORIGIN, START, ManualClock, World, note_signer, opened

OTHER = f"{ORIGIN}.2"
NEW_KEY = AnnouncedKey(kid="k2", x="x", y="y", signs_from=START, until=START + timedelta(days=30))


def adopt(url: str, key: NoteSigner, clock: ManualClock, marks: Marks) -> adoption.Plan:
    database = open_database(url)
    mark = marks.read()
    known = [] if mark is None else [mark]
    with database.transaction() as connection:
        intended = adoption.plan(connection, key, known)
    marks.write(adoption.adopt(database, key, known, "restored", [NEW_KEY], clock, uuid7).note)
    database.close()
    return intended


@dataclass
class Adopted:
    """A ledger that was adopted after a task had a lease, and what adopting it was to do."""

    url: str
    folder: Path
    key: NoteSigner
    clock: ManualClock
    task: Task
    issued: Issued
    intended: adoption.Plan

    def opened(self) -> AbstractAsyncContextManager[World]:
        return opened(self.url, clock=self.clock, note_key=self.key, mark_dirs=[self.folder])


@pytest.fixture
async def adopted(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Adopted:
    key, clock = note_signer(), ManualClock()
    async with opened(database_url, clock=clock, note_key=key, mark_dirs=[tmp_path]) as old:
        create_keys(tmp_path / "keys", clock())
        await keys_announced(old.desk, token_keys(old, tmp_path / "keys"))
        task = await old.task()
        issued = await old.issue(task, explanation="because")
        await old.renew(issued)
    renamed = NoteSigner(OTHER, key._key)
    clock.move(timedelta(minutes=1))
    intended = adopt(database_url, renamed, clock, Marks([tmp_path], key.vkey))
    monkeypatch.setattr(world, "ORIGIN", OTHER)
    return Adopted(database_url, tmp_path, renamed, clock, task, issued, intended)


async def test_nothing_from_before_lives_and_everything_is_locked(adopted: Adopted) -> None:
    async with adopted.opened() as new:
        database = new.desk.database
        found = await database.read(lambda connection: leases.fetch(connection, [adopted.issued.lease.id]))
        assert found[adopted.issued.lease.id].state(adopted.clock()) is LeaseState.REVOKED
        ended = await database.read(lambda connection: tasks.fetch(connection, [adopted.task.id]))
        assert not ended[adopted.task.id].is_live(adopted.clock())
        with pytest.raises(Refusal) as refused:
            await new.renew(adopted.issued)
        assert refused.value.reason is Reason.LEASE_NOT_LIVE
        with pytest.raises(Refusal) as refused:
            await new.issue(await new.task())
        assert refused.value.reason is Reason.LOCKED
    report = verification.verify(adopted.url, str(adopted.key.vkey))
    assert report.ok, report.findings


async def test_who_came_after_the_backup_is_waited_for_where_the_register_was_restored_as_well(
    adopted: Adopted,
) -> None:
    database = open_database(adopted.url)
    restored = register.glance(database) if database.is_remote else []  # that of a file is beside it
    database.close()
    assert [(each.id, each.verifiers) for each in restored] == [(register.STRANGERS, {"*": 1})] * database.is_remote


async def test_the_keys_of_before_are_withdrawn_and_the_new_ones_alone_are_announced(adopted: Adopted) -> None:
    async with adopted.opened() as new:
        announced = new.follower.in_force.announced
        assert announced.keys == (NEW_KEY,)
        keys = token_keys(new, adopted.folder / "keys")
        (before,) = keys.keystore.keys.signers
        assert announced.withdrawn == (before,)
        await keys.keystore.rotate(announced)
        assert await keys_announced(new.desk, keys), "who had them makes another"
        assert before not in keys.keystore.keys.signers
    assert verification.verify(adopted.url, str(adopted.key.vkey)).ok


async def test_an_adopted_ledger_is_one_tree_whose_indexes_pass_over_what_was_lost(adopted: Adopted) -> None:
    highest, first = adopted.intended.highest, adopted.intended.first_index
    assert first > highest + 999_999
    async with adopted.opened() as new:
        database = new.desk.database
        (active,) = await database.read(lambda connection: locks.active(connection, adopted.clock()))
        await lock.unlock(new.desk, OPERATOR, active.id)
        fresh = await new.issue(await new.task())
        assert fresh.lease.index > first
        for index in (0, adopted.issued.lease.index, first, fresh.lease.index):
            proof = await database.read(partial(proofs.prove_inclusion, index=index))
            assert proof is not None
            frontier = proof.head.frontier
            assert verify_inclusion(proof.leaf_hash, proof.leaf, frontier.size, proof.hashes, frontier.root())
        assert await database.read(partial(proofs.prove_inclusion, index=highest + 5)) is None
    async with adopted.opened() as new:
        await new.issue(await new.task())
    report = verification.verify(adopted.url, str(adopted.key.vkey))
    assert report.ok, report.findings


async def test_what_is_good_for_one_time_and_was_issued_before_is_taken_for_used(adopted: Adopted) -> None:
    now = adopted.clock()
    later = now + timedelta(minutes=5)
    async with adopted.opened() as new:
        with pytest.raises(Refusal) as refused:
            await use_once(new.desk, Once(name="jti-1", issued_at=now - timedelta(minutes=2), until=later))
        assert refused.value.reason is Reason.ASSERTION_REPLAYED
        await use_once(new.desk, Once(name="jti-2", issued_at=now + timedelta(seconds=1), until=later))


async def test_a_name_that_the_ledger_had_is_no_new_one(tmp_path: Path) -> None:
    url, key, clock = str(tmp_path / "broker.db"), note_signer(), ManualClock()
    migrate.upgrade(url)
    async with opened(url, clock=clock, note_key=key, mark_dirs=[tmp_path]) as before:
        await before.task()
    with pytest.raises(LedgerMismatch, match=r"never had, such as `broker\.example/ledger\.2`"):
        adopt(url, key, clock, Marks([tmp_path], key.vkey))


async def test_an_altered_ledger_is_not_adopted(tmp_path: Path) -> None:
    url, key, clock = str(tmp_path / "broker.db"), note_signer(), ManualClock()
    migrate.upgrade(url)
    async with opened(url, clock=clock, note_key=key, mark_dirs=[tmp_path]) as before:
        await before.issue(await before.task())
    with sqlite3.connect(url) as connection:
        connection.execute("UPDATE ledger_entries SET body = replace(body, 'alice', 'mallo') WHERE \"index\" = 1")
    connection.close()
    with pytest.raises(LedgerMismatch, match="is no bytes"):
        adopt(url, NoteSigner(OTHER, key._key), clock, Marks([tmp_path], key.vkey))


async def test_rows_that_were_altered_are_made_anew(tmp_path: Path) -> None:
    url, key, clock = str(tmp_path / "broker.db"), note_signer(), ManualClock()
    migrate.upgrade(url)
    async with opened(url, clock=clock, note_key=key, mark_dirs=[tmp_path]) as before:
        await before.release(await before.issue(await before.task()))
    with sqlite3.connect(url) as connection:
        connection.execute("DELETE FROM rules")
        connection.execute("UPDATE leases SET grants = '[]'")
    connection.close()
    renamed = NoteSigner(OTHER, key._key)
    adopt(url, renamed, clock, Marks([tmp_path], key.vkey))
    report = verification.verify(url, str(renamed.vkey))
    assert report.ok, report.findings


async def test_a_token_of_ours_beyond_the_ledgers_end_stops_all_signing(tmp_path: Path) -> None:
    url, key, clock = str(tmp_path / "broker.db"), note_signer(), ManualClock()
    migrate.upgrade(url)
    async with opened(url, clock=clock, note_key=key) as lost:
        task = await lost.task()
        late = [await lost.issue(task) for _ in range(5)][-1]
    keys = lost.keys
    other = str(tmp_path / "other.db")
    migrate.upgrade(other)
    async with opened(other, clock=clock, note_key=key) as behind:
        task = await behind.task()
        with pytest.raises(Refusal) as refused:
            await revoke_token(behind.desk, keys, late.token)
        assert refused.value.reason is Reason.LEDGER_UNAVAILABLE
        with pytest.raises(Refusal) as refused:
            await behind.issue(task)
        assert refused.value.reason is Reason.LEDGER_UNAVAILABLE


async def test_a_checkpoint_of_ours_that_a_verifier_shows_stops_all_signing(tmp_path: Path) -> None:
    url, key, clock = str(tmp_path / "broker.db"), note_signer(), ManualClock()
    migrate.upgrade(url)
    async with opened(url, clock=clock, note_key=key) as only:
        task = await only.task()
        forged = note_signer().sign(checkpoint.format(checkpoint.Checkpoint(ORIGIN, 1_000, b"x" * 32)))
        only.desk.ledger._follower.shown(forged)
        await only.issue(task)
        head = await only.desk.database.read(ledger.head)
        assert head is not None
        only.desk.ledger._follower.shown(head.note)
        await only.issue(task)
        only.desk.ledger._follower.shown(key.sign(checkpoint.format(checkpoint.Checkpoint(ORIGIN, 1_000, b"x" * 32))))
        with pytest.raises(Refusal) as refused:
            await only.issue(task)
        assert refused.value.reason is Reason.LEDGER_UNAVAILABLE
