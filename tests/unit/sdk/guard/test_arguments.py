"""A request's fields reach the constraints with their types as they are."""

from google.protobuf.timestamp_pb2 import Timestamp

from broker.sdk.guard.arguments import arguments_of
from broker.v1 import agent_service_pb2, grant_pb2, lease_pb2, ledger_pb2, orchestrator_service_pb2, status_pb2


def test_integers_stay_integers_and_names_stay_as_in_the_proto() -> None:
    lease = lease_pb2.Lease(lease_id="l-1", index=2**53 + 1, renewals=3, policies=["a", "b"], revoked_index=0)
    assert arguments_of(lease) == {
        "lease_id": "l-1",
        "renewals": 3,
        "index": 2**53 + 1,
        "revoked_index": 0,
        "policies": ["a", "b"],
    }


def test_enums_are_names_and_unknown_ones_their_numbers() -> None:
    assert arguments_of(grant_pb2.Constraint(path="/a", op=grant_pb2.OPERATOR_EQ)) == {
        "path": "/a",
        "op": "OPERATOR_EQ",
    }
    assert arguments_of(grant_pb2.Constraint(op=99)) == {"op": 99}  # type: ignore[arg-type]


def test_truth_values_and_nested_messages_keep_their_form() -> None:
    grant = grant_pb2.Grant(tool="x", constraints=[grant_pb2.Constraint(values=[grant_pb2.Scalar(flag=False)])])
    request = orchestrator_service_pb2.CreateTaskRequest(
        tools=[grant_pb2.ResourceGrants(resource="r", grants=[grant])], deadline=Timestamp(seconds=7), risk_threshold=0
    )
    assert arguments_of(request) == {
        "tools": [{"resource": "r", "grants": [{"tool": "x", "constraints": [{"values": [{"flag": False}]}]}]}],
        "deadline": {"seconds": 7},
        "risk_threshold": 0,
    }


def test_maps_are_objects_and_bytes_stay_bytes() -> None:
    assert arguments_of(status_pb2.ErrorInfo(metadata={"a": "b"})) == {"metadata": {"a": "b"}}
    assert arguments_of(ledger_pb2.LedgerEntry(index=1, body=b"x")) == {"index": 1, "body": b"x"}


def test_fields_at_their_default_are_absent() -> None:
    assert arguments_of(agent_service_pb2.ReleaseCredentialRequest(lease_id="")) == {}


def test_what_is_no_message_is_given_as_it_is() -> None:
    assert arguments_of({"a": 1}) == {"a": 1}
