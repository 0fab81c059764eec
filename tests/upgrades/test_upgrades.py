"""What an older version has left behind, a ledger and its promises, is kept by this one.

Its broker stood still at an instant long past: today's goes on there, with its clock put back to it.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from broker.cli import cli
from broker.identity.spiffe import SpiffeId
from broker.model.errors import Reason, Refusal
from broker.sandbox import authority
from broker.sandbox.broker import Broker
from broker.sandbox.deployment import IDENTITIES, Deployment
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.connect.refusals import refusal_from
from broker.sdk.verify.presentation import Presentation
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching
from broker.store import migrate
from broker.system import system_clock
from broker.v1 import agent_service_pb2 as agent_pb
from broker.v1 import lease_pb2, operator_service_pb2_grpc
from broker.v1 import operator_service_pb2 as operator_pb
from broker.v1.agent_service_pb2_grpc import AgentServiceStub
from broker.v1.grant_pb2 import Grant
from broker.v1.selector_pb2 import Selector
from tests.faults.clock import SteeredClock
from tests.faults.launch import CLOCK
from tests.faults.life import living

LEFT = Path(__file__).parent / "at_0663243"
HISTORY: dict[str, Any] = json.loads((LEFT / "history.json").read_text())
AT = datetime.fromisoformat(HISTORY["at"])
REPO, NOTES = "https://repo.tools.example", "https://notes.tools.example"
RESEARCHER, WRITER = "spiffe://example.org/agent/researcher", "spiffe://example.org/agent/writer"
ENDED = {
    "released": lease_pb2.LEASE_STATE_REVOKED,
    "expired": lease_pb2.LEASE_STATE_EXPIRED,
    "of_ended_task": lease_pb2.LEASE_STATE_REVOKED,
    "revoked": lease_pb2.LEASE_STATE_REVOKED,
}


@dataclass
class Deserted:
    """The folder of the older broker, and what today's is called with."""

    folder: Path
    broker: Broker = field(init=False)

    @property
    def clock(self) -> SteeredClock:
        return SteeredClock(self.folder / CLOCK)

    def stub(self, kind: Any, who: str) -> Any:
        svid = self.broker.svids / who
        roots, key, chain = ((svid / name).read_bytes() for name in ("bundle.pem", "key.pem", "svid.pem"))
        return kind(grpc.secure_channel(self.broker.address, grpc.ssl_channel_credentials(roots, key, chain)))

    def verify(self) -> Any:
        """Verify the ledger as an auditor does who has kept a checkpoint and the key."""
        result = CliRunner().invoke(
            cli,
            [
                *("ledger", "verify", "--database", f"sqlite:///{self.folder / 'broker.db'}", "-o", "json"),
                *("--vkey", HISTORY["vkey"], "--checkpoint", str(LEFT / "kept.checkpoint")),
            ],
        )
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def reason(self, verifier: Verifier, name: str, tool: str, holder: str = RESEARCHER) -> Reason | None:
        """Return why a tool server refuses an old token; None, if it takes it."""
        arguments = {"repo": "acme/web"}
        try:
            verifier.check(HISTORY[name]["token"], tool, arguments, Presentation(spiffe_id=holder))
        except Refusal as refusal:
            return refusal.reason
        return None


@pytest.fixture
def deserted(tmp_path: Path) -> Deserted:
    """What the older version has left, with certificates that are good from then until now."""
    since = system_clock() - AT + timedelta(days=7)
    deployment = Deployment(tmp_path)
    authority.create(deployment.svids, "example.org", since + timedelta(days=365), AT)
    for name, (path, dns_names) in IDENTITIES.items():
        authority.issue(deployment.svids, name, SpiffeId("example.org", path), dns_names, since, AT)
    shutil.copytree(LEFT / "keys", tmp_path / "keys")
    for private in [tmp_path / "keys", *(tmp_path / "keys").iterdir()]:
        private.chmod(0o700 if private.is_dir() else 0o600)
    connection = sqlite3.connect(tmp_path / "broker.db")
    connection.executescript((LEFT / "database.sql").read_text())
    connection.close()
    left = Deserted(tmp_path)
    left.clock.put_off(AT - system_clock())
    return left


@pytest.fixture
def running(deserted: Deserted) -> Iterator[Deserted]:
    with living(deserted.folder) as deserted.broker:
        yield deserted


def test_its_ledger_is_proved_after_the_upgrade_and_after_new_entries(deserted: Deserted) -> None:
    migrate.upgrade(f"sqlite:///{deserted.folder / 'broker.db'}")
    before = deserted.verify()
    with living(deserted.folder) as deserted.broker:
        pass
    after = deserted.verify()
    assert (before["ok"], after["ok"]) == (True, True)
    assert before["size"] < after["size"]


def test_what_lived_lives_and_what_had_ended_has(running: Deserted) -> None:
    operator = running.stub(operator_service_pb2_grpc.OperatorServiceStub, "operator")

    def state(name: str) -> int:
        found = operator.GetLease(operator_pb.GetLeaseRequest(lease_id=HISTORY[name]["lease"]))
        assert found.index == HISTORY[name]["index"]
        return int(found.state)

    assert {state(name) for name in ("live", "renewed", "by_next_key")} == {lease_pb2.LEASE_STATE_LIVE}
    assert {name: state(name) for name in ENDED} == ENDED
    (lock,) = operator.ListLocks(operator_pb.ListLocksRequest()).locks
    assert lock.selector.agent == WRITER


def test_a_lease_is_renewed_and_a_dead_one_is_not(running: Deserted) -> None:
    researcher = running.stub(AgentServiceStub, "researcher")
    for name in ("live", "renewed", "by_next_key"):
        renewed = researcher.RenewCredential(agent_pb.RenewCredentialRequest(lease_id=HISTORY[name]["lease"]))
        assert renewed.lease.index == HISTORY[name]["index"]
    for name in ("released", "expired", "of_ended_task"):
        with pytest.raises(grpc.RpcError) as refused:
            researcher.RenewCredential(agent_pb.RenewCredentialRequest(lease_id=HISTORY[name]["lease"]))
        assert refusal_from(refused.value).reason in (Reason.LEASE_NOT_LIVE, Reason.TASK_NOT_ACTIVE)


def test_its_tokens_are_accepted_until_they_are_revoked(running: Deserted) -> None:
    endpoint = Endpoint.of(running.broker.address, running.broker.svids / "verifier")
    with watching(Verifier(REPO, clock=running.clock), endpoint) as verifier:
        assert running.reason(verifier, "live", "read_file") is None
        assert running.reason(verifier, "by_next_key", "list_files") is None
        assert running.reason(verifier, "live", "list_files") is Reason.TOOL_NOT_GRANTED
        assert running.reason(verifier, "live", "read_file", WRITER) is Reason.HOLDER_MISMATCH
        assert running.reason(verifier, "expired", "read_file") is Reason.TOKEN_EXPIRED
        assert running.reason(verifier, "released", "read_file") is Reason.TOKEN_REVOKED
        assert running.reason(verifier, "of_ended_task", "read_file") is Reason.TOKEN_REVOKED
        operator = running.stub(operator_service_pb2_grpc.OperatorServiceStub, "operator")
        selector = Selector(tenant="acme", lease_id=HISTORY["live"]["lease"])
        operator.RevokeLeases(operator_pb.RevokeLeasesRequest(selector=selector, reason="a drill", barrier=True))
        assert running.reason(verifier, "live", "read_file") is Reason.TOKEN_REVOKED
        assert running.reason(verifier, "by_next_key", "list_files") is None


def test_a_repeated_request_gets_its_earlier_result(running: Deserted) -> None:
    researcher = running.stub(AgentServiceStub, "researcher")
    again = agent_pb.IssueCredentialRequest(
        task_id=HISTORY["task"],
        resource=REPO,
        grants=[Grant(tool="read_file")],
        explanation="I read the file that the issue names.",
        request_id="issue-1",
    )
    assert researcher.IssueCredential(again).lease.lease_id == HISTORY["live"]["lease"]
    repeated = agent_pb.RenewCredentialRequest(lease_id=HISTORY["renewed"]["lease"], request_id="renew-1")
    assert researcher.RenewCredential(repeated).lease.index == HISTORY["renewed"]["index"]


def test_its_lock_still_stops_whom_it_stopped(running: Deserted) -> None:
    writer = running.stub(AgentServiceStub, "writer")
    request = agent_pb.IssueCredentialRequest(
        task_id=HISTORY["extended_task"], resource=NOTES, grants=[Grant(tool="search_notes")]
    )
    with pytest.raises(grpc.RpcError) as refused:
        writer.IssueCredential(request)
    assert refusal_from(refused.value).reason is Reason.LOCKED
