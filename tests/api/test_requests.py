"""Bad input: each a typed error that names the field, and nothing is changed."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from broker.model.clock import to_micros
from broker.model.errors import Reason
from broker.system import system_clock
from broker.v1 import agent_service_pb2 as agent_pb
from broker.v1 import auditor_service_pb2 as auditor_pb
from broker.v1 import grant_pb2, selector_pb2, task_pb2
from broker.v1 import operator_service_pb2 as operator_pb
from broker.v1 import orchestrator_service_pb2 as orchestrator_pb
from broker.v1 import verifier_service_pb2 as verifier_pb
from tests.support.doors import Doors

REPO = "https://repo.tools.example"
RESEARCHER = "spiffe://example.org/agent/researcher"
NOBODY = "0198f3c2-7b1e-7c11-9d3a-5b1c2f7d9e40"
ISSUE, CREATE = "AgentService.IssueCredential", "OrchestratorService.CreateTask"
REVOKE, LIST = "OperatorService.RevokeLeases", "OperatorService.ListLeases"
Revoke, List = operator_pb.RevokeLeasesRequest, operator_pb.ListLeasesRequest
Raw: TypeAlias = "grpc.UnaryUnaryMultiCallable[bytes, bytes]"


def seconds_from_now(seconds: int) -> Timestamp:
    return Timestamp(seconds=to_micros(system_clock()) // 1_000_000 + seconds)


def declaration(**changes: Any) -> orchestrator_pb.CreateTaskRequest:
    fields: dict[str, Any] = {
        "owner": "alice",
        "purpose": "triage",
        "environment": "dev",
        "agents": [RESEARCHER],
        "tools": [grant_pb2.ResourceGrants(resource=REPO, grants=[grant_pb2.Grant(tool="read_file")])],
        "deadline": seconds_from_now(3_600),
        "risk_threshold": 60,
    }
    return orchestrator_pb.CreateTaskRequest(**(fields | changes))


@pytest.fixture(scope="module")
def task_id(doors: Doors) -> str:
    return str(doors.call("orchestrator", CREATE, declaration()).task_id)


def issue(task_id: str, **changes: Any) -> agent_pb.IssueCredentialRequest:
    fields: dict[str, Any] = {"task_id": task_id, "resource": REPO, "grants": [grant_pb2.Grant(tool="read_file")]}
    return agent_pb.IssueCredentialRequest(**(fields | changes))


def grant(**constraint: Any) -> list[grant_pb2.Grant]:
    return [grant_pb2.Grant(tool="read_file", constraints=[grant_pb2.Constraint(**constraint)])]


def text(value: str) -> grant_pb2.Scalar:
    return grant_pb2.Scalar(text=value)


BAD_ISSUES: dict[str, tuple[dict[str, Any], str]] = {
    "no task": ({"task_id": ""}, "task_id"),
    "a long task id": ({"task_id": "x" * 129}, "task_id"),
    "a task id with a newline": ({"task_id": "x\ny"}, "task_id"),
    "a task id in another script": ({"task_id": "\u0442\u0430\u0441\u043a"}, "task_id"),
    "no resource": ({"resource": ""}, "resource"),
    "a resource that is no URI": ({"resource": "repo"}, "resource"),
    "a resource with a fragment": ({"resource": f"{REPO}#read_file"}, "resource"),
    "no tools": ({"grants": []}, "grants"),
    "too many tools": ({"grants": [grant_pb2.Grant(tool=f"t{n}") for n in range(65)]}, "grants"),
    "a tool twice": ({"grants": [grant_pb2.Grant(tool="read_file")] * 2}, "grants[1].tool"),
    "a tool without a name": ({"grants": [grant_pb2.Grant()]}, "grants[0].tool"),
    "a tool with a control character": ({"grants": [grant_pb2.Grant(tool="read\x1b[2J")]}, "grants[0].tool"),
    "no lifetime at all": ({"lifetime": Duration()}, "lifetime"),
    "a negative lifetime": ({"lifetime": Duration(seconds=-1)}, "lifetime"),
    "less than a second": ({"lifetime": Duration(nanos=999_999_999)}, "lifetime"),
    "a lifetime of impossible nanos": ({"lifetime": Duration(seconds=1, nanos=2_000_000_000)}, "lifetime"),
    "a lifetime of ages": ({"lifetime": Duration(seconds=2**62)}, "lifetime"),
    "a long request id": ({"request_id": "x" * 129}, "request_id"),
    "a request id with a space": ({"request_id": "a b"}, "request_id"),
    "a long explanation": ({"explanation": "x" * 4_097}, "explanation"),
    "an explanation with a null": ({"explanation": "a\x00b"}, "explanation"),
    "an operator not given": ({"grants": grant(path="/repo", values=[text("a")])}, "grants[0].constraints[0].op"),
    "an unknown operator": ({"grants": grant(path="/repo", op=99, values=[text("a")])}, "grants[0].constraints[0].op"),
    "no pointer": ({"grants": grant(path="repo", op="OPERATOR_PRESENT")}, "grants[0].constraints[0].path"),
    "no operand": ({"grants": grant(path="/repo", op="OPERATOR_EQ")}, "grants[0].constraints[0].values"),
    "an operand of no kind": (
        {"grants": grant(path="/repo", op="OPERATOR_EQ", values=[grant_pb2.Scalar()])},
        "grants[0].constraints[0].values[0]",
    ),
    "an operand too large": (
        {"grants": grant(path="/n", op="OPERATOR_EQ", values=[grant_pb2.Scalar(integer=2**60)])},
        "grants[0].constraints[0].values[0]",
    ),
}


@pytest.mark.parametrize(("changes", "field"), BAD_ISSUES.values(), ids=BAD_ISSUES.keys())
def test_a_bad_request_for_a_credential_names_the_field(
    doors: Doors, task_id: str, changes: dict[str, Any], field: str
) -> None:
    refusal = doors.refused("researcher", ISSUE, issue(**({"task_id": task_id} | changes)))
    assert refusal.reason is Reason.INVALID_ARGUMENT
    assert [violation.field for violation in refusal.violations] == [field]
    assert refusal.violations[0].description


BAD_TASKS: dict[str, tuple[dict[str, Any], str]] = {
    "no owner": ({"owner": ""}, "owner"),
    "an owner of spaces": ({"owner": "  "}, "owner"),
    "an owner on two lines": ({"owner": "a\nb"}, "owner"),
    "a purpose in prose": ({"purpose": "please let me"}, "purpose"),
    "no environment": ({"environment": ""}, "environment"),
    "an unknown environment": ({"environment": "moon"}, "environment"),
    "no agents": ({"agents": []}, "agents"),
    "an agent that is no SPIFFE ID": ({"agents": ["researcher"]}, "agents[0]"),
    "no tools": ({"tools": []}, "tools"),
    "a resource without tools": ({"tools": [grant_pb2.ResourceGrants(resource=REPO)]}, "tools[0].grants"),
    "no deadline": ({"deadline": None}, "deadline"),
    "a deadline that has passed": ({"deadline": seconds_from_now(-1)}, "deadline"),
    "a deadline far away": ({"deadline": seconds_from_now(3_600 * 24 * 30)}, "deadline"),
    "a deadline before all time": ({"deadline": Timestamp(seconds=-(2**40))}, "deadline"),
    "a negative risk": ({"risk_threshold": -1}, "risk_threshold"),
    "more risk than there is": ({"risk_threshold": 101}, "risk_threshold"),
}


@pytest.mark.parametrize(("changes", "field"), BAD_TASKS.values(), ids=BAD_TASKS.keys())
def test_a_bad_declaration_names_the_field(doors: Doors, changes: dict[str, Any], field: str) -> None:
    refusal = doors.refused("orchestrator", CREATE, declaration(**changes))
    assert refusal.reason is Reason.INVALID_ARGUMENT
    assert [violation.field for violation in refusal.violations] == [field]


def test_a_bound_is_told_as_durations_are_written(doors: Doors) -> None:
    refusal = doors.refused("orchestrator", CREATE, declaration(deadline=seconds_from_now(3_600 * 24 * 30)))
    assert [violation.description for violation in refusal.violations] == [
        "must be at most 7d away (limits.task_lifetime)"
    ]


PROSE = {
    "Japanese, with an ideographic space": "\u505c\u3000\u6b62",
    "a no-break space": "stop now\u00a0!",
    "French, with a narrow no-break space": "fuite de clef\u202f!",
    "Persian, with a joiner in a word": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "Hebrew, with a mark": "\u05e2\u05e6\u05d5\u05e8\u200f!",
    "an emoji of several": "leak \U0001f468\u200d\U0001f4bb",
    "an emoji that is newer than we are": "\U0001faea",
    "a soft hyphen from a web page": "revo\u00adcation",
}
NO_PROSE = {
    "an escape sequence": ("a\x1b[2J", "U+001B"),
    "a newline": ("a\nb", "character 2 is U+000A"),
    "a tab": ("a\tb", "U+0009"),
    "a null character": ("a\x00", "U+0000"),
    "a C1 control": ("a\x9bb", "U+009B"),
    "a separator of lines": ("a\u2028b", "U+2028"),
    "an override of direction": ("a\u202eb", "U+202E"),
    "an isolate": ("a\u2066b", "U+2066"),
    "nothing that can be seen": ("\u200b\u00a0\u3000", "is required"),
    "too much": ("x" * 513, "at most 512 characters"),
}


@pytest.mark.parametrize("text", PROSE.values(), ids=PROSE.keys())
def test_prose_is_taken_as_people_write_it(doors: Doors, text: str) -> None:
    selector = selector_pb2.Selector(tenant="acme", task_id="none")
    assert doors.call("operator", REVOKE, Revoke(selector=selector, reason=text)).rule.index
    assert doors.call("orchestrator", CREATE, declaration(owner=text)).owner == text


@pytest.mark.parametrize(("text", "told"), NO_PROSE.values(), ids=NO_PROSE.keys())
def test_what_is_not_one_line_of_prose_is_told_by_its_letter(doors: Doors, text: str, told: str) -> None:
    refusal = doors.refused("operator", REVOKE, Revoke(selector=EVERYTHING, reason=text))
    assert [violation.field for violation in refusal.violations] == ["reason"]
    assert told in refusal.violations[0].description
    if len(text) < 200:
        assert doors.refused("orchestrator", CREATE, declaration(owner=text)).violations[0].field == "owner"


EVERYTHING = selector_pb2.Selector(tenant="acme", everything=True)
OTHERS: dict[str, tuple[str, str, Any, str]] = {
    "revoke nothing named": ("operator", REVOKE, Revoke(reason="x"), "selector.tenant"),
    "revoke no target": (
        "operator",
        REVOKE,
        Revoke(selector=selector_pb2.Selector(tenant="acme"), reason="x"),
        "selector",
    ),
    "revoke everything, not": (
        "operator",
        REVOKE,
        Revoke(selector=selector_pb2.Selector(tenant="acme", everything=False), reason="x"),
        "selector.everything",
    ),
    "revoke of a tenant too long to be one": (
        "operator",
        REVOKE,
        Revoke(selector=selector_pb2.Selector(tenant="x" * 256, everything=True), reason="x"),
        "selector.tenant",
    ),
    "revoke without a reason": (
        "operator",
        REVOKE,
        Revoke(selector=EVERYTHING),
        "reason",
    ),
    "a page of too many": ("operator", LIST, List(page_size=1_001), "page_size"),
    "a page of less than none": ("operator", LIST, List(page_size=-1), "page_size"),
    "a page that nobody gave": ("operator", LIST, List(page_token="x"), "page_token"),
    "end without an outcome": (
        "orchestrator",
        "OrchestratorService.EndTask",
        orchestrator_pb.EndTaskRequest(task_id=NOBODY),
        "outcome",
    ),
    "no first size": (
        "auditor",
        "AuditorService.GetConsistencyProof",
        auditor_pb.GetConsistencyProofRequest(),
        "first_size",
    ),
    "introspect nothing": (
        "verifier",
        "VerifierService.IntrospectCredential",
        verifier_pb.IntrospectCredentialRequest(),
        "token",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("who", "rpc", "request_", "field"), OTHERS.values(), ids=OTHERS.keys())
def test_other_bad_requests_name_the_field(doors: Doors, who: str, rpc: str, request_: Any, field: str) -> None:
    refusal = doors.refused(who, rpc, request_)
    assert refusal.reason is Reason.INVALID_ARGUMENT
    assert [violation.field for violation in refusal.violations] == [field]


def test_an_error_has_the_details_that_every_google_client_reads(doors: Doors, task_id: str) -> None:
    call: Raw = doors.channel("researcher").unary_unary("/broker.v1.AgentService/IssueCredential")
    with pytest.raises(grpc.RpcError) as error:
        call(issue(task_id, resource="repo").SerializeToString(), timeout=60)
    status = rpc_status.from_call(error.value)  # type: ignore[arg-type]
    assert status is not None
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert any(detail.Unpack(info) for detail in status.details)
    assert any(detail.Unpack(bad) for detail in status.details)
    assert (info.reason, info.domain) == ("INVALID_ARGUMENT", "credbroker")
    assert [violation.field for violation in bad.field_violations] == ["resource"]


def test_an_unknown_field_is_refused_wherever_it_is(doors: Doors, task_id: str) -> None:
    unknown = b"\xf8\x3f\x01"  # field 1023, a varint
    for data in (
        issue(task_id).SerializeToString() + unknown,
        issue(task_id, grants=[grant_pb2.Grant.FromString(b"\x0a\x09read_file" + unknown)]).SerializeToString(),
    ):
        refusal = doors.refused("researcher", ISSUE, data)
        assert refusal.reason is Reason.INVALID_ARGUMENT
        assert "1023" in refusal.message


def test_a_message_too_large_is_not_read(doors: Doors, task_id: str) -> None:
    call: Raw = doors.channel("researcher").unary_unary("/broker.v1.AgentService/IssueCredential")
    with pytest.raises(grpc.RpcError) as error:
        call(issue(task_id, explanation="x" * 300_000).SerializeToString(), timeout=60)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_deadline_is_honoured(doors: Doors, task_id: str) -> None:
    call: Raw = doors.channel("researcher").unary_unary("/broker.v1.AgentService/IssueCredential")
    with pytest.raises(grpc.RpcError) as error:
        call(issue(task_id).SerializeToString(), timeout=0.0001)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert doors.call("researcher", ISSUE, issue(task_id)).token


def test_a_lifetime_beyond_every_cap_is_capped(doors: Doors, task_id: str) -> None:
    lease = doors.call("researcher", ISSUE, issue(task_id, lifetime=Duration(seconds=86_000))).lease
    assert lease.expire_time.seconds - lease.issue_time.seconds <= 300


def test_the_same_request_again_gives_the_same_lease_and_another_under_its_id_none(doors: Doors, task_id: str) -> None:
    request = issue(task_id, request_id="once")
    first, again = (doors.call("researcher", ISSUE, request).lease for _ in range(2))
    assert first.lease_id == again.lease_id
    other = issue(task_id, request_id="once", explanation="another")
    assert doors.refused("researcher", ISSUE, other).reason is Reason.REQUEST_ID_REUSED
    others = doors.call("writer", ISSUE, issue(_task_of(doors, "writer"), request_id="once")).lease
    assert others.lease_id != first.lease_id
    begin = declaration(request_id="begin")
    assert doors.call("orchestrator", CREATE, begin).task_id == doors.call("orchestrator", CREATE, begin).task_id
    bobs = declaration(request_id="begin", owner="bob")
    assert doors.refused("orchestrator", CREATE, bobs).reason is Reason.REQUEST_ID_REUSED


def _task_of(doors: Doors, agent: str) -> str:
    request = declaration(agents=[f"spiffe://example.org/agent/{agent}"])
    return str(doors.call("orchestrator", CREATE, request).task_id)


def test_out_of_order_everything_is_refused(doors: Doors) -> None:
    task = doors.call("orchestrator", CREATE, declaration())
    credential = doors.call("researcher", ISSUE, issue(task.task_id))
    lease = agent_pb.RenewCredentialRequest(lease_id=credential.lease.lease_id)
    release = agent_pb.ReleaseCredentialRequest(lease_id=credential.lease.lease_id)
    released = doors.call("researcher", "AgentService.ReleaseCredential", release)
    again = doors.call("researcher", "AgentService.ReleaseCredential", release)
    assert released.index == again.index, "twice is once"
    assert doors.refused("researcher", "AgentService.RenewCredential", lease).reason is Reason.LEASE_NOT_LIVE
    end = orchestrator_pb.EndTaskRequest(task_id=task.task_id, outcome=task_pb2.TASK_STATE_COMPLETED)
    ended = [doors.call("orchestrator", "OrchestratorService.EndTask", end).index for _ in range(2)]
    assert ended[0] == ended[1]
    otherwise = orchestrator_pb.EndTaskRequest(task_id=task.task_id, outcome=task_pb2.TASK_STATE_FAILED)
    assert doors.refused("orchestrator", "OrchestratorService.EndTask", otherwise).reason is Reason.TASK_NOT_ACTIVE
    extend = orchestrator_pb.ExtendTaskRequest(task_id=task.task_id, deadline=seconds_from_now(7_200))
    assert doors.refused("orchestrator", "OrchestratorService.ExtendTask", extend).reason is Reason.TASK_NOT_ACTIVE
    assert doors.refused("researcher", ISSUE, issue(task.task_id)).reason is Reason.TASK_NOT_ACTIVE
    assert doors.refused("researcher", ISSUE, issue(NOBODY)).reason is Reason.TASK_NOT_FOUND
    assert doors.refused("writer", ISSUE, issue(task.task_id)).reason is Reason.TASK_NOT_FOUND
