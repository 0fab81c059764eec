"""`credbroker doctor`: what is wrong here, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click

from broker.cli.failure import Stop
from broker.cli.findings import Finding, look
from broker.cli.options import Caller, remote
from broker.cli.output import printable, show_list, wants_json
from broker.system import system_clock


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="CREDBROKER_CONFIG",
    show_envvar=True,
    help="A broker's configuration: look at all that it names.",
)
@remote
def doctor(caller: Caller, config: Path | None) -> None:
    """Look for what is wrong: with a broker's deployment, or with a client's way to its broker. Exits 1 if anything is.

    With --config: the configuration, the broker's SVID and bundles, keys, policy, database, ledger, ports, and whether
    issuers can be reached. With an address (--address, CREDBROKER_ADDRESS): our own identity, and whether the broker
    can be reached, takes it, and serves; with several addresses, each of them. Nothing is changed; a broker may run
    meanwhile.

    \b
    credbroker doctor --config /etc/credbroker/broker.toml
    CREDBROKER_ADDRESS=broker.example.org:8443 CREDBROKER_SVID_DIR=/run/svid credbroker doctor
    """
    findings = [*(() if config is None else _of_broker(config)), *_of_client(caller, alone=config is None)]
    documents = [finding.document() for finding in findings]
    if wants_json():
        show_list("findings", documents, ())
    else:
        for finding in findings:
            click.echo(printable(_line(finding)))
    problems = sum(bool(finding.problem) for finding in findings)
    if problems:
        raise Stop(f"problems: {problems}")


def _of_broker(config: Path) -> Iterator[Finding]:
    from broker import logs
    from broker.cli.examining import examine_broker
    from broker.config.settings import load
    from broker.config.table import ConfigError

    logs.configure("CRITICAL")  # the findings say it
    yield look("configuration", lambda: f"{config}: {load(config).issuer}")
    try:
        settings = load(config)
    except ConfigError:
        return
    yield from examine_broker(settings, system_clock)


def _of_client(caller: Caller, *, alone: bool) -> Iterator[Finding]:
    """Look at our identity and the way to the broker; beside a broker's deployment, only if an address is told."""
    from broker.cli.health import serves
    from broker.model.errors import Hints, Reason, Refusal
    from broker.sdk.connect.diagnosis import diagnose
    from broker.sdk.connect.endpoint import Endpoint

    try:
        endpoint = Endpoint.of(caller.address, caller.svid_dir)
    except Refusal as refusal:
        if alone:
            yield Finding(subject="client", problem=refusal.message, next=refusal.hints.next)
        return
    yield look("client identity", lambda: _kind(endpoint.credentials()))
    try:
        credentials = endpoint.credentials()
    except Refusal:
        return

    def reach(address: str) -> str:
        found = diagnose(address, credentials)
        if found is not None:
            raise found.refusal
        if not serves(address, credentials):
            raise Refusal(
                Reason.UNAVAILABLE,
                f"the broker at {address} does not serve just now",
                Hints(next="its log says why (health.not_serving), unless it is about to stop"),
            )
        return f"{address}: TLS works both ways, and it serves"

    several = len(endpoint.addresses) > 1
    for address in endpoint.addresses:
        yield look(f"broker {address}" if several else "broker", partial(reach, address))


def _kind(credentials: object) -> str:
    return getattr(credentials, "where", "") or "a token in a file, over TLS"


def _line(finding: Finding) -> str:
    """Write a finding in one line."""
    state = "problem" if finding.problem else "ok"
    remedy = f" -> {finding.next}" if finding.next else ""
    return f"{state:<8} {finding.subject}: {finding.problem or finding.found}{remedy}"
