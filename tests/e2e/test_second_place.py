"""A broker that copies its checkpoints to a second place: killed, with a place that hangs, and stopped in the end."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from broker.jobs.checkpoint_copy import FILE
from broker.sandbox.broker import prepare, running

SECONDS = 60


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A deployment that copies to this folder, killed when the first copy was asked for, which is due by now."""
    place = tmp_path / "second"
    place.mkdir()
    with prepare(tmp_path).configuration.open("a", encoding="utf-8") as configuration:
        configuration.write('\n[ledger]\ncopy_checkpoints_to = "second"\n')
    with running(tmp_path) as broker:
        broker.begin_task()
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
    with closing(sqlite3.connect(tmp_path / "broker.db")) as database:
        assert database.execute("UPDATE effects SET due_at = 0").rowcount == 1
        database.commit()
    return place


def test_what_was_asked_for_before_a_kill_is_done_in_the_next_life(tmp_path: Path, place: Path) -> None:
    with running(tmp_path) as broker:
        until = time.monotonic() + SECONDS
        while not (place / FILE).exists():
            assert time.monotonic() < until
            assert broker.begin_task()
    assert (place / FILE).read_text(encoding="utf-8").startswith("broker.example.org/ledger\n")


def test_a_place_that_hangs_keeps_a_broker_neither_from_serving_nor_from_stopping(tmp_path: Path, place: Path) -> None:
    os.mkfifo(place / FILE)  # nobody ever writes to it
    with running(tmp_path) as broker:
        until = time.monotonic() + SECONDS
        while tried(tmp_path) == 0:
            assert time.monotonic() < until
            assert broker.begin_task()
        for _ in range(20):
            assert broker.issue(1)
        began = time.monotonic()
    assert time.monotonic() - began < SECONDS / 2
    assert "Traceback" not in (tmp_path / "broker.log").read_text(encoding="utf-8")


def tried(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "broker.db")) as database:
        (number,) = database.execute("SELECT tried FROM effects").fetchone()
    return int(number)
