"""The demo's story of a stock MCP client at a guarded MCP server, scene by scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from broker.cli.demo.mcp_deployment import RESEARCHER, prepare
from broker.cli.demo.scene import Scene
from broker.cli.demo.stage import Stage, actor, opened
from broker.system import system_clock


@contextmanager
def set_up(
    directory: Path, *, notes: Sequence[str] = actor("mcp_notes"), agent: Sequence[str] = actor("mcp_agent")
) -> Iterator[Stage]:
    """Start a broker, an orchestrator, an MCP server, and an agent that has no certificate and knows no broker.

    `notes` and `agent` are the commands of the latter two.

    Raises:
        NotAsTold: something does not start.
    """
    places = prepare(directory, system_clock())
    with opened(directory) as stage:
        roots = str(stage.directory / "svids" / "researcher" / "bundle.pem")
        actors = (
            stage.enter("orchestrator", "orchestrator", actor("orchestrator")),
            stage.enter("notes", "notes", [*notes, places.url, places.issuer]),
            stage.enter("agent", None, [*agent, places.url, places.issuer, str(places.jwt_svid), roots]),
        )
        for process in actors:
            process.read()
        stage.resource = places.url
        yield stage


def _begin(stage: Stage) -> str:
    task = stage.actors["orchestrator"].ask(
        "begin",
        agents=[RESEARCHER],
        tools=[f"{stage.resource}#search_notes", f"{stage.resource}#add_note"],
        constraints=["search_notes:/limit:range:1,50"],
    )
    stage.task_id = task["task_id"]
    return str(task["state"])


def _connect(stage: Stage) -> str:
    return ", ".join(stage.actors["agent"].ask("list_tools"))


def _call(tool: str, **arguments: object) -> Callable[[Stage], str]:
    return lambda stage: str(stage.actors["agent"].ask("call", tool=tool, arguments=arguments))


def _end(stage: Stage) -> str:
    stage.actors["orchestrator"].ask("end", task_id=stage.task_id)
    return _call("search_notes", about="leases", limit=10)(stage)


def _refusals(stage: Stage) -> str:
    entries = stage.cli("auditor", "ledger", "entries")["entries"]
    return ", ".join(entry["decided"]["reason"] for entry in entries if entry["kind"] == "request.refused")


SCENES = (
    Scene(
        name="task_begins",
        told="An orchestrator declares a task for the researcher: to search notes, 50 at most, and to add some.",
        expected="active",
        act=_begin,
    ),
    Scene(
        name="client_connects",
        told="A stock MCP client comes to the server, finds the broker, proves who it is, and sees what it may call.",
        expected="search_notes",
        act=_connect,
    ),
    Scene(
        name="call_allowed",
        told="It searches. The guard checks that on its own; the server behind it knows of nothing.",
        expected="10 notes on leases",
        act=_call("search_notes", about="leases", limit=10),
    ),
    Scene(
        name="argument_out_of_bounds",
        told="It searches for 5,000 notes at once.",
        expected="ARGUMENT_OUT_OF_BOUNDS",
        act=_call("search_notes", about="leases", limit=5_000),
    ),
    Scene(
        name="step_up_denied",
        told="It adds a note. The guard names what is missing, the client asks the broker for it, policy refuses.",
        expected="POLICY_DENIED",
        act=_call("add_note", text="granted by myself"),
    ),
    Scene(
        name="tool_refused",
        told="It calls delete_notes, which it was never shown and the task does not declare.",
        expected="TOOL_NOT_DECLARED",
        act=_call("delete_notes"),
    ),
    Scene(
        name="what_was_granted_still_works",
        told="What it has been granted still works.",
        expected="3 notes on leases",
        act=_call("search_notes", about="leases", limit=3),
    ),
    Scene(
        name="task_ends",
        told="The orchestrator ends the task. The guard refuses the credential at once, and there is no other to get.",
        expected="TASK_NOT_FOUND",
        act=_end,
    ),
    Scene(
        name="ledger_has_it_all",
        told="An auditor sees each request for more in the ledger.",
        expected="POLICY_DENIED, TOOL_NOT_DECLARED, TASK_NOT_FOUND",
        act=_refusals,
    ),
)
"""The whole story."""
