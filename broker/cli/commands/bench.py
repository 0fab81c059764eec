"""`credbroker bench`: measures a broker. Compare figures of one run only: machines differ, and so do their moods."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from broker.cli.bench.options import Given, Home, deployment, folder, repeated, several, under_load
from broker.cli.output import output_option, show

if TYPE_CHECKING:
    from broker.cli.bench.rounds import Load
    from broker.sandbox.broker import Broker

_TOKENS = 500


@click.group()
def bench() -> None:
    """Measure a broker: real processes, mutual TLS, durable commits.

    Without --address each bench starts a broker of its own, with the sample policies, SQLite, and quotas out of the
    way. Ratios compare what was measured by turns in one run; they are worth more than the figures beside them. Beside
    each stands what a request costs the server's processor, which a busy machine changes least.
    """
    signal.signal(signal.SIGTERM, _stop)


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    """End as by Ctrl-C: what was started is stopped, and what was made is removed."""
    raise KeyboardInterrupt


@contextmanager
def _broker(directory: Path, given: Given | None) -> Iterator[Broker]:
    from broker.sandbox.broker import running

    if given is not None:
        yield given.broker()
        return
    with running(directory, "broker.cli.bench.daemon") as own:
        yield own


@bench.command()
@under_load
@deployment
@several("--workers", "More than one: compare so many with one. On PostgreSQL they are brokers.")
def issue(*, home: Home, given: Given | None, load: Load) -> None:
    """Measure issuing, by turns with empty RPCs through the same connections, if the broker is the bench's own.

    With --workers, by turns with one worker on a database of its own, over 16 connections or more; the ledger is
    verified afterwards.

    \b
    credbroker bench issue --concurrency 1 --dir /dev/shm -o json
    credbroker bench issue --workers 2 --database postgresql -o json
    credbroker bench issue --address broker.example.org:8443 --svids ./svids --tool https://repo.example#read_file
    """
    from broker.cli.bench.issuing import measure, measure_shared
    from broker.cli.bench.measure import fsync_ms

    if given is not None:
        with folder() as directory:
            show(measure(given.broker(), load, directory))
        return
    with home.clusters() as (directory, new):
        disk, alone = {"fsync_ms": fsync_ms(directory)}, new(1)
        alone.start()
        if home.most_brokers == 1:
            show(measure(alone.brokers[0], load, directory) | disk)
            return
        together = new(home.most_brokers)
        together.start()
        show(measure_shared(alone, together, load, directory) | disk)


@bench.command()
@under_load
@deployment
def renew(*, given: Given | None, load: Load) -> None:
    """Measure renewing, by turns with issuing.

    \b
    credbroker bench renew -o json
    """
    from broker.cli.bench.renewing import measure

    with folder() as directory, _broker(directory, given) as broker:
        show(measure(broker, load, directory))


@bench.command()
@click.option("--tokens", type=click.IntRange(1, 5_000), default=_TOKENS, show_default=True, help="How many.")
@repeated(9)
@deployment
def verify(*, given: Given | None, tokens: int, rounds: int) -> None:
    """Measure the verifier on real tokens: never seen, seen before, and beside a bare ES256 verification.

    \b
    credbroker bench verify -o json
    """
    from broker.cli.bench.verifying import measure
    from broker.sdk.connect.endpoint import Endpoint
    from broker.sdk.verify.verifier import Verifier
    from broker.sdk.verify.watching import watching

    with folder() as directory, _broker(directory, given) as broker:
        issued = broker.issue(tokens)
        endpoint = Endpoint.of(broker.address, broker.svids / "verifier")
        with watching(Verifier(broker.resource), endpoint) as verifier:
            show(measure(verifier, issued, broker.tool, broker.agent, rounds))


@bench.command()
@click.option("--verifiers", type=click.IntRange(1), default=100, show_default=True, help="Connected verifiers.")
@click.option("--leases", type=click.IntRange(5), default=1_000_000, show_default=True, help="Live, in large tenants.")
@repeated(100)
@deployment
@several("--brokers", "Brokers on one database, workers on a file; the verifiers are shared out to them.")
def revoke(*, home: Home, given: Given | None, verifiers: int, leases: int, rounds: int) -> None:
    """Measure how soon verifiers refuse what is revoked, and how soon the barrier says that all of them do.

    On a broker of the bench's own also: whether the number of the leases matters that are revoked, and how the barrier
    does in a flood of other calls, and right after a restart.

    \b
    credbroker bench revoke -o json
    credbroker bench revoke --verifiers 1000 --brokers 2 --database postgresql -o json
    """
    from broker.cli.bench.fleet import fleet
    from broker.cli.bench.mass import fill_tenants, measure_mass
    from broker.cli.bench.revoking import measure, measure_flooded, measure_started

    if given is not None:
        with folder() as directory, fleet([broker := given.broker()], verifiers, directory) as watchers:
            show(measure([broker], watchers, rounds))
        return
    with home.clusters() as (directory, new):
        cluster = new(home.most_brokers)
        cluster.start()  # for a moment: whoever lives next knows then that nobody has listened before
        cluster.stop()
        filled = fill_tenants(cluster.deployment, leases)
        cluster.start()
        with fleet(cluster.brokers, verifiers, directory) as watchers:
            figures = measure(cluster.brokers, watchers, rounds) | measure_mass(cluster.brokers)
            figures |= measure_flooded(cluster.brokers, watchers, rounds, directory)
            show({**figures, **measure_started(cluster, watchers, rounds), **filled})


@bench.command()
@click.option("--leases", type=click.IntRange(1), default=1_000_000, show_default=True, help="Live leases.")
@click.option("--rules", type=click.IntRange(0), default=10_000, show_default=True, help="Revocations that matter.")
@repeated(9)
@output_option
def scale(leases: int, rules: int, rounds: int) -> None:
    """Measure start-up and memory with many live leases and revocations, by turns with an empty database.

    \b
    credbroker bench scale --leases 1000000 -o json
    """
    from broker.cli.bench.scaling import measure

    with ExitStack() as stack:
        empty, full = (stack.enter_context(folder()) for _ in range(2))
        show(measure(empty, full, leases, rules, rounds))
