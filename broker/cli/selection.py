"""Selector options: what a revocation, a lock or a list of leases covers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import click
from click.core import ParameterSource

from broker.cli.notation import parse_tool
from broker.model import selector
from broker.model.principal import ANY_TENANT
from broker.model.selector import Target
from broker.v1.selector_pb2 import Selector
from broker.wire.selectors import selector_to_wire

_NAMED = [target.value for target in Target if target is not Target.ALL]  # each the name of its option


def selector_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the selector options; the command gets a `Selector` or None as `selector`."""

    @functools.wraps(command)
    @click.pass_context
    def run(ctx: click.Context, /, *, tenant: str | None, everything: bool, **rest: Any) -> object:  # noqa: ANN401 (options)
        named = {name: value for name in _NAMED if (value := rest.pop(name))}
        typed = ctx.get_parameter_source("tenant") is ParameterSource.COMMANDLINE
        return command(selector=_selector(named, tenant, everything=everything, typed=typed), **rest)

    for option in (
        click.option(
            "--tenant", envvar="CREDBROKER_TENANT", show_envvar=True, help="Within this tenant; alone: all of it."
        ),
        click.option("--all", "everything", is_flag=True, help="Everything of --tenant, or of every tenant."),
        click.option("--tool", metavar="RESOURCE#TOOL", help="Every lease that grants this tool."),
        click.option("--agent", metavar="SPIFFE-ID", help="Every lease that this workload holds."),
        click.option("--task", metavar="TASK", help="Every lease of this task."),
        click.option("--lease", metavar="LEASE", help="This lease."),
    ):
        run = option(run)
    return run


def _selector(named: Mapping[str, str], tenant: str | None, *, everything: bool, typed: bool) -> Selector | None:
    if len(named) + everything > 1:
        raise click.UsageError("name one of --lease, --task, --agent, --tool and --all")
    if everything:
        return _to_wire(tenant or ANY_TENANT, Target.ALL)
    if not named:
        # A tenant from the environment confines; only one that was typed is a target.
        return _to_wire(tenant, Target.ALL) if tenant and typed else None
    if not tenant:
        raise click.UsageError("name the tenant as well: --tenant, or CREDBROKER_TENANT")
    ((name, value),) = named.items()
    if name == "tool":
        _check_tool(value)
    return _to_wire(tenant, Target(name), value)


def _to_wire(tenant: str, target: Target, value: str = "") -> Selector:
    return selector_to_wire(selector.Selector(tenant, target, value))


def _check_tool(text: str) -> None:
    try:
        parse_tool(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--tool") from None


def required(selector: Selector | None) -> Selector:
    """Insist on a selector.

    Raises:
        click.UsageError: none was named.
    """
    if selector is None:
        raise click.UsageError("say what it covers: --lease, --task, --agent, --tool, --tenant or --all")
    return selector
