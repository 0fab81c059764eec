"""The digest of a request: bytes that outlive the release that wrote them, so they are pinned here."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.lease import idempotency, issue, tasks
from broker.model.grant import Constraint, Grant, Operator, ResourceGrants
from broker.model.intent import Intent
from broker.model.principal import Principal, Role
from broker.model.task import Declaration, Environment

DEADLINE = datetime(2030, 1, 1, 16, tzinfo=UTC)
CALLER = Principal(
    id="spiffe://example.org/agent/researcher",
    tenant="acme",
    roles=frozenset({Role.AGENTS}),
    method="x509_svid",
    proof="00" * 32,
    not_after=DEADLINE,
)
REPO = "https://repo.tools.example"
GRANT = Grant("read_file", (Constraint("/repo", Operator.IN, ("acme/web", 7, True)),))
INTENT = Intent(
    task_id="t-1",
    resource=REPO,
    grants=(GRANT, Grant("list_files")),
    lifetime=timedelta(seconds=90),
    request_id="r-1",
    explanation="wörtlich",
)
DECLARATION = Declaration(
    owner="alice",
    purpose="triage",
    environment=Environment.DEV,
    agents=(CALLER.id,),
    tools=(ResourceGrants(REPO, (GRANT,)),),
    deadline=DEADLINE,
    risk_threshold=60,
)


def of_issue(intent: Intent) -> bytes:
    request = issue.identified(CALLER, intent)
    assert request is not None
    return request.digest


def of_task(declaration: Declaration) -> bytes:
    request = tasks.identified(CALLER, declaration, "r-1")
    assert request is not None
    return request.digest


def hashed(text: str) -> bytes:
    return b"\x01" + hashlib.sha256(text.encode()).digest()


GRANTS = '[{"constraints":[["/repo","in",["acme/web",7,true]]],"tool":"read_file"}'
VECTORS = [
    (
        of_issue(INTENT),
        (
            f'{{"issue":{{"explanation":"wörtlich","grants":{GRANTS},{{"tool":"list_files"}}],"lifetime":90000000,'
            f'"resource":"{REPO}","task":"t-1"}}}}'
        ),
        "01a1d9d6d41ae0463588f2426cdc4b091f2170a2a3537fc152af9b74af39f22f07",
    ),
    (
        of_issue(Intent(task_id="t-1", resource=REPO, grants=(), request_id="r-1")),
        f'{{"issue":{{"resource":"{REPO}","task":"t-1"}}}}',
        "01fb25088d71b81394390556f93d3f8ef308135977577726f172f9c5ef85cf4d82",
    ),
    (
        idempotency.digest("renew", {"lease": "l-1", "lifetime": None}),
        '{"renew":{"lease":"l-1"}}',
        "01d3054e82e17f79cbc5503b4d267caeb9d56886379a14f5f1079b171edd89e61f",
    ),
    (
        of_task(DECLARATION),
        (
            f'{{"task":{{"agents":["{CALLER.id}"],"deadline":1893513600000000,"environment":"dev","owner":"alice",'
            f'"purpose":"triage","risk_threshold":60,"tools":[{{"grants":{GRANTS}],"resource":"{REPO}"}}]}}}}'
        ),
        "01bb183433ab4c30715daf4d8b275f90b796a887babed27a242dddb50bd6041f90",
    ),
]


@pytest.mark.parametrize(("digest", "text", "vector"), VECTORS, ids=["issue", "bare issue", "renew", "task"])
def test_a_digest_is_a_version_and_the_hash_of_canonical_json(digest: bytes, text: str, vector: str) -> None:
    assert digest == hashed(text)
    assert digest.hex() == vector


def test_a_request_without_an_id_is_not_known_again() -> None:
    assert issue.identified(CALLER, replace(INTENT, request_id="")) is None
    assert tasks.identified(CALLER, DECLARATION, "") is None


@pytest.mark.parametrize(
    "change",
    [
        {"task_id": "t-2"},
        {"resource": "https://notes.tools.example"},
        {"grants": (Grant("read_file"), Grant("list_files"))},
        {"grants": (replace(GRANT, constraints=(replace(GRANT.constraints[0], values=("acme/web", 7, 1)),)),)},
        {"lifetime": None},
        {"explanation": ""},
    ],
)
def test_whatever_else_is_asked_for_has_another_digest(change: dict[str, Any]) -> None:
    assert of_issue(replace(INTENT, **change)) != of_issue(INTENT)


@pytest.mark.parametrize(
    "change",
    [
        {"owner": "bob"},
        {"purpose": "other"},
        {"environment": Environment.PROD},
        {"agents": ()},
        {"tools": ()},
        {"deadline": DEADLINE + timedelta(seconds=1)},
        {"deadline": timedelta(hours=1)},
        {"risk_threshold": 0},
    ],
)
def test_whatever_else_is_declared_has_another_digest(change: dict[str, Any]) -> None:
    assert of_task(replace(DECLARATION, **change)) != of_task(DECLARATION)


@given(st.sampled_from([None, "", []]), st.sampled_from(["a_new_field", "zz", ""]))
def test_a_field_that_a_caller_does_not_use_yet_changes_no_digest(nothing: Any, name: str) -> None:
    body: dict[str, Any] = {"lease": "l-1", "flag": False, "count": 0}
    assert idempotency.digest("renew", {**body, name: nothing}) == idempotency.digest("renew", body)
    assert idempotency.digest("renew", {**body, name: 0}) != idempotency.digest("renew", body)
