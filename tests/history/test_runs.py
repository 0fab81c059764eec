"""Runs with faults, whose histories must break no law: a few always, many in `make test-long`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from broker.store.verification import verify
from tests.history.laws import violations
from tests.history.nemesis import OF_BROKERS_ON_FILE, OF_BROKERS_ON_SERVER, OF_VERIFIERS, OF_WORKERS, Step, planned
from tests.history.playing import history, play
from tests.history.stage import TERMS, Stage, on_file, on_server
from tests.history.violation import report

_ON_SERVER, _ON_FILE, _WORKERS = range(100, 136), range(200, 206), range(300, 316)
_SECONDS = 20.0


def check(seed: int, steps: list[Step], stage: Stage) -> None:
    """Fail with all that is needed to understand a violation, and to see it again."""
    found, ledger = violations(history(stage, TERMS)), verify(stage.url)
    assert ledger.ok, ledger.findings
    plan = "\n".join(map(str, steps))
    assert not found, f"seed {seed}, with these faults:\n{plan}\n{report(found)}"


@pytest.mark.slow
@pytest.mark.postgres
async def test_three_brokers_on_one_postgresql_keep_the_laws_while_something_breaks(
    tmp_path: Path, postgresql_with_schema: Callable[[], str]
) -> None:
    steps = [
        Step(0.0, 1.0, "broker", 1, "killed"),
        Step(0.2, 1.5, "broker", 2, "wire cut one way"),
        Step(0.5, 0.5, "verifiers", 0, "restarted elsewhere"),
    ]
    with on_server(tmp_path, postgresql_with_schema()) as stage:
        await play(stage, 1, steps, verifiers=(2,))
        check(1, steps, stage)


@pytest.mark.slow
async def test_two_workers_on_a_file_keep_the_laws_while_something_breaks(tmp_path: Path) -> None:
    steps = [
        Step(0.0, 1.0, "broker", 0, "worker killed"),
        Step(0.5, 1.0, "verifiers", 0, "not answered"),
        Step(1.2, 1.0, "broker", 0, "clock ahead"),
    ]
    with on_file(tmp_path, workers=2) as stage:
        await play(stage, 2, steps, verifiers=(2,))
        check(2, steps, stage)


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.parametrize("seed", _ON_SERVER)
async def test_three_brokers_on_one_postgresql_keep_the_laws(
    seed: int, tmp_path: Path, postgresql_with_schema: Callable[[], str]
) -> None:
    steps = planned(seed, _SECONDS, 3, OF_BROKERS_ON_SERVER, 2, OF_VERIFIERS)
    with on_server(tmp_path, postgresql_with_schema()) as stage:
        await play(stage, seed, steps, verifiers=(2, 2))
        check(seed, steps, stage)


@pytest.mark.long
@pytest.mark.parametrize("seed", _ON_FILE)
async def test_a_broker_on_a_file_keeps_the_laws(seed: int, tmp_path: Path) -> None:
    steps = planned(seed, _SECONDS, 1, OF_BROKERS_ON_FILE, 2, OF_VERIFIERS)
    with on_file(tmp_path) as stage:
        await play(stage, seed, steps, verifiers=(2, 2))
        check(seed, steps, stage)


@pytest.mark.long
@pytest.mark.parametrize("seed", _WORKERS)
async def test_two_workers_on_a_file_keep_the_laws(seed: int, tmp_path: Path) -> None:
    steps = planned(seed, _SECONDS, 1, OF_WORKERS, 2, OF_VERIFIERS)
    with on_file(tmp_path, workers=2) as stage:
        await play(stage, seed, steps, verifiers=(2, 2))
        check(seed, steps, stage)


@pytest.mark.long
async def test_what_is_planted_in_a_run_is_found(tmp_path: Path) -> None:
    """Verifiers that lie, tokens that are good for any number of times, and a quota of more than was agreed."""
    with on_file(tmp_path, one_time=False) as stage:
        await play(stage, 3, [Step(15.0, 0.5, "broker", 0, "paused")], verifiers=(1,), deaf=True)
        terms = replace(TERMS, leases_per_task=1, active_tasks=1)
        broken = {violation.law for violation in violations(history(stage, terms))}
    assert {"barrier", "window", "once", "leases_per_task", "tasks_at_a_time"} <= broken
