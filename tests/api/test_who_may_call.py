"""Who may call what: by the transport, by identity, by group; and what a stock client sees."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from broker.access.entrances import ENTRANCES
from broker.api import descriptors
from broker.identity.spiffe import parse_spiffe_id
from broker.model.errors import Reason
from broker.sandbox.certificates import issue_svid, new_authority
from broker.system import system_clock
from broker.v1 import auditor_service_pb2
from tests.support.doors import METHODS as DESCRIBED
from tests.support.doors import PEOPLE, Doors

RPCS = {path: ENTRANCES[path] for path in DESCRIBED}
Raw: TypeAlias = "grpc.UnaryUnaryMultiCallable[bytes, bytes]"


def test_every_rpc_says_in_its_comment_who_may_call_it() -> None:
    protos = Path(__file__).parents[2] / "protos" / "broker" / "v1"
    for path, entrance in RPCS.items():
        service = path.split("/")[1].rpartition(".")[2]
        text = (protos / f"{service.removesuffix('Service').lower()}_service.proto").read_text()
        name = path.rpartition("/")[2]
        comment = text.partition(f"rpc {name}(")[0].rpartition("\n\n")[2] + text.partition(f"service {service}")[0]
        assert entrance.caller.rstrip("s") in comment.lower(), path


@pytest.mark.parametrize("path", sorted(RPCS))
@pytest.mark.parametrize("group", sorted(PEOPLE))
def test_only_its_group_may_call_an_rpc(doors: Doors, path: str, group: str) -> None:
    if RPCS[path].caller == group:
        return
    rpc = path.removeprefix("/broker.v1.").replace("/", ".")
    refusal = doors.refused(PEOPLE[group], rpc)
    assert refusal.reason is Reason.GROUP_REQUIRED
    assert refusal.hints.missing == f"group:{RPCS[path].caller}"


def test_a_workload_that_no_rule_knows_is_refused(doors: Doors) -> None:
    assert doors.refused("stranger", "AgentService.IssueCredential").reason is Reason.IDENTITY_UNKNOWN
    assert doors.refused("stranger", "VerifierService.WatchRevocations").reason is Reason.IDENTITY_UNKNOWN


def _unreachable(address: str, credentials: grpc.ChannelCredentials) -> grpc.StatusCode:
    with grpc.secure_channel(address, credentials) as channel:
        call: Raw = channel.unary_unary("/broker.v1.AuditorService/GetCheckpoint")
        with pytest.raises(grpc.RpcError) as error:
            call(auditor_service_pb2.GetCheckpointRequest().SerializeToString(), timeout=60)
    code = error.value.code()
    assert isinstance(code, grpc.StatusCode)
    return code


def test_without_a_certificate_of_a_root_of_ours_there_is_no_connection(doors: Doors) -> None:
    roots = (doors.broker.svids / "auditor" / "bundle.pem").read_bytes()
    assert _unreachable(doors.broker.address, grpc.ssl_channel_credentials(roots)) is grpc.StatusCode.UNAVAILABLE
    foreign = new_authority("example.org", timedelta(days=1), system_clock())
    svid = issue_svid(foreign, parse_spiffe_id("spiffe://example.org/auditor"), [], timedelta(days=1), system_clock())
    credentials = grpc.ssl_channel_credentials(roots, svid.key_pem, svid.cert_pem)
    assert _unreachable(doors.broker.address, credentials) is grpc.StatusCode.UNAVAILABLE


def test_in_plain_text_there_is_no_connection(doors: Doors) -> None:
    with grpc.insecure_channel(doors.broker.address) as channel, pytest.raises(grpc.RpcError):
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)


def test_a_stock_client_lists_the_services_and_finds_them_healthy(doors: Doors) -> None:
    channel = doors.channel("auditor")
    names = {service.full_name for service in descriptors.ALL}
    listed = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    assert names <= listed
    assert {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} <= listed
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", *sorted(names)):
        status = health.Check(health_pb2.HealthCheckRequest(service=name)).status
        assert status == health_pb2.HealthCheckResponse.SERVING


def test_an_rpc_that_is_not_there_is_unimplemented(doors: Doors) -> None:
    call: Raw = doors.channel("operator").unary_unary("/broker.v1.OperatorService/DropEverything")
    with pytest.raises(grpc.RpcError) as error:
        call(b"", timeout=60)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_refusal_of_a_call_that_would_change_something_is_recorded(doors: Doors) -> None:
    doors.refused("operator", "AgentService.IssueCredential")
    entries = doors.call(
        "auditor", "AuditorService.ListEntries", auditor_service_pb2.ListEntriesRequest(page_size=1_000)
    )
    bodies = [json.loads(entry.body) for entry in entries.entries]
    recorded = [body for body in bodies if body["kind"] == "request.refused"]
    assert recorded
    last = recorded[-1]
    assert last["decided"]["reason"] == Reason.GROUP_REQUIRED.value
    assert last["observed"]["principal"] == "spiffe://example.org/operator"
