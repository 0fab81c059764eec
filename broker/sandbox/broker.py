"""A running broker: a daemon process of its own, with the sample policies and with quotas out of the way."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from broker.model.grant import Grant, ResourceGrants
from broker.model.task import Declaration, Environment, TaskState
from broker.sandbox import authority
from broker.sandbox.deployment import Deployment
from broker.sandbox.process import process, read_line
from broker.sdk.client.sync import SyncClient
from broker.sdk.connect.endpoint import ADDRESS_VARIABLE, SVID_DIR_VARIABLE
from broker.system import system_clock

AGENT = "spiffe://example.org/agent/researcher"
RESOURCE = "https://repo.tools.example"
TOOL = "read_file"
_LIMITS = """
[limits]
leases_per_task = 1_000_000_000
leases_per_minute = 1_000_000_000
"""


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker: where it is, whom to be, and a tool to ask for.

    `svids` holds folders named `orchestrator`, `researcher` (the agent), `operator` and `verifier`. `jwt_address` and
    `http_address` are the other listeners, if it has them. `pid` is the process, if it is ours; `started_in` the
    seconds that it took to be ready.
    """

    address: str
    svids: Path
    agent: str = AGENT
    resource: str = RESOURCE
    tool: str = TOOL
    jwt_address: str = ""
    http_address: str = ""
    pid: int | None = None
    started_in: float = 0.0

    def declaration(self, *tools: ResourceGrants) -> Declaration:
        """Return what an orchestrator declares of a task for the agent: these tools, or else `tool` alone."""
        return Declaration(
            owner="sandbox",
            purpose="try",
            environment=Environment.DEV,
            agents=[self.agent],
            tools=tools or [ResourceGrants(self.resource, (Grant(self.tool),))],
            deadline=timedelta(hours=4),
            risk_threshold=60,
        )

    def begin_task(self, *tools: ResourceGrants) -> str:
        """Declare a task for the agent, with these tools, or else with `tool` alone; return its id."""
        with SyncClient(self.address, self.svids / "orchestrator") as client:
            return client.create_task(self.declaration(*tools)).id

    def end_task(self, task_id: str) -> None:
        """End a task; return when no verifier accepts its credentials any more."""
        with SyncClient(self.address, self.svids / "orchestrator") as client:
            client.end_task(task_id, TaskState.COMPLETED, barrier=True)

    def issue(self, count: int) -> list[str]:
        """Get so many credentials for the agent; return their tokens."""
        task_id = self.begin_task()
        with SyncClient(self.address, self.svids / "researcher") as client:
            return [client.issue(task_id, self.resource, [Grant(self.tool)]).token.reveal() for _ in range(count)]

    def environment(self, svid: str) -> dict[str, str]:
        """Return the variables by which the SDK finds it."""
        return {ADDRESS_VARIABLE: self.address, SVID_DIR_VARIABLE: str(self.svids / svid)}


def agent_of(svids: Path) -> str:
    """Read the agent's SPIFFE ID from its certificate."""
    return str(authority.describe(svids / "researcher" / "svid.pem", system_clock())["spiffe_id"])


def prepare(directory: Path) -> Deployment:
    """Write a deployment, if it is not there yet."""
    deployment = Deployment(directory)
    if not deployment.configuration.exists():
        deployment.prepare(system_clock())
        with deployment.configuration.open("a", encoding="utf-8") as file:
            file.write(_LIMITS)
    return deployment


@contextmanager
def running(directory: Path, program: str = "broker.sandbox", port: int = 0, workers: int = 0) -> Iterator[Broker]:
    """Run a broker on a deployment, which is made if it is not there, for the time of a block.

    `program` is the module of its process, which is given the folder, the port, where 0 is any that is free, and the
    number of workers, where 0 is none.

    Raises:
        SandboxProblem: it did not start.
    """
    deployment = prepare(directory)
    command = [sys.executable, "-m", program, str(directory), str(port), str(workers)]
    began = time.monotonic()
    with process(command, directory / "broker.log") as popen:
        ready = read_line(popen, directory / "broker.log")
        yield Broker(
            ready["address"],
            deployment.svids,
            jwt_address=ready["jwt_address"] or "",
            http_address=ready["http_address"] or "",
            pid=popen.pid,
            started_in=time.monotonic() - began,
        )
