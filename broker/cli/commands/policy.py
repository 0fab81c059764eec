"""`credbroker policy`: bundles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from broker.cli.failure import Stop
from broker.cli.output import output_option, printable, show, wants_json
from broker.policy.problems import Problem


@click.group()
def policy() -> None:
    """Start and check a policy bundle."""


@policy.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@output_option
def check(directory: Path) -> None:
    """Check a bundle as the broker does when it loads it; name every problem by file and line. Exits 1 if any.

    \b
    credbroker policy check ./bundle
    """
    from broker.config.policy_bundle import load
    from broker.policy.bundle import PolicyBundleError

    try:
        bundle = load(directory)
    except PolicyBundleError as error:
        _show_problems(directory, error.problems)
        raise Stop(f"problems: {len(error.problems)}; a broker would not take this bundle") from None
    show({"ok": True, "revision": bundle.revision, "policies": sorted(bundle.policies)})


def _show_problems(directory: Path, problems: Sequence[Problem]) -> None:
    """Print problems as compilers do, so that editors jump to them."""
    if wants_json():
        found = [{"file": problem.file, "line": problem.line, "reason": problem.reason} for problem in problems]
        show({"ok": False, "problems": found})
        return
    for problem in problems:
        click.echo(printable(f"{directory / problem.file}:{problem.line}: {problem.reason}"))


@policy.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@output_option
def init(directory: Path) -> None:
    """Write a sample bundle to start from.

    \b
    credbroker policy init ./bundle && credbroker policy check ./bundle
    """
    from broker.sandbox.sample import write_sample

    if directory.exists() and any(directory.iterdir()):
        raise Stop(f"`{directory}` is not empty: name a new folder")
    write_sample(directory)
    show({"directory": str(directory)})
