"""A broker that has lost its own identity: nobody is served by who cannot prove to be the broker any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from broker.identity.spiffe import parse_spiffe_id
from broker.model.errors import Reason, Refusal
from broker.sandbox.authority import read_authority, write_svid
from broker.sandbox.broker import prepare, running
from broker.sandbox.certificates import issue_svid
from broker.sdk.connect.refusals import refusal_from
from broker.system import system_clock
from broker.v1 import verifier_service_pb2 as pb
from broker.v1 import verifier_service_pb2_grpc as pb_grpc
from tests.support.doors import DAY, Doors
from tests.support.facade import JOB, Facade, opened
from tests.support.issuer import OidcIssuer, issuing
from tests.support.workload_api_server import WorkloadApiServer, jwt_response, x509_response, x509_svid

BROKER = "spiffe://example.org/broker"
AUDIENCE = "https://broker.example.org"
_OIDC = """
[[identity.issuer]]
name = "ci"
url = "{url}"
ca_file = "svids/ca.pem"

[[identity.rule]]
match = "oidc:ci:job:*"
tenant = "acme"
groups = ["verifiers"]

"""


def bearer(channel: grpc.Channel, token: str) -> Callable[[], Any]:
    """Return a call of somebody with a token."""
    stub = pb_grpc.VerifierServiceStub(channel)
    metadata = (("authorization", f"Bearer {token}"),)
    return lambda: stub.GetKeySet(pb.GetKeySetRequest(), metadata=metadata, timeout=60)


def reason(call: Callable[[], Any]) -> Reason | None:
    """Return why a call is refused, if it is."""
    try:
        call()
    except grpc.RpcError as error:
        return refusal_from(error).reason
    except Refusal as refusal:
        return refusal.reason
    return None


def wait_for(wanted: Reason | None, *calls: Callable[[], Any]) -> None:
    """Wait until all calls end in this way."""
    end = time.monotonic() + 10
    while {reason(call) for call in calls} != {wanted}:
        assert time.monotonic() < end, [reason(call) for call in calls]
        time.sleep(0.1)


def told(folder: Path) -> None:
    """See whether the log says it."""
    if "identity.ended" not in (folder / "broker.log").read_text():
        raise Refusal(Reason.INTERNAL, "it does not")


def with_agent(folder: Path, agent: WorkloadApiServer, issuer: OidcIssuer) -> None:
    """Configure a broker that asks the agent, and takes an issuer's tokens."""
    configuration = prepare(folder).configuration
    text = configuration.read_text().replace('svid_dir = "svids/broker"', f'workload_api = "{agent.address}"')
    text = text.replace("[listen]\n", '[listen]\njwt_address = "127.0.0.1:0"\n')
    head, marker, tail = text.partition("# The first rule that matches holds.")
    configuration.write_text(head + _OIDC.format(url=issuer.url) + marker + tail)


def test_when_the_agent_denies_us_nobody_is_served_until_it_does_not(tmp_path: Path, agent: WorkloadApiServer) -> None:
    svids = prepare(tmp_path).svids
    root = read_authority(svids)
    own = issue_svid(root, parse_spiffe_id(BROKER), ["localhost"], DAY, system_clock())
    agent.start()
    agent.tell(x509=x509_response(x509_svid(BROKER, own, root.cert_pem)), jwt=jwt_response({}))
    with ExitStack() as stack:
        issuer = stack.enter_context(issuing(tmp_path / "issuer", root))
        with_agent(tmp_path, agent, issuer)
        broker = stack.enter_context(running(tmp_path))
        doors = Doors(broker, stack)
        tls = grpc.ssl_channel_credentials(root.cert_pem)
        channel = stack.enter_context(grpc.secure_channel(broker.jwt_address, tls))
        job = bearer(channel, issuer.token(AUDIENCE))
        everybody = (job, lambda: doors.call("verifier", "VerifierService.GetKeySet"))
        assert [reason(call) for call in everybody] == [None, None]
        agent.tell("denying")
        wait_for(Reason.UNAVAILABLE, *everybody)
        agent.tell("serving")
        wait_for(None, *everybody)
    log = (tmp_path / "broker.log").read_text()
    assert log.count("identity.ended") == 1
    assert "PERMISSION_DENIED" in log
    assert "Traceback" not in log


@pytest.fixture
def facade(tmp_path: Path) -> Iterator[Facade]:
    with opened(tmp_path) as found:
        yield found


def test_when_our_svid_has_expired_nobody_is_served_until_there_is_a_fresh_one(facade: Facade, tmp_path: Path) -> None:
    task_id = facade.begin(JOB)
    root, folder = read_authority(facade.broker.svids), facade.broker.svids / "broker"

    def show(lifetime: timedelta) -> None:
        fresh = issue_svid(root, parse_spiffe_id(BROKER), ["localhost"], lifetime, system_clock())
        write_svid(folder, fresh, root.cert_pem)

    def over_http() -> None:
        """Ask on the connection that is open: a new one would end at the client, which sees the certificate."""
        answer = facade.token(client_assertion=facade.workload(), task=task_id)
        if answer.status_code != 200:
            assert answer.headers["retry-after"]
            raise Refusal(Reason(answer.json()["reason"]), answer.json()["error_description"])

    with facade.channel() as channel:
        everybody = (
            bearer(channel, facade.workload(sub="gateway")),
            lambda: facade.doors.call("verifier", "VerifierService.GetKeySet"),
            over_http,
        )
        assert [reason(call) for call in everybody] == [None] * 3
        show(timedelta(seconds=2))
        wait_for(Reason.UNAVAILABLE, *everybody)
        wait_for(None, lambda: told(tmp_path))
        show(DAY)
        wait_for(None, *everybody)
    log = (tmp_path / "broker.log").read_text()
    assert log.count("identity.ended") == 1
    assert "Traceback" not in log


def test_a_credential_can_be_ended_even_then(facade: Facade) -> None:
    """Whoever has it may end it: what only takes authority away needs no identity."""
    root, folder = read_authority(facade.broker.svids), facade.broker.svids / "broker"
    token = facade.token(client_assertion=facade.workload(), task=facade.begin(JOB)).json()["access_token"]
    gone = issue_svid(root, parse_spiffe_id(BROKER), ["localhost"], timedelta(seconds=-1), system_clock())
    write_svid(folder, gone, root.cert_pem)
    wait_for(Reason.UNAVAILABLE, lambda: facade.doors.call("verifier", "VerifierService.GetKeySet"))
    assert facade.http.post("/revoke", data={"token": token}).status_code == 200
