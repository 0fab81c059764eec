from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import cedarpy
import pytest

from broker.model.decision import Action, Effect, Situation
from broker.model.lease import Binding
from broker.model.task import Environment
from broker.policy import request
from broker.policy.bundle import PolicyBundle
from broker.policy.engine import Policy, judge
from tests.support.sample_policy import (
    MAINTAINER,
    NOTES,
    REPO,
    RESEARCHER,
    SCRIBE,
    SITUATION,
    STRANGER,
    WRITER,
    loaded_with,
)

PROD = {"environment": Environment.PROD}
CASES: list[tuple[dict[str, Any], Effect, set[str]]] = [
    ({}, Effect.PERMIT, {"p-researchers-read-repo"}),
    ({"tools": ("read_file", "list_files")}, Effect.PERMIT, {"p-researchers-read-repo"}),
    ({"action": Action.RENEW, "renewals": 3}, Effect.PERMIT, {"p-researchers-read-repo"}),
    ({"action": Action.RENEW, "renewals": 96}, Effect.DENY, {"g-renewals"}),
    ({"resource": NOTES, "tools": ("search_notes",)}, Effect.PERMIT, {"p-researchers-search-notes"}),
    ({"tools": ("create_issue",)}, Effect.DENY, set()),
    ({"tools": ("read_file", "create_issue")}, Effect.DENY, set()),
    ({"tools": ()}, Effect.DENY, set()),
    ({"tools": ("read_fil",)}, Effect.DENY, set()),
    ({"tools": ("read_file", "search_notes")}, Effect.DENY, set()),
    ({"resource": "https://else.example"}, Effect.DENY, set()),
    ({"principal": STRANGER}, Effect.DENY, set()),
    ({"principal": RESEARCHER + "/x"}, Effect.DENY, set()),
    ({"risk_threshold": 7}, Effect.DENY, {"g-risk-above-threshold"}),
    ({"risk_threshold": 8}, Effect.PERMIT, {"p-researchers-read-repo"}),
    ({"lifetime_seconds": 86401}, Effect.DENY, {"g-lifetime-asked"}),
    ({"lifetime_seconds": 86400}, Effect.PERMIT, {"p-researchers-read-repo"}),
    ({"tools": ("read_file",) * 17}, Effect.DENY, {"g-breadth"}),
    ({**PROD}, Effect.PERMIT, {"p-researchers-read-repo"}),
    ({**PROD, "purpose": "experiment"}, Effect.DENY, {"g-no-experiments-in-prod"}),
    ({"principal": WRITER}, Effect.PERMIT, {"p-writers-read-repo"}),
    ({"principal": WRITER, "tools": ("create_issue",)}, Effect.PERMIT, {"p-writers-create-issue"}),
    ({"principal": WRITER, "tools": ("create_issue",), **PROD}, Effect.PERMIT, {"p-writers-create-issue-in-prod"}),
    (
        {"principal": WRITER, "tools": ("read_file", "create_issue")},
        Effect.PERMIT,
        {"p-writers-read-repo", "p-writers-create-issue"},
    ),
    ({"principal": WRITER, "resource": NOTES, "tools": ("add_note",)}, Effect.DENY, set()),
    ({"principal": SCRIBE, "resource": NOTES, "tools": ("add_note",)}, Effect.PERMIT, {"p-scribes-add-note"}),
    (
        {"principal": SCRIBE, "resource": NOTES, "tools": ("add_note",), "action": Action.RENEW},
        Effect.DENY,
        set(),
    ),
    ({"principal": MAINTAINER, "tools": ("delete_repo",)}, Effect.DENY, set()),
    (
        {"principal": MAINTAINER, "tools": ("delete_repo",), "purpose": "cleanup"},
        Effect.PERMIT,
        {"p-maintainers-delete-repo"},
    ),
    (
        {"principal": MAINTAINER, "tools": ("delete_repo",), "purpose": "cleanup", "risk_threshold": 100, **PROD},
        Effect.DENY,
        {"g-irreversible-not-in-prod"},
    ),
]


@pytest.mark.parametrize(("changes", "effect", "policies"), CASES)
def test_the_sample_decides_as_told(
    policy: Policy, changes: dict[str, Any], effect: Effect, policies: set[str]
) -> None:
    decision = policy.decide(replace(SITUATION, **changes))
    assert (decision.effect, set(decision.policies)) == (effect, policies)
    assert decision.revision == policy.bundle.revision
    assert (decision.lifetime_cap > timedelta(0)) == (effect is Effect.PERMIT)
    assert decision.errors == ()


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("environment", Environment)
@pytest.mark.parametrize("purpose", ["triage", "cleanup"])
@pytest.mark.parametrize("principal", [RESEARCHER, WRITER, SCRIBE, "spiffe://example.org/agent/new"])
def test_no_agent_ever_gets_delete_repo(
    policy: Policy, action: Action, environment: Environment, purpose: str, principal: str
) -> None:
    asked = replace(SITUATION, action=action, environment=environment, purpose=purpose, principal=principal)
    decision = policy.decide(replace(asked, tools=("delete_repo",), risk_threshold=100))
    assert decision.effect is Effect.DENY
    assert "g-irreversible-not-for-agents" in decision.policies


def test_the_first_tool_that_is_not_permitted_is_named(policy: Policy) -> None:
    asked = replace(SITUATION, tools=("read_file", "create_issue", "delete_repo"))
    assert policy.decide(asked).tool == "create_issue"
    assert policy.decide(replace(SITUATION, tools=("read_file", "nonsense"))).tool == "nonsense"
    assert policy.decide(SITUATION).tool == ""


def test_the_binding_is_the_resource_s(policy: Policy) -> None:
    assert policy.decide(SITUATION).binding is Binding.IDENTITY
    assert policy.decide(replace(SITUATION, resource=NOTES, tools=("search_notes",))).binding is Binding.BEARER


PERMIT = "permit (principal, action, resource)"


@pytest.mark.parametrize(
    ("policies", "tools", "seconds"),
    [
        ([f'@id("a") {PERMIT};'], ("read_file",), 300),
        ([f'@id("a") @max_lifetime("8m") {PERMIT};'], ("read_file",), 480),
        ([f'@id("a") @max_lifetime("1h") {PERMIT};'], ("read_file",), 600),
        ([f'@id("a") @max_lifetime("8m") {PERMIT};', f'@id("b") {PERMIT};'], ("read_file",), 300),
        ([f'@id("a") @max_lifetime("8m") {PERMIT};', f'@id("b") @max_lifetime("7s") {PERMIT};'], ("read_file",), 7),
        ([f'@id("a") @max_lifetime("1h") {PERMIT};'], ("read_file", "create_issue"), 300),
        ([f'@id("a") @max_lifetime("8m") {PERMIT};', f'@id("b") @max_lifetime("7s") {PERMIT} when {{ false }};'],
         ("read_file",), 480),
    ],
)  # fmt: skip
def test_the_lifetime_cap_is_the_least(
    tmp_path: Path, policies: list[str], tools: tuple[str, ...], seconds: int
) -> None:
    decision = Policy(loaded_with(tmp_path, *policies)).decide(replace(SITUATION, tools=tools))
    assert decision.lifetime_cap == timedelta(seconds=seconds)


# The traps: Cedar skips a policy that fails, and may then allow.

OVERFLOW = """@id("limit") forbid (principal, action, resource)
when { context.requested_lifetime_seconds * 9223372036854775807 > 60 };"""


def test_a_forbid_that_fails_refuses_with_error(tmp_path: Path) -> None:
    bundle = loaded_with(tmp_path, f'@id("all") {PERMIT};', OVERFLOW)
    decision = Policy(bundle).decide(replace(SITUATION, lifetime_seconds=3600))
    assert decision.effect is Effect.ERROR
    assert decision.tool == "read_file"
    assert "limit" in decision.errors[0]
    assert decision.policies == ()
    # The same question to Cedar alone: the trap is real.
    asked = request.cedar_request(
        Action.ISSUE, RESEARCHER, f"{REPO}#read_file", request.facts(replace(SITUATION, lifetime_seconds=3600), 0)
    )
    tool = bundle.tool(REPO, "read_file")
    assert tool
    policies = cedarpy.PolicySet.from_str(f"{PERMIT};{OVERFLOW}")
    entities = cedarpy.Entities.from_json_str(request.entities(RESEARCHER, (), tool), bundle.schema)
    assert cedarpy.is_authorized(asked, policies, entities, bundle.schema).allowed


def asked_of(bundle: PolicyBundle, situation: Situation) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    tool = bundle.tool(situation.resource, situation.tools[0])
    assert tool
    asked = request.cedar_request(situation.action, situation.principal, tool.id, request.facts(situation, 8))
    return asked, json.loads(request.entities(situation.principal, bundle.groups_of(situation.principal), tool))


def judged(policy: Policy, situation: Situation, asked: dict[str, Any], entities: list[dict[str, Any]]) -> Effect:
    slice_ = policy._slices[situation.action, f"{situation.resource}#{situation.tools[0]}"]
    handle = cedarpy.Entities.from_json_str(json.dumps(entities), policy.bundle.schema)
    return judge(asked, slice_.policies, handle, policy.bundle.schema).effect


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("attribute", sorted(request.ATTRIBUTES))
def test_without_any_one_attribute_there_is_only_error(policy: Policy, action: Action, attribute: str) -> None:
    situation = replace(SITUATION, action=action)
    asked, entities = asked_of(policy.bundle, situation)
    assert judged(policy, situation, asked, entities) is Effect.PERMIT
    del asked["context"][attribute]
    assert judged(policy, situation, asked, entities) is Effect.ERROR


@pytest.mark.parametrize("attribute", sorted(request.ATTRIBUTES))
def test_an_attribute_of_a_wrong_type_is_an_error(policy: Policy, attribute: str) -> None:
    asked, entities = asked_of(policy.bundle, SITUATION)
    asked["context"][attribute] = [None]
    assert judged(policy, SITUATION, asked, entities) is Effect.ERROR


def test_an_attribute_that_the_schema_does_not_know_is_an_error(policy: Policy) -> None:
    asked, entities = asked_of(policy.bundle, SITUATION)
    asked["context"]["explanation"] = "please"
    assert judged(policy, SITUATION, asked, entities) is Effect.ERROR


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("action", Action)
def test_without_any_one_entity_there_is_no_permit(policy: Policy, action: Action, index: int) -> None:
    situation = replace(SITUATION, action=action)
    asked, entities = asked_of(policy.bundle, situation)
    del entities[index]
    assert judged(policy, situation, asked, entities) is not Effect.PERMIT


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("action", {"type": "Broker::Action", "id": "isue"}),
        ("principal", {"type": "Broker::Person", "id": RESEARCHER}),
        ("resource", {"type": "Broker::Thing", "id": "x"}),
        ("principal", {"type": "Broker::Workload", "id": "\ud800"}),
    ],
)
def test_a_typo_in_the_request_is_an_error(policy: Policy, part: str, value: dict[str, str]) -> None:
    asked, entities = asked_of(policy.bundle, SITUATION)
    asked[part] = value
    assert judged(policy, SITUATION, asked, entities) is Effect.ERROR


def test_a_typo_in_the_environment_is_an_error(policy: Policy) -> None:
    asked, entities = asked_of(policy.bundle, SITUATION)
    asked["context"]["environment"]["__entity"]["id"] = "prd"
    assert judged(policy, SITUATION, asked, entities) is Effect.ERROR


@pytest.mark.parametrize(
    "changes",
    [
        {"lifetime_seconds": 2**63},
        {"age_seconds": 2**63},
        {"owner": "\ud800"},
        {"principal": "spiffe://example.org/\ud800"},
    ],
)
def test_what_cedar_cannot_hold_is_an_error_even_after_a_permit(policy: Policy, changes: dict[str, Any]) -> None:
    assert policy.decide(SITUATION).effect is Effect.PERMIT
    assert policy.decide(replace(SITUATION, **changes)).effect is Effect.ERROR


@pytest.mark.parametrize("text", ['"', '\\"); permit(', "\n", "é", "x" * 10_000])
def test_nothing_can_be_injected(policy: Policy, text: str) -> None:
    changed = replace(SITUATION, purpose=text, owner=text, tenant=text)
    assert policy.decide(changed).effect is Effect.PERMIT
    assert policy.decide(replace(SITUATION, principal=text)).effect is Effect.DENY
