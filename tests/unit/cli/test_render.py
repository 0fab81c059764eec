import json
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from broker.cli.output import cell
from broker.cli.render import plain
from broker.v1 import (
    grant_pb2,
    lease_pb2,
    ledger_pb2,
    operator_service_pb2,
    orchestrator_service_pb2,
    selector_pb2,
    task_pb2,
    verifier_service_pb2,
)

NOON = Timestamp()
NOON.FromDatetime(datetime(2026, 3, 1, 12, tzinfo=UTC))
WINDOW = Duration()
WINDOW.FromTimedelta(timedelta(seconds=2.5))


def test_a_lease_is_written_with_the_names_of_the_proto() -> None:
    constraint = grant_pb2.Constraint(
        path="/n",
        op=grant_pb2.OPERATOR_IN,
        values=[grant_pb2.Scalar(text="1"), grant_pb2.Scalar(integer=1), grant_pb2.Scalar(flag=True)],
    )
    lease = lease_pb2.Lease(
        lease_id="l-1",
        grants=[grant_pb2.Grant(tool="read_file", constraints=[constraint])],
        issue_time=NOON,
        state=lease_pb2.LEASE_STATE_LIVE,
        index=7,
    )
    document = plain(lease)
    assert list(document) == [field.name for field in lease.DESCRIPTOR.fields]
    assert document["issue_time"] == "2026-03-01T12:00:00Z"
    assert document["expire_time"] is None
    assert document["revoked_index"] is None
    assert (document["state"], document["index"]) == ("live", 7)
    assert document["grants"] == [
        {"tool": "read_file", "constraints": [{"path": "/n", "op": "in", "values": ["1", 1, True]}]}
    ]
    assert cell(document["grants"]) == 'read_file:/n:in:"1",1,true'


@pytest.mark.parametrize(
    ("message", "field", "value"),
    [
        (task_pb2.Task(state=task_pb2.TASK_STATE_COMPLETED), "state", "completed"),
        (selector_pb2.RevocationRule(cause=selector_pb2.REVOCATION_CAUSE_TASK_ENDED), "cause", "task_ended"),
        (verifier_service_pb2.RevocationUpdate(freshness=WINDOW), "freshness", 2.5),
        (ledger_pb2.InclusionProof(leaf_hash=b"\x00\xff"), "leaf_hash", "00ff"),
        (ledger_pb2.InclusionProof(hashes=[b"\x01"]), "hashes", ["01"]),
        (orchestrator_service_pb2.CreateTaskRequest(risk_threshold=0), "risk_threshold", 0),
        (orchestrator_service_pb2.CreateTaskRequest(), "risk_threshold", None),
        (operator_service_pb2.ListLocksResponse(), "locks", []),
        (lease_pb2.Lease(revoked_index=0), "revoked_index", 0),
    ],
)
def test_values_read_well(message: Message, field: str, value: object) -> None:
    assert plain(message)[field] == value
    json.dumps(plain(message))


def test_a_oneof_shows_what_is_set() -> None:
    assert plain(selector_pb2.Selector(tenant="acme", task_id="t")) == {"tenant": "acme", "task_id": "t"}


def test_an_unknown_enum_value_is_a_number() -> None:
    lease = lease_pb2.Lease()
    lease.state = 99  # type: ignore[assignment]  # as a newer broker would send it
    assert plain(lease)["state"] == "99"
