"""The edges of each RPC: replays, pages, locks, proofs, and what belongs to somebody else."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from broker.identity.spiffe import parse_spiffe_id
from broker.model.clock import to_micros
from broker.model.errors import Reason, Refusal
from broker.sandbox import authority
from broker.system import system_clock
from broker.v1 import agent_service_pb2 as agent_pb
from broker.v1 import auditor_service_pb2 as auditor_pb
from broker.v1 import grant_pb2, lease_pb2
from broker.v1 import operator_service_pb2 as operator_pb
from broker.v1 import orchestrator_service_pb2 as orchestrator_pb
from broker.v1 import verifier_service_pb2 as verifier_pb
from broker.v1.selector_pb2 import Selector
from tests.support.doors import DAY, METHODS, PEOPLE, Doors

REPO = "https://repo.tools.example"
RESEARCHER = "spiffe://example.org/agent/researcher"
ISSUE, RENEW, RELEASE = (f"AgentService.{name}Credential" for name in ("Issue", "Renew", "Release"))
LOCK, UNLOCK = "OperatorService.CreateLock", "OperatorService.DeleteLock"
REVOKE, LEASES = "OperatorService.RevokeLeases", "OperatorService.ListLeases"
INTROSPECT = "VerifierService.IntrospectCredential"
ENTRIES = "AuditorService.ListEntries"
INCLUSION, CONSISTENCY = "AuditorService.GetInclusionProof", "AuditorService.GetConsistencyProof"
LARGEST = 2**63 - 1
TRIES = 60


@pytest.fixture(scope="module")
def task_id(doors: Doors) -> str:
    grants = [grant_pb2.Grant(tool="read_file"), grant_pb2.Grant(tool="list_files")]
    declared = orchestrator_pb.CreateTaskRequest(
        owner="alice",
        purpose="triage",
        environment="dev",
        agents=[RESEARCHER],
        tools=[grant_pb2.ResourceGrants(resource=REPO, grants=grants)],
        deadline=Timestamp(seconds=to_micros(system_clock()) // 1_000_000 + 3_600),
        risk_threshold=60,
    )
    return str(doors.call("orchestrator", "OrchestratorService.CreateTask", declared).task_id)


@pytest.fixture(scope="module")
def root_operator(doors: Doors) -> str:
    """An operator of all tenants."""
    spiffe_id = parse_spiffe_id("spiffe://example.org/operator/root")
    authority.issue(doors.broker.svids, "root-operator", spiffe_id, (), DAY, system_clock())
    return "root-operator"


def issue(doors: Doors, task_id: str, **changes: Any) -> agent_pb.IssueCredentialResponse:
    fields: dict[str, Any] = {"task_id": task_id, "resource": REPO, "grants": [grant_pb2.Grant(tool="read_file")]}
    answer = doors.call("researcher", ISSUE, agent_pb.IssueCredentialRequest(**(fields | changes)))
    assert isinstance(answer, agent_pb.IssueCredentialResponse)
    return answer


@pytest.mark.parametrize("path", sorted(METHODS))
def test_no_rpc_takes_a_field_it_does_not_know(doors: Doors, path: str) -> None:
    rpc = path.removeprefix("/broker.v1.").replace("/", ".")
    who = PEOPLE[rpc.partition("Service")[0].lower() + "s"]
    refusal = doors.refused(who, rpc, b"\xf8\x3f\x01")  # field 1023, a varint
    assert refusal.reason is Reason.INVALID_ARGUMENT
    assert [violation.field for violation in refusal.violations] == ["request"]
    assert "1023" in refusal.message


@pytest.mark.parametrize("path", sorted(METHODS))
def test_no_rpc_takes_text_that_is_not_unicode(doors: Doors, path: str) -> None:
    method = METHODS[path]
    texts = [field for field in method.input_type.fields if field.type == field.TYPE_STRING]
    rpc = path.removeprefix("/broker.v1.").replace("/", ".")
    who = PEOPLE[rpc.partition("Service")[0].lower() + "s"]
    for field in texts:
        data = bytes([field.number << 3 | 2, 2]) + b"\xff\xfe"
        assert doors.refused(who, rpc, data).reason is Reason.INVALID_ARGUMENT


def test_a_renewal_that_is_sent_again_renews_once(doors: Doors, task_id: str) -> None:
    lease_id = issue(doors, task_id, request_id="of-the-issue").lease.lease_id
    renewal = agent_pb.RenewCredentialRequest(lease_id=lease_id, request_id="renew-once")
    assert [doors.call("researcher", RENEW, renewal).lease.renewals for _ in range(3)] == [1, 1, 1]
    otherwise = agent_pb.RenewCredentialRequest(
        lease_id=lease_id, request_id="renew-once", lifetime=Duration(seconds=9)
    )
    assert doors.refused("researcher", RENEW, otherwise).reason is Reason.REQUEST_ID_REUSED
    for_issue = agent_pb.RenewCredentialRequest(lease_id=lease_id, request_id="of-the-issue")
    assert doors.refused("researcher", RENEW, for_issue).reason is Reason.REQUEST_ID_REUSED
    seen = doors.call("operator", "OperatorService.GetLease", operator_pb.GetLeaseRequest(lease_id=lease_id))
    assert seen.renewals == 1


def test_an_issue_that_is_sent_again_after_a_release_gives_no_token(doors: Doors, task_id: str) -> None:
    lease_id = issue(doors, task_id, request_id="released").lease.lease_id
    doors.call("researcher", RELEASE, agent_pb.ReleaseCredentialRequest(lease_id=lease_id))
    with pytest.raises(Refusal) as caught:
        issue(doors, task_id, request_id="released")
    assert caught.value.reason is Reason.LEASE_NOT_LIVE


def test_a_refused_request_does_not_use_up_its_id(doors: Doors, task_id: str) -> None:
    with pytest.raises(Refusal):
        issue(doors, task_id, request_id="second-try", resource="https://nowhere.example")
    assert issue(doors, task_id, request_id="second-try").token


def test_only_its_holder_may_use_a_lease(doors: Doors, task_id: str) -> None:
    lease_id = issue(doors, task_id).lease.lease_id
    renewal, release = (
        agent_pb.RenewCredentialRequest(lease_id=lease_id),
        agent_pb.ReleaseCredentialRequest(lease_id=lease_id),
    )
    assert doors.refused("writer", RENEW, renewal).reason is Reason.LEASE_NOT_FOUND
    assert doors.refused("writer", RELEASE, release).reason is Reason.LEASE_NOT_FOUND
    assert doors.call("researcher", RENEW, renewal).lease.state == lease_pb2.LEASE_STATE_LIVE


def issue_in_its_life(doors: Doors, task_id: str, seconds: int) -> agent_pb.IssueCredentialResponse:
    """Issue a credential, again if a busy machine took longer for it than it lives."""
    for _ in range(TRIES):
        try:
            return issue(doors, task_id, lifetime=Duration(seconds=seconds))
        except Refusal as refusal:
            if refusal.reason is not Reason.LEASE_NOT_LIVE:
                raise
    raise TimeoutError("no credential was handed out in its life")


@pytest.mark.parametrize("seconds", [1, 30, 299])
def test_a_lifetime_below_every_cap_is_granted(doors: Doors, task_id: str, seconds: int) -> None:
    lease = issue_in_its_life(doors, task_id, seconds).lease
    lived = lease.expire_time.ToDatetime() - lease.issue_time.ToDatetime()
    assert seconds - 1 < lived.total_seconds() <= seconds


def test_a_tool_is_granted_only_as_far_as_it_was_declared(doors: Doors, task_id: str) -> None:
    for changes, reason in (
        ({"grants": [grant_pb2.Grant(tool="create_issue")]}, Reason.TOOL_NOT_DECLARED),
        ({"grants": [grant_pb2.Grant(tool="Read_file")]}, Reason.TOOL_NOT_DECLARED),
        ({"resource": f"{REPO}/"}, Reason.TOOL_NOT_DECLARED),
    ):
        with pytest.raises(Refusal) as caught:
            issue(doors, task_id, **changes)
        assert caught.value.reason is reason


def test_a_lock_stops_credentials_until_it_is_lifted_once(doors: Doors, task_id: str) -> None:
    lease_id = issue(doors, task_id).lease.lease_id
    request = operator_pb.CreateLockRequest(selector=Selector(tenant="acme", agent=RESEARCHER), reason="suspicion")
    lock = doors.call("operator", LOCK, request)
    with pytest.raises(Refusal) as caught:
        issue(doors, task_id)
    assert caught.value.reason is Reason.LOCKED
    renewal = agent_pb.RenewCredentialRequest(lease_id=lease_id)
    assert doors.refused("researcher", RENEW, renewal).reason is Reason.LOCKED
    lift = operator_pb.DeleteLockRequest(lock_id=lock.lock_id)
    assert doors.call("operator", UNLOCK, lift).index > lock.index
    assert doors.refused("operator", UNLOCK, lift).reason is Reason.LOCK_NOT_FOUND
    assert issue(doors, task_id).token


@pytest.mark.parametrize(
    "lifetime", [Duration(), Duration(seconds=-5), Duration(nanos=5), Duration(seconds=2**61)], ids=str
)
def test_a_lock_of_an_impossible_lifetime_is_refused(doors: Doors, lifetime: Duration) -> None:
    selector = Selector(tenant="acme", agent=RESEARCHER)
    request = operator_pb.CreateLockRequest(selector=selector, reason="x", lifetime=lifetime)
    refusal = doors.refused("operator", LOCK, request)
    assert [violation.field for violation in refusal.violations] == ["lifetime"]
    revoke = operator_pb.RevokeLeasesRequest(selector=selector, reason="x", lock=True, lock_lifetime=lifetime)
    refusal = doors.refused("operator", REVOKE, revoke)
    assert [violation.field for violation in refusal.violations] == ["lock_lifetime"]


def test_what_would_outlast_the_calendar_is_refused(doors: Doors, task_id: str) -> None:
    ages = Duration(seconds=315_576_000_000)  # as long as the format allows
    selector = Selector(tenant="acme", task_id="0198f3c2-7b1e-7c11-9d3a-5b1c2f7d9e40")
    request = operator_pb.CreateLockRequest(selector=selector, reason="x", lifetime=ages)
    assert doors.refused("operator", LOCK, request).reason is Reason.INVALID_ARGUMENT
    with pytest.raises(Refusal) as caught:
        issue(doors, task_id, lifetime=ages)
    assert caught.value.reason is Reason.INVALID_ARGUMENT


HOSTILE = {
    "a null": "a\x00b",
    "a newline": "a\nb",
    "an escape": "a\x1b[2J",
    "a text turned around": "\u202eacme",
    "too long": "x" * 3_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_selector_of_hostile_text_is_refused_even_from_the_root_operator(
    doors: Doors, root_operator: str, text: str
) -> None:
    for selector, field in (
        (Selector(tenant=text, everything=True), "selector.tenant"),
        (Selector(tenant="acme", lease_id=text), "selector.lease_id"),
        (Selector(tenant="acme", task_id=text), "selector.task_id"),
        (Selector(tenant="acme", agent=text), "selector.agent"),
        (Selector(tenant="acme", tool=text), "selector.tool"),
    ):
        request = operator_pb.RevokeLeasesRequest(selector=selector, reason="x")
        refusal = doors.refused(root_operator, REVOKE, request)
        assert refusal.reason is Reason.INVALID_ARGUMENT
        assert [violation.field for violation in refusal.violations] == [field]


@pytest.mark.parametrize("text", ["a\nb", "a\x00b", "\u202eb", "\x1b[2J", "x" * 513, " \t "], ids=ascii)
def test_a_reason_is_one_line_to_read(doors: Doors, text: str) -> None:
    selector = Selector(tenant="acme", agent="spiffe://example.org/agent/nobody")
    for rpc, request in (
        (REVOKE, operator_pb.RevokeLeasesRequest(selector=selector, reason=text)),
        (LOCK, operator_pb.CreateLockRequest(selector=selector, reason=text)),
    ):
        refusal = doors.refused("operator", rpc, request)
        assert [violation.field for violation in refusal.violations] == ["reason"]


def test_a_dry_run_changes_nothing(doors: Doors, task_id: str) -> None:
    lease_id = issue(doors, task_id).lease.lease_id
    selector = Selector(tenant="acme", lease_id=lease_id)
    hit = doors.call("operator", REVOKE, operator_pb.RevokeLeasesRequest(selector=selector, dry_run=True))
    assert (hit.live_leases, [lease.lease_id for lease in hit.sample]) == (1, [lease_id])
    assert not hit.HasField("rule")
    seen = doors.call("operator", "OperatorService.GetLease", operator_pb.GetLeaseRequest(lease_id=lease_id))
    assert seen.state == lease_pb2.LEASE_STATE_LIVE


def test_pages_give_every_lease_once(doors: Doors, task_id: str) -> None:
    mine = {issue(doors, task_id).lease.lease_id for _ in range(7)}
    selector = Selector(tenant="acme", task_id=task_id)
    found: list[str] = []
    token = ""
    while True:
        request = operator_pb.ListLeasesRequest(selector=selector, page_size=3, page_token=token)
        page = doors.call("operator", LEASES, request)
        assert len(page.leases) <= 3
        found += [lease.lease_id for lease in page.leases]
        token = page.next_page_token
        if not token:
            break
    assert len(found) == len(set(found))
    assert mine <= set(found)


@pytest.mark.parametrize("token", ["-1", "x", "1.0", "9" * 19, "\u0661", " 1", "1 OR 1=1", "0x10"])
def test_a_page_token_that_nobody_gave_is_refused(doors: Doors, token: str) -> None:
    for who, rpc, request in (
        ("operator", LEASES, operator_pb.ListLeasesRequest(page_token=token)),
        ("orchestrator", "OrchestratorService.ListTasks", orchestrator_pb.ListTasksRequest(page_token=token)),
        ("auditor", ENTRIES, auditor_pb.ListEntriesRequest(page_token=token)),
    ):
        refusal = doors.refused(who, rpc, request)
        assert [violation.field for violation in refusal.violations] == ["page_token"]


@pytest.mark.parametrize("index", [-1, -LARGEST - 1, LARGEST])
def test_there_is_no_proof_of_what_is_not_in_the_ledger(doors: Doors, index: int) -> None:
    inclusion = auditor_pb.GetInclusionProofRequest(index=index)
    assert doors.refused("auditor", INCLUSION, inclusion).reason is Reason.ENTRY_NOT_FOUND
    consistency = auditor_pb.GetConsistencyProofRequest(first_size=index)
    assert doors.refused("auditor", CONSISTENCY, consistency).reason is Reason.INVALID_ARGUMENT
    listed = doors.call("auditor", ENTRIES, auditor_pb.ListEntriesRequest(start_index=index))
    assert bool(listed.entries) is (index < 0)


@pytest.mark.parametrize("text", ["a\x00b", "a\nb", "\u0430", "x" * 129], ids=ascii)
def test_entries_are_not_looked_up_by_hostile_text(doors: Doors, text: str) -> None:
    refusal = doors.refused("auditor", ENTRIES, auditor_pb.ListEntriesRequest(task_id=text))
    assert [violation.field for violation in refusal.violations] == ["task_id"]


def test_what_a_refused_request_said_is_recorded_in_bounds(doors: Doors) -> None:
    hostile = agent_pb.IssueCredentialRequest(
        task_id="\x00\x1b\u202e" * 10_000, resource="r" * 10_000, grants=[grant_pb2.Grant(tool="t" * 1_000)] * 60
    )
    assert doors.refused("researcher", ISSUE, hostile).reason is Reason.INVALID_ARGUMENT
    entries = doors.call("auditor", ENTRIES, auditor_pb.ListEntriesRequest(page_size=1_000)).entries
    body = json.loads(entries[-1].body)
    asserted = body["asserted"]
    assert asserted["task"] == {"bytes": 50_000, "sha256": hashlib.sha256(hostile.task_id.encode()).hexdigest()}
    assert asserted["resource"] == {"bytes": 10_000, "sha256": hashlib.sha256(b"r" * 10_000).hexdigest()}
    assert asserted["tools"] == [{"bytes": 1_000, "sha256": hashlib.sha256(b"t" * 1_000).hexdigest()}] * 16
    assert asserted["more_tools"] == 44
    assert len(entries[-1].body) < 4_096


def test_a_token_is_good_until_its_lease_is_dead(doors: Doors, task_id: str) -> None:
    credential = issue(doors, task_id)
    asked = verifier_pb.IntrospectCredentialRequest(token=credential.token)
    assert doors.call("verifier", INTROSPECT, asked).lease.lease_id == credential.lease.lease_id
    doors.call("researcher", RELEASE, agent_pb.ReleaseCredentialRequest(lease_id=credential.lease.lease_id))
    answer = doors.call("verifier", INTROSPECT, asked)
    assert not answer.active
    assert not answer.HasField("lease")


@pytest.mark.parametrize("change", ["junk", "head", "body", "signature", "nothing signed"])
def test_a_token_that_was_changed_is_not_good_and_nothing_is_said_of_it(
    doors: Doors, task_id: str, change: str
) -> None:
    head, body, signature = issue(doors, task_id).token.split(".")
    flipped = signature[:-3] + ("A" if signature[-3] != "A" else "B") + signature[-2:]
    token = {
        "junk": "\x00\u202e",
        "head": f"{head[:-1]}.{body}.{signature}",
        "body": f"{head}.{body[:20]}A{body[21:]}A.{signature}",
        "signature": f"{head}.{body}.{flipped}",
        "nothing signed": f"{head}.{body}.",
    }[change]
    asked = verifier_pb.IntrospectCredentialRequest(token=token)
    assert doors.call("verifier", INTROSPECT, asked) == verifier_pb.IntrospectCredentialResponse(active=False)
