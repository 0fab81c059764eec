"""`credbroker task`: what an orchestrator does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from broker.cli.closing import require_closed
from broker.cli.declaration import declare, read_declaration
from broker.cli.options import Caller, DurationType, lifetime_option, limit_option, remote, span
from broker.cli.output import note, show, show_list
from broker.cli.paging import take
from broker.cli.render import plain
from broker.model.task import Environment, TaskState
from broker.system import system_clock
from broker.v1 import orchestrator_service_pb2 as pb
from broker.v1 import task_pb2
from broker.wire.tasks import declaration_to_wire
from broker.wire.times import instant_to_wire

_COLUMNS = ("task_id", "state", "purpose", "environment", "owner", "deadline", "leases_issued")


@click.group()
def task() -> None:
    """Declare, show, extend and end tasks. For workloads of the group "orchestrators"."""


@task.command()
@click.option(
    "--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A TOML or JSON declaration."
)
@click.option("--owner", help="Who answers for it.")
@click.option("--purpose", help="A code such as triage-issues.")
@click.option("--environment", type=click.Choice([choice.value for choice in Environment]), help="Where it works.")
@click.option("--agent", "agents", multiple=True, metavar="SPIFFE-ID", help="A workload that works on it. Repeatable.")
@click.option("--tool", "tools", multiple=True, metavar="RESOURCE#TOOL", help="A tool it needs. Repeatable.")
@click.option(
    "--constraint",
    "constraints",
    multiple=True,
    metavar="TOOL:/PATH:OP:VALUE",
    help="A bound on arguments. Repeatable.",
)
@lifetime_option("Its deadline, from now.")
@click.option("--risk-threshold", type=click.IntRange(0, 100), help="The highest risk score to accept.")
@click.option("--request-id", help="The same request under the same id gives the same task again.")
@remote
def create(caller: Caller, file: Path | None, **flags: Any) -> None:  # noqa: ANN401 (options)
    """Declare a task: the most that its credentials may be good for.

    A file has the names of the options (agents, tools and constraints in the plural); an option beats the file.

    \b
    credbroker task create --owner team-web --purpose triage-issues --environment dev \\
      --agent spiffe://example.org/agent/researcher \\
      --tool https://repo.example.org#read_file \\
      --constraint read_file:/repo:eq:acme/web --lifetime 1h
    """
    typed = {name: value for name, value in flags.items() if value not in (None, ())}
    given = {**(read_declaration(file) if file else {}), **typed}
    request = declaration_to_wire(declare(given), system_clock(), given.get("request_id", ""))
    from broker.cli.calls import as_orchestrator

    with as_orchestrator(caller) as broker:
        show(plain(broker.CreateTask(request, timeout=caller.timeout)))


@task.command()
@click.argument("task_id", metavar="TASK")
@remote
def get(caller: Caller, task_id: str) -> None:
    """Show a task.

    \b
    credbroker task get 0198f3c2-7b1e-7c11-9d3a-5b1c2f7d9e40
    """
    from broker.cli.calls import as_orchestrator

    with as_orchestrator(caller) as broker:
        show(plain(broker.GetTask(pb.GetTaskRequest(task_id=task_id), timeout=caller.timeout)))


@task.command("list")
@click.option("--state", type=click.Choice([choice.value for choice in TaskState]), help="Only tasks in this state.")
@limit_option
@remote
def list_tasks(caller: Caller, state: str | None, limit: int) -> None:
    """List tasks, newest first.

    \b
    credbroker task list --state active
    """
    from broker.cli.calls import as_orchestrator

    with as_orchestrator(caller) as broker:

        def page(size: int, token: str) -> tuple[list[task_pb2.Task], str]:
            request = pb.ListTasksRequest(state=_state(state), page_size=size, page_token=token)
            answer = broker.ListTasks(request, timeout=caller.timeout)
            return list(answer.tasks), answer.next_page_token

        tasks, more = take(limit, page)
    show_list("tasks", [plain(found) for found in tasks], _COLUMNS, more=more)
    if more:
        note(f"there are more: --limit {limit * 10}")


def _state(word: str | None) -> task_pb2.TaskState.ValueType:
    return task_pb2.TaskState.Value(f"TASK_STATE_{(word or 'unspecified').upper()}")


@task.command()
@click.argument("task_id", metavar="TASK")
@lifetime_option("Its new deadline, from now.", required=True)
@remote
def extend(caller: Caller, task_id: str, lifetime: timedelta) -> None:
    """Move the deadline of an active task to a later instant.

    \b
    credbroker task extend 0198f3c2-7b1e-7c11-9d3a-5b1c2f7d9e40 --lifetime 2h
    """
    from broker.cli.calls import as_orchestrator

    request = pb.ExtendTaskRequest(task_id=task_id, deadline=instant_to_wire(system_clock() + lifetime))
    with as_orchestrator(caller) as broker:
        show(plain(broker.ExtendTask(request, timeout=caller.timeout)))


@task.command()
@click.argument("task_id", metavar="TASK")
@click.option(
    "--outcome",
    type=click.Choice([state.value for state in TaskState if state is not TaskState.ACTIVE]),
    required=True,
    help="How it ended.",
)
@click.option("--barrier", is_flag=True, help="Return when no verifier can accept its credentials any more.")
@click.option("--within", type=DurationType(), metavar="DURATION", help="With --barrier: wait no longer than this.")
@remote
def end(caller: Caller, *, task_id: str, outcome: str, barrier: bool, within: timedelta | None) -> None:
    """End a task: all of its credentials are dead.

    \b
    credbroker task end 0198f3c2-7b1e-7c11-9d3a-5b1c2f7d9e40 --outcome completed --barrier
    """
    from broker.cli.calls import as_orchestrator

    request = pb.EndTaskRequest(task_id=task_id, outcome=_state(outcome), barrier=barrier, barrier_within=span(within))
    with as_orchestrator(caller) as broker:
        answer = broker.EndTask(request, timeout=caller.timeout)
    closing = {"closing": plain(answer.closing)} if barrier else {}
    show({**plain(answer.task), "rule_index": answer.index, **closing})
    if barrier:
        require_closed(answer.closing)
