"""A field that this version does not know is refused, wherever it is."""

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from broker.model.errors import Reason, Refusal
from broker.v1 import agent_service_pb2, auditor_service_pb2, grant_pb2, operator_service_pb2, verifier_service_pb2
from broker.v1 import orchestrator_service_pb2 as pb
from broker.wire.unknown import refuse_unknown

SERVICES = [
    service
    for file in (agent_service_pb2, auditor_service_pb2, operator_service_pb2, pb, verifier_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
]
UNKNOWN = b"\xf2\x3f\x02hi"  # field 1022, two bytes


def refused(request: pb.CreateTaskRequest) -> str:
    with pytest.raises(Refusal) as error:
        refuse_unknown(request)
    assert error.value.reason is Reason.INVALID_ARGUMENT
    assert "1022" in error.value.message
    return error.value.violations[0].field


def request_with(constraint: bytes = b"", scalar: bytes = b"", deadline: bytes = b"") -> pb.CreateTaskRequest:
    value = grant_pb2.Scalar.FromString(grant_pb2.Scalar(text="acme/web").SerializeToString() + scalar)
    condition = grant_pb2.Constraint(path="/repo", op=grant_pb2.OPERATOR_EQ, values=[value])
    condition.MergeFromString(constraint)
    grants = [grant_pb2.Grant(tool="a"), grant_pb2.Grant(tool="b", constraints=[condition])]
    tools = [grant_pb2.ResourceGrants(resource="https://repo.tools.example", grants=grants)]
    instant = Timestamp.FromString(Timestamp(seconds=1).SerializeToString() + deadline)
    return pb.CreateTaskRequest(owner="alice", tools=tools, deadline=instant)


def test_a_request_of_known_fields_passes() -> None:
    refuse_unknown(request_with())


def test_an_unknown_field_is_refused_at_any_depth() -> None:
    top = request_with()
    top.MergeFromString(UNKNOWN)
    assert refused(top) == "request"
    assert refused(request_with(deadline=UNKNOWN)) == "deadline"
    assert refused(request_with(constraint=UNKNOWN)) == "tools[0].grants[1].constraints[0]"
    assert refused(request_with(scalar=UNKNOWN)) == "tools[0].grants[1].constraints[0].values[0]"


def test_empty_and_scalar_only_messages_pass() -> None:
    refuse_unknown(agent_service_pb2.ReleaseCredentialRequest())
    refuse_unknown(agent_service_pb2.ReleaseCredentialRequest(lease_id="l-1"))


def messages_below(message: Descriptor, seen: set[str]) -> Iterator[Descriptor]:
    if message.full_name in seen:
        return
    seen.add(message.full_name)
    yield message
    for field in message.fields:
        if field.message_type is not None:
            yield from messages_below(field.message_type, seen)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: str(service.name))
def test_no_request_holds_a_map_which_would_have_to_be_walked_otherwise(service: ServiceDescriptor) -> None:
    for method in service.methods:
        assert not any(found.GetOptions().map_entry for found in messages_below(method.input_type, set()))
