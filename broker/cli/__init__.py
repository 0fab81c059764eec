"""The operator's hand: `credbroker`, which talks to the daemon through the SDK and keeps the house in order.

A command's module is imported when the command is used, and gRPC and SQL when it runs: `--help` is immediate.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from broker.cli import failure
from broker.cli.lazy import LazyGroup
from broker.model.errors import CannotStart, Refusal

_EPILOG = f"""\b
Exit codes:
{failure.exit_codes_text()}

\b
Environment:
  CREDBROKER_ADDRESS              the broker, as host:port; several with commas between
  CREDBROKER_SVID_DIR             the folder with svid.pem, key.pem and bundle.pem
  CREDBROKER_IDENTITY_TOKEN_FILE  or else a JWT to call with, and
  CREDBROKER_CA_FILE              the roots of the broker's certificate (files of another trust domain, too)
  SPIFFE_ENDPOINT_SOCKET          or else the socket of a SPIFFE Workload API, and
  CREDBROKER_TRUST_DOMAIN         the broker's trust domain, if it is not ours
  CREDBROKER_TENANT               the tenant that selectors are confined to
  NO_COLOR                        no colours, whatever the terminal

\b
First steps:
  credbroker dev --dir ./credbroker-dev
"""


_NO_TEXT = "surrogates not allowed"  # what Python says of octets of an argument that are not UTF-8, when they are sent


class _Root(LazyGroup):
    """The one place where a failure becomes a message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 (click's signature)
        """Run the command; say what went wrong on stderr, as JSON if that was asked for."""
        try:
            return super().invoke(ctx)
        except (Refusal, CannotStart, click.ClickException, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            ctx.exit(failure.report(ctx, error))
        except UnicodeEncodeError as error:
            if error.reason != _NO_TEXT:
                raise
            odd = ascii(error.object[error.start : error.start + 1]).strip("'")
            ctx.exit(failure.report(ctx, click.UsageError(f"an argument is not text in UTF-8: it holds `{odd}`", ctx)))


@click.command(
    cls=_Root,
    lazy={
        "bench": "Measure a broker: issue, verify, revoke, scale.",
        "completion": "Print a script that completes commands in your shell.",
        "credential": "Get, renew, release and inspect credentials.",
        "db": "Bring a database to the newest schema.",
        "demo": "Watch the whole life of a credential between real processes.",
        "dev": "Start a ready broker for development on this machine.",
        "doctor": "Look for what is wrong with a broker or the way to it, and say what to do.",
        "helper": "Give programs their credential in the form that they ask for.",
        "keys": "Create, list and rotate the broker's signing keys.",
        "lease": "See who holds what.",
        "ledger": "Read the ledger, and prove that nobody altered it.",
        "lock": "Stop new credentials for what a selector covers.",
        "policy": "Start and check a policy bundle.",
        "revoke": "Kill credentials: one, or everything a selector covers.",
        "run": "Give a command a credential for as long as it runs.",
        "serve": "Run the broker.",
        "svid": "Make and show X.509-SVIDs for development, without SPIRE.",
        "task": "Declare, show, extend and end tasks.",
    },
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="credbroker", prog_name="credbroker")
def cli() -> None:
    """Ephemeral credentials for AI agents.

    An agent proves who it is, names its task and the tools it needs, and gets a credential that lives minutes, works
    for those tools alone, and dies with the task.
    """


def main() -> None:
    """Run the command line and exit."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what gRPC's core has to say, its errors say again
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us, as in `<&-`
            setattr(sys, name, Path(os.devnull).open("r+", encoding="utf-8"))  # noqa: SIM115 (as long as we run)
    cli(prog_name="credbroker")
