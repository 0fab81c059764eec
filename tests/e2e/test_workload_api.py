"""A broker with its identity from a Workload API: what the agent pushes counts on connections that are open, too."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from broker.identity.spiffe import parse_spiffe_id
from broker.model.errors import Reason, Refusal
from broker.sandbox.authority import read_authority
from broker.sandbox.broker import prepare, running
from broker.sandbox.certificates import Authority, issue_svid
from broker.system import system_clock
from tests.support.doors import DAY, Doors
from tests.support.fakes import authority
from tests.support.workload_api_server import WorkloadApiServer, jwt_response, x509_response, x509_svid

BROKER = "spiffe://example.org/broker"


def configured(folder: Path, agent: WorkloadApiServer) -> Authority:
    """Prepare a deployment that asks the agent; return the root of its trust domain."""
    deployment = prepare(folder)
    text = deployment.configuration.read_text()
    deployment.configuration.write_text(text.replace('svid_dir = "svids/broker"', f'workload_api = "{agent.address}"'))
    return read_authority(deployment.svids)


def reason(doors: Doors) -> Reason | None:
    """Return why an open connection is refused, if it is."""
    try:
        doors.call("verifier", "VerifierService.GetKeySet")
    except Refusal as refusal:
        return refusal.reason
    return None


def push(root: Authority, bundle_pem: bytes) -> bytes:
    svid = issue_svid(root, parse_spiffe_id(BROKER), ["localhost"], DAY, system_clock())
    return x509_response(x509_svid(BROKER, svid, bundle_pem))


def test_a_root_that_the_agent_removes_counts_on_open_connections(tmp_path: Path, agent: WorkloadApiServer) -> None:
    root, other = configured(tmp_path, agent), authority()
    agent.start()
    agent.tell(x509=push(root, root.cert_pem), jwt=jwt_response({}))
    with running(tmp_path) as broker, ExitStack() as stack:
        doors = Doors(broker, stack)
        doors.call("verifier", "VerifierService.GetKeySet")
        agent.tell(x509=push(root, root.cert_pem + other.cert_pem))
        doors.call("verifier", "VerifierService.GetKeySet")
        agent.tell(x509=push(root, other.cert_pem))
        end = time.monotonic() + 10
        while (refused := reason(doors)) is None and time.monotonic() < end:
            time.sleep(0.1)
        assert refused is Reason.IDENTITY_INVALID


def test_without_an_agent_it_does_not_start_and_says_why(tmp_path: Path, agent: WorkloadApiServer) -> None:
    configured(tmp_path, agent)
    agent.start()
    agent.tell("denying")
    done = subprocess.run(
        [sys.executable, "-m", "broker", "serve", "--config", str(tmp_path / "broker.toml")],
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )
    assert done.returncode
    assert agent.address in done.stderr
    assert "Traceback" not in done.stderr
