"""`credbroker bench`: measures a broker. Compare figures of one run only: machines differ, and so do their moods."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.cli.notation import parse_tool
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


@dataclass(frozen=True, slots=True)
class _Given:
    """A deployment of the user's."""

    address: str
    svids: Path
    tool: str


def _deployment(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name a deployment; the command gets it as `given`."""

    @functools.wraps(command)
    def run(address: str | None, svids: Path | None, tool: str | None, **rest: Any) -> None:  # noqa: ANN401 (click's)
        if address is None and svids is None and tool is None:
            command(given=None, **rest)
        elif address is None or svids is None or tool is None:
            raise click.UsageError("--address, --svids and --tool belong together")
        else:
            command(given=_Given(address, svids, tool), **rest)

    for option in (
        click.option("--tool", metavar="RESOURCE#TOOL", help="Of that broker: a tool its policy lets the agent have."),
        click.option(
            "--svids",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="Of that broker: a folder with SVIDs `orchestrator`, `researcher`, `operator` and `verifier`.",
        ),
        click.option("--address", help="Measure this broker, as host:port, instead of one of its own."),
    ):
        run = option(run)
    return output_option(run)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="credbroker-bench-") as directory:
        yield Path(directory)


@contextmanager
def _broker(directory: Path, given: _Given | None) -> Iterator[Broker]:
    from broker.sandbox.broker import Broker, agent_of, running

    if given is None:
        with running(directory, "broker.cli.bench.daemon") as own:
            yield own
        return
    resource, name = parse_tool(given.tool)
    yield Broker(given.address, given.svids, agent_of(given.svids), resource, name)


def _rounds(default: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option("--rounds", type=click.IntRange(1), default=default, show_default=True, help="How often.")


def _under_load(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a load; the command gets it as `load`."""

    @functools.wraps(command)
    def run(processes: int, concurrency: int, rounds: int, seconds: float, **rest: Any) -> None:  # noqa: ANN401 (click's)
        from broker.cli.bench.rounds import Load

        command(load=Load(processes=processes, concurrency=concurrency, rounds=rounds, seconds=seconds), **rest)

    loaded: Callable[..., None] = run
    for option in (
        click.option("--seconds", type=click.FloatRange(0.1), default=2.0, show_default=True, help="Of each round."),
        _rounds(5),
        click.option("--concurrency", type=click.IntRange(1), default=256, show_default=True, help="Calls at a time."),
        click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="That call so many."),
    ):
        loaded = option(loaded)
    return loaded


@bench.command()
@_under_load
@_deployment
def issue(*, given: _Given | None, load: Load) -> None:
    """Measure issuing, by turns with empty RPCs through the same connection, if the broker is the bench's own.

    \b
    credbroker bench issue -o json
    credbroker bench issue --address broker.example.org:8443 --svids ./svids --tool https://repo.example#read_file
    """
    from broker.cli.bench.issuing import measure

    with _folder() as directory, _broker(directory, given) as broker:
        show(measure(broker, load, directory))


@bench.command()
@_under_load
@_deployment
def renew(*, given: _Given | None, load: Load) -> None:
    """Measure renewing, by turns with issuing.

    \b
    credbroker bench renew -o json
    """
    from broker.cli.bench.renewing import measure

    with _folder() as directory, _broker(directory, given) as broker:
        show(measure(broker, load, directory))


@bench.command()
@click.option("--tokens", type=click.IntRange(1, 5_000), default=_TOKENS, show_default=True, help="How many.")
@_rounds(9)
@_deployment
def verify(*, given: _Given | None, tokens: int, rounds: int) -> None:
    """Measure the verifier on real tokens: never seen, seen before, and beside a bare ES256 verification.

    \b
    credbroker bench verify -o json
    """
    from broker.cli.bench.verifying import measure
    from broker.sdk.connect.endpoint import Endpoint
    from broker.sdk.verify.verifier import Verifier
    from broker.sdk.verify.watching import watching

    with _folder() as directory, _broker(directory, given) as broker:
        issued = broker.issue(tokens)
        endpoint = Endpoint.of(broker.address, broker.svids / "verifier")
        with watching(Verifier(broker.resource), endpoint) as verifier:
            show(measure(verifier, issued, broker.tool, broker.agent, rounds))


@bench.command()
@click.option("--verifiers", type=click.IntRange(1), default=100, show_default=True, help="Connected verifiers.")
@click.option("--leases", type=click.IntRange(1), default=100_000, show_default=True, help="Live, in a large tenant.")
@_rounds(20)
@_deployment
def revoke(*, given: _Given | None, verifiers: int, leases: int, rounds: int) -> None:
    """Measure how soon verifiers refuse what is revoked, and, on a broker of its own, whether its number matters.

    \b
    credbroker bench revoke -o json
    """
    from broker.cli.bench.revoking import fill_tenants, measure, measure_mass
    from broker.sandbox.broker import prepare

    with _folder() as directory:
        if given is None:
            fill_tenants(prepare(directory), leases)
        with _broker(directory, given) as broker:
            figures = measure(broker, directory, verifiers, rounds)
            show(figures if given else {**figures, **measure_mass(broker), "leases": leases})


@bench.command()
@click.option("--leases", type=click.IntRange(1), default=1_000_000, show_default=True, help="Live leases.")
@click.option("--rules", type=click.IntRange(0), default=10_000, show_default=True, help="Revocations that matter.")
@_rounds(9)
@output_option
def scale(leases: int, rules: int, rounds: int) -> None:
    """Measure start-up and memory with many live leases and revocations, by turns with an empty database.

    \b
    credbroker bench scale --leases 1000000 -o json
    """
    from broker.cli.bench.scaling import measure

    with ExitStack() as stack:
        empty, full = (stack.enter_context(_folder()) for _ in range(2))
        show(measure(empty, full, leases, rules, rounds))
