"""`credbroker bench`: measures a broker. Compare figures of one run only: machines differ, and so do their moods."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from broker.cli.output import output_option, show


@click.group()
def bench() -> None:
    """Measure a broker: real processes, mutual TLS, durable commits."""


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="credbroker-bench-") as directory:
        yield Path(directory)


@bench.command()
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="Load processes.")
@click.option("--concurrency", type=click.IntRange(1), default=128, show_default=True, help="Calls at a time, in each.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Of each kind.")
@click.option("--seconds", type=click.FloatRange(0.1), default=2.0, show_default=True, help="How long each round is.")
@output_option
def issue(processes: int, concurrency: int, rounds: int, seconds: float) -> None:
    """Measure issuing, beside empty RPCs."""
    from broker.cli.bench import broker as brokers
    from broker.cli.bench.issuing import Load, measure

    load = Load(processes=processes, concurrency=concurrency, rounds=rounds, seconds=seconds)
    with _folder() as directory, brokers.running(directory) as running:
        what = {"task_id": running.begin_task(), "resource": brokers.RESOURCE, "tool": brokers.TOOL}
        show(measure(running.environment("researcher"), what, load, directory, running.pid))
