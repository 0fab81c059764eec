"""Makes `at_0663243/`: what a broker of commit 0663243 has left behind, for a broker of today to go on with.

It ran once, by that commit's own code, and stays to say how the files came to be:

    git worktree add /tmp/older 0663243
    cd /tmp/older && PYTHONPATH=$PWD python HERE/made_by_0663243.py HERE/at_0663243

`database.sql` is the SQLite database as text, `keys/` the key folder (made for this alone: they sign nothing else),
`kept.checkpoint` a checkpoint of halfway, and `history.json` what whoever called the broker was told. Lifetimes and
waits are real ones, so it takes half a minute.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from broker.v1 import agent_service_pb2 as agent_pb
from broker.v1 import (
    agent_service_pb2_grpc,
    auditor_service_pb2_grpc,
    operator_service_pb2_grpc,
    orchestrator_service_pb2_grpc,
)
from broker.v1 import auditor_service_pb2 as auditor_pb
from broker.v1 import operator_service_pb2 as operator_pb
from broker.v1 import orchestrator_service_pb2 as orchestrator_pb
from broker.v1.grant_pb2 import OPERATOR_EQ, Constraint, Grant, ResourceGrants, Scalar
from broker.v1.selector_pb2 import Selector
from broker.v1.task_pb2 import TASK_STATE_COMPLETED

REPO, NOTES = "https://repo.tools.example", "https://notes.tools.example"
AGENTS = ["spiffe://example.org/agent/researcher", "spiffe://example.org/agent/writer"]


@contextmanager
def running(folder: Path) -> Iterator[Any]:
    command = [sys.executable, "-m", "broker", "dev", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as popen:
        assert popen.stdout is not None
        try:
            yield json.loads(popen.stdout.readline())
        finally:
            popen.terminate()


def channel(ready: Any, who: str) -> grpc.Channel:
    svid = Path(ready["svids"][who])
    roots, key, chain = ((svid / name).read_bytes() for name in ("bundle.pem", "key.pem", "svid.pem"))
    return grpc.secure_channel(ready["address"], grpc.ssl_channel_credentials(roots, key, chain))


def in_hours(count: int) -> Timestamp:
    instant = Timestamp()
    instant.FromDatetime(datetime.now(UTC) + timedelta(hours=count))  # noqa: TID251 (another process's clock)
    return instant


class Life:
    """One life of the broker: a stub for each who calls, and what they were told."""

    def __init__(self, ready: Any, history: dict[str, Any]) -> None:
        self.history = history
        self.orchestrator = orchestrator_service_pb2_grpc.OrchestratorServiceStub(channel(ready, "orchestrator"))
        self.researcher = agent_service_pb2_grpc.AgentServiceStub(channel(ready, "researcher"))
        self.writer = agent_service_pb2_grpc.AgentServiceStub(channel(ready, "writer"))
        self.operator = operator_service_pb2_grpc.OperatorServiceStub(channel(ready, "operator"))
        self.auditor = auditor_service_pb2_grpc.AuditorServiceStub(channel(ready, "auditor"))

    def task(self, name: str, request_id: str = "") -> str:
        web = Constraint(path="/repo", op=OPERATOR_EQ, values=[Scalar(text="acme/web")])
        reading = Grant(tool="read_file", constraints=[web])
        request = orchestrator_pb.CreateTaskRequest(
            owner="alice",
            purpose="triage",
            environment="dev",
            agents=AGENTS,
            tools=[
                ResourceGrants(resource=REPO, grants=[reading, Grant(tool="list_files")]),
                ResourceGrants(resource=NOTES, grants=[Grant(tool="search_notes")]),
            ],
            deadline=in_hours(4),
            risk_threshold=60,
            request_id=request_id,
        )
        self.history[name] = self.orchestrator.CreateTask(request).task_id
        return str(self.history[name])

    def issue(self, name: str, task: str, tool: str, *, who: str = "researcher", **others: Any) -> str:
        resource = NOTES if tool == "search_notes" else REPO
        request = agent_pb.IssueCredentialRequest(task_id=task, resource=resource, grants=[Grant(tool=tool)], **others)
        issued = getattr(self, who).IssueCredential(request)
        self.history[name] = {"token": issued.token, "lease": issued.lease.lease_id, "index": issued.lease.index}
        return str(issued.lease.lease_id)

    def refused(self, task: str, tool: str, *, who: str = "researcher") -> None:
        try:
            self.issue("none", task, tool, who=who)
        except grpc.RpcError as error:
            self.history["refused"].append(error.details())
        else:
            raise AssertionError("it was not refused")

    def tasks_and_leases(self) -> None:
        task, ended, extended = self.task("task", "begin-1"), self.task("ended_task"), self.task("extended_task")
        words = "I read the file that the issue names."
        self.issue("live", task, "read_file", explanation=words, request_id="issue-1")
        renewed = self.issue("renewed", task, "list_files")
        self.researcher.RenewCredential(agent_pb.RenewCredentialRequest(lease_id=renewed, request_id="renew-1"))
        released = self.issue("released", task, "read_file")
        self.researcher.ReleaseCredential(agent_pb.ReleaseCredentialRequest(lease_id=released))
        self.issue("expired", task, "read_file", lifetime=Duration(seconds=1))
        self.issue("of_ended_task", ended, "read_file")
        end = orchestrator_pb.EndTaskRequest(task_id=ended, outcome=TASK_STATE_COMPLETED)
        self.orchestrator.EndTask(end)
        self.orchestrator.ExtendTask(orchestrator_pb.ExtendTaskRequest(task_id=extended, deadline=in_hours(5)))
        self.issue("revoked", extended, "search_notes", who="writer")

    def rules_and_refusals(self) -> None:
        writer = Selector(tenant="acme", agent=AGENTS[1])
        self.operator.RevokeLeases(operator_pb.RevokeLeasesRequest(selector=writer, reason="a drill", lock=True))
        self.history["kept"] = self.auditor.GetCheckpoint(auditor_pb.GetCheckpointRequest()).checkpoint.note
        task, ended = self.history["task"], self.history["ended_task"]
        selector = Selector(tenant="acme", task_id=task)
        lock = self.operator.CreateLock(operator_pb.CreateLockRequest(selector=selector, reason="a moment"))
        self.refused(task, "read_file")
        self.operator.DeleteLock(operator_pb.DeleteLockRequest(lock_id=lock.lock_id))
        self.refused(task, "read_file", who="writer")
        self.refused(ended, "read_file")
        self.refused(task, "delete_repo")
        self.refused("no-such-task", "read_file")


def change_key_and_policy(folder: Path) -> None:
    rotate = [sys.executable, "-m", "broker", "keys", "rotate", "--dir", str(folder / "keys"), "--lead", "1s"]
    subprocess.run(rotate, check=True, stdout=subprocess.DEVNULL)
    agents = folder / "bundle" / "policies" / "agents.cedar"
    agents.write_text(agents.read_text() + "\n// another revision\n")
    time.sleep(2)


def main(into: Path) -> None:
    history: dict[str, Any] = {"refused": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "broker"
        with running(folder) as ready:
            history["vkey"] = ready["vkey"]
            life = Life(ready, history)
            life.tasks_and_leases()
            life.rules_and_refusals()
            time.sleep(5)  # until the end of the lease that expires is on record
        change_key_and_policy(folder)
        with running(folder) as ready:
            Life(ready, history).issue("by_next_key", history["task"], "list_files")
        history["at"] = datetime.now(UTC).isoformat()  # noqa: TID251
        into.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(folder / "broker.db")
        (into / "database.sql").write_text("\n".join(connection.iterdump()) + "\n")
        connection.close()
        shutil.copytree(folder / "keys", into / "keys", dirs_exist_ok=True)
    (into / "kept.checkpoint").write_text(history.pop("kept"))
    (into / "history.json").write_text(json.dumps(history, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
