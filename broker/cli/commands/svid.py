"""`credbroker svid`: identities for development."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import click

from broker.cli.options import lifetime_option
from broker.cli.output import output_option, show
from broker.identity.spiffe import SpiffeId, parse_spiffe_id
from broker.system import system_clock

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIRECTORY = click.Path(file_okay=False, path_type=Path)


@click.group()
def svid() -> None:
    """Make and show X.509-SVIDs for development, without SPIRE. Never use this CA in production."""


@svid.command()
@click.argument("directory", metavar="DIR", type=_DIRECTORY)
@click.option("--trust-domain", default="example.org", show_default=True, help="Whose identities it vouches for.")
@lifetime_option("How long the CA lives.", default="365d", show_default=True)
@output_option
def init(directory: Path, trust_domain: str, lifetime: timedelta) -> None:
    """Make a development CA.

    \b
    credbroker svid init ./svids
    """
    from broker.sandbox import authority

    root = _spiffe_id(f"spiffe://{trust_domain}")
    if root.path:
        raise click.BadParameter("a trust domain has no path", param_hint="--trust-domain")
    show({"bundle": str(authority.create(directory, trust_domain, lifetime, system_clock()))})


@svid.command()
@click.argument("directory", metavar="DIR", type=_DIRECTORY)
@click.argument("name")
@click.option("--id", "spiffe_id", required=True, metavar="SPIFFE-ID", help="Who it is.")
@click.option("--dns", "dns_names", multiple=True, help="A name that servers need. Repeatable.")
@lifetime_option("How long it lives.", default="24h", show_default=True)
@output_option
def issue(directory: Path, name: str, spiffe_id: str, dns_names: tuple[str, ...], lifetime: timedelta) -> None:
    """Issue an SVID into DIR/NAME: svid.pem, key.pem and bundle.pem.

    \b
    credbroker svid issue ./svids scribe --id spiffe://example.org/agent/scribe/one
    credbroker svid issue ./svids files --id spiffe://example.org/tool-server/files --dns localhost
    """
    from broker.sandbox import authority

    if not _NAME.fullmatch(name):
        raise click.BadParameter("use letters, digits, `.`, `_` and `-`", param_hint="NAME")
    folder = authority.issue(directory, name, _spiffe_id(spiffe_id), dns_names, lifetime, system_clock())
    show({"directory": str(folder), **authority.describe(folder, system_clock())})


def _spiffe_id(text: str) -> SpiffeId:
    try:
        return parse_spiffe_id(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


@svid.command("show")
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@output_option
def show_svid(file: Path) -> None:
    """Show what an SVID says, unverified: a PEM file, or the folder with svid.pem.

    \b
    credbroker svid show ./svids/researcher
    """
    from broker.sandbox import authority

    show(authority.describe(file, system_clock()))
