"""A checkpoint that somebody has kept shows what a ledger alone cannot: that it is an older copy, or another."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from broker.store import migrate, verification
from tests.support.deployment import Deployment, Scene

# Kept checkpoints tell an older copy, and another history.


async def test_a_kept_checkpoint_tells_an_older_copy_and_another_history(tmp_path: Path) -> None:
    url = str(tmp_path / "broker.db")
    migrate.upgrade(url)
    deployment = Deployment(url)
    async with deployment.opened() as world:
        await Scene.of(world)
    older, older_note = _copy(tmp_path, "older.db"), deployment.note()
    async with deployment.opened() as world:
        await Scene.of(world)
    newer_note, vkey = deployment.note(), str(deployment.note_key.vkey)

    alone = verification.verify(str(older), vkey)
    assert alone.ok
    assert any("--checkpoint" in unknown for unknown in alone.unknown())
    assert not verification.verify(str(older), vkey, kept=newer_note).ok
    with_kept = verification.verify(url, vkey, kept=older_note)
    assert (with_kept.ok, with_kept.unknown()) == (True, [])
    assert verification.verify(url, vkey, kept=newer_note).ok

    other = Deployment(str(tmp_path / "other.db"), note_key=deployment.note_key)
    migrate.upgrade(other.url)
    async with other.opened() as world:
        await Scene.of(world)
        await Scene.of(world)
    assert verification.verify(other.url, vkey).ok
    assert not verification.verify(other.url, vkey, kept=older_note).ok
    lines = older_note.split("\n")
    forged = "\n".join([lines[0], "3", *lines[2:]])
    with pytest.raises(ValueError, match="the kept checkpoint does not verify by the key"):
        verification.verify(url, vkey, kept=forged)


def _copy(folder: Path, name: str) -> Path:
    with sqlite3.connect(folder / "broker.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return Path(shutil.copy(folder / "broker.db", folder / name))
