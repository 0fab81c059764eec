from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cedarpy
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.config.policy_bundle import load
from broker.model.decision import Action, Effect, Situation
from broker.model.task import Environment
from broker.policy import request
from broker.policy.bundle import PolicyBundle
from broker.policy.engine import Policy
from broker.policy.request import ATTRIBUTES
from broker.policy.slices import reads
from tests.support.sample_policy import SAMPLE


def body(condition: str) -> Any:
    tree = json.loads(cedarpy.policies_to_json_str(f"permit (principal, action, resource) when {{ {condition} }};"))
    return tree["staticPolicies"]["policy0"]["conditions"][0]["body"]


@pytest.mark.parametrize(
    ("condition", "read"),
    [
        ("true", set()),
        ("resource.sensitivity > 3 && principal in [principal]", set()),
        ("context.risk.score > context.risk_threshold", {"risk", "risk_threshold"}),
        ('context["purpose"] == "x"', {"purpose"}),
        ("context has now", {"now"}),
        ("context has risk.score", {"risk"}),
        ('if context.breadth > 1 then false else context.owner like "a*"', {"breadth", "owner"}),
        ("!(context.renewals == -(context.age_seconds))", {"renewals", "age_seconds"}),
        ('{a: [context.tenant]}.a.contains("x")', {"tenant"}),
        ('context.now.offset(duration("1h")).toTime() > duration("8h")', {"now"}),
        ("principal is Broker::Workload in context.environment", {"environment"}),
        ('"context" == "context.now"', set()),
        # Not understood, so everything.
        ("context == context", ATTRIBUTES),
        ("{a: context}.a.purpose == 'x'".replace("'", '"'), ATTRIBUTES),
        ("(if true then context else context).breadth > 1", ATTRIBUTES),
        ("context.unheard_of", ATTRIBUTES),
    ],
)
def test_what_an_expression_reads(condition: str, read: set[str]) -> None:
    assert reads(body(condition)) == read


@pytest.mark.parametrize(
    "node",
    [
        {"Slot": "?principal"},
        {"Var": "somebody"},
        {"fetch": [{"Value": 1}]},
        {"fetch": {"left": {"Value": 1}}},
        {"==": {"left": {"Value": 1}, "right": {"Value": 1}, "third": "context.now"}},
        {"==": [{"Value": 1}]},
        {"Value": 1, "Var": "context"},
        {".": {"left": {"Var": "context"}, "attr": ["risk", "score"]}},
        {".": {"left": {"Var": "context", "also": 1}, "attr": "risk"}},
        {},
        [],
        "context",
        None,
    ],
)
def test_what_is_not_understood_reads_everything(node: object) -> None:
    assert reads(node) == ATTRIBUTES
    assert reads({"!": {"arg": node}}) == ATTRIBUTES


NUMBERS = ("context.risk.score", "context.risk_threshold", "context.requested_lifetime_seconds", "context.breadth",
           "context.renewals", "context.age_seconds", "resource.sensitivity")  # fmt: skip
TEXTS = ("context.tenant", "context.purpose", "context.owner")
SMALL = st.integers(0, 3)
WORDS = st.sampled_from(["a", "b", "ab"])
TOOLS = [("https://repo.tools.example", name) for name in ("read_file", "list_files", "create_issue", "delete_repo")]
AGENTS = [f"spiffe://example.org/{name}" for name in ("agent/researcher", "agent/writer", "person/alice", "job/x")]
START = datetime(2030, 1, 1, tzinfo=UTC)

ATOMS = st.one_of(
    st.builds("{} {} {}".format, st.sampled_from(NUMBERS), st.sampled_from(["<", ">=", "=="]), SMALL),
    st.builds("{} < {}".format, st.sampled_from(NUMBERS), st.sampled_from(NUMBERS)),
    st.builds('{} == "{}"'.format, st.sampled_from(TEXTS), WORDS),
    st.builds('{} like "{}*"'.format, st.sampled_from(TEXTS), WORDS),
    st.builds('{{a: {}}}.a != "{}"'.format, st.sampled_from(TEXTS), WORDS),
    st.builds('context.environment == Broker::Environment::"{}"'.format, st.sampled_from(list(Environment))),
    st.builds('context.now < datetime("2030-01-01T00:00:0{}Z")'.format, SMALL),
    st.builds("{} * 4611686018427387904 > 0".format, st.sampled_from(NUMBERS)),
    st.just("context == context"),
    st.just("resource.side_effects"),
)
CONDITIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds("({} && {})".format, inner, inner),
        st.builds("({} || {})".format, inner, inner),
        st.builds("(if {} then {} else {})".format, inner, inner, inner),
        st.builds("!({})".format, inner),
    ),
    max_leaves=4,
)
PRINCIPALS = st.sampled_from(
    ["principal", 'principal in Broker::Group::"agents"', f'principal == Broker::Workload::"{AGENTS[1]}"']
)
ACTIONS = st.sampled_from(
    ["action", 'action == Broker::Action::"issue"', 'action == Broker::Action::"renew"',
     'action in Broker::Action::"grant"', 'action in [Broker::Action::"renew"]']
)  # fmt: skip
RESOURCES = st.sampled_from(
    ["resource", 'resource in Broker::Toolset::"repo-read"', "resource is Broker::Tool",
     'resource is Broker::Tool in Broker::Toolset::"repo-write"',
     f'resource == Broker::Tool::"{TOOLS[0][0]}#read_file"']
)  # fmt: skip
POLICIES = st.lists(
    st.builds(
        "{} ({}, {}, {}) when {{ {} }};".format,
        st.sampled_from(["permit", "permit", "forbid"]), PRINCIPALS, ACTIONS, RESOURCES, CONDITIONS,
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip
SITUATIONS = st.lists(
    st.builds(
        Situation,
        action=st.sampled_from(Action),
        principal=st.sampled_from(AGENTS),
        tenant=WORDS,
        resource=st.just(TOOLS[0][0]),
        tools=st.sampled_from([name for _, name in TOOLS]).map(lambda name: (name,)),
        environment=st.sampled_from(Environment),
        purpose=WORDS,
        owner=WORDS,
        risk_threshold=SMALL,
        lifetime_seconds=SMALL | st.just(2**63),
        renewals=SMALL,
        age_seconds=SMALL,
        at=SMALL.map(lambda seconds: START + timedelta(seconds=seconds)),
    ),
    min_size=2,
    max_size=12,
)


def loaded(policies: list[str]) -> PolicyBundle:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(shutil.copytree(SAMPLE, Path(name) / "bundle"))
        for path in (folder / "policies").iterdir():
            path.unlink()
        texts = (f'@id("p{number}") {text}' for number, text in enumerate(policies))
        (folder / "policies/random.cedar").write_text("\n".join(texts))
        return load(folder)


def by_the_book(bundle: PolicyBundle, text: str, situation: Situation, risk: int) -> tuple[Effect, set[str]]:
    """Ask Cedar alone: all policies as text, nothing prepared, nothing remembered."""
    tool = bundle.tool(situation.resource, situation.tools[0])
    assert tool
    result = cedarpy.is_authorized(
        request.cedar_request(situation.action, situation.principal, tool.id, request.facts(situation, risk)),
        text,
        request.entities(situation.principal, bundle.groups_of(situation.principal), tool),
        bundle.schema,
    )
    if result.diagnostics.errors or result.decision is cedarpy.Decision.NoDecision:
        return Effect.ERROR, set()
    reasons = {reason.replace("policy", "p") for reason in result.diagnostics.reasons}
    return (Effect.PERMIT if result.allowed else Effect.DENY), reasons


BASE = Situation(
    action=Action.ISSUE,
    principal=AGENTS[0],
    tenant="a",
    resource=TOOLS[0][0],
    tools=("read_file",),
    environment=Environment.DEV,
    purpose="a",
    owner="a",
    risk_threshold=0,
    lifetime_seconds=0,
    renewals=0,
    age_seconds=0,
    at=START,
)


@settings(max_examples=150)
@given(policies=POLICIES, asked=SITUATIONS)
@example(
    policies=['permit (principal, action, resource) when { context.now < datetime("2030-01-01T00:00:01Z") };'],
    asked=[BASE, replace(BASE, at=START + timedelta(seconds=1))],
)
@example(
    policies=["permit (principal, action, resource);"],
    asked=[BASE, replace(BASE, lifetime_seconds=2**63)],
)
@example(
    policies=[
        "permit (principal, action, resource);",
        "forbid (principal, action, resource) when { context == context };",
    ],
    asked=[BASE, replace(BASE, owner="b")],
)
def test_remembered_sliced_and_by_the_book_all_decide_the_same(policies: list[str], asked: list[Situation]) -> None:
    bundle = loaded(policies)
    policy, text = Policy(bundle), "\n".join(policies)
    # Each twice, so that the second time and all that share its key are remembered.
    for situation in [*asked, *asked]:
        decision = policy.decide(situation)
        assert decision == Policy(bundle).decide(situation)
        assert (decision.effect, set(decision.policies)) == by_the_book(bundle, text, situation, decision.risk)


def test_a_fact_that_no_policy_reads_does_not_cost_a_question() -> None:
    policy = Policy(loaded(["permit (principal, action, resource) when { context.breadth < 3 };"]))
    for seconds in range(50):
        policy.decide(replace(BASE, at=START + timedelta(seconds=seconds), owner=str(seconds), age_seconds=seconds))
    assert len(policy._remembered) == 1


def test_another_tool_s_policies_are_not_in_the_slice() -> None:
    policy = Policy(
        loaded(
            [
                'permit (principal, action == Broker::Action::"issue", resource in Broker::Toolset::"repo-read");',
                'permit (principal, action == Broker::Action::"renew", resource);',
                'permit (principal, action in Broker::Action::"grant", resource is Broker::Tool);',
            ]
        )
    )
    ids = {(action, tool.rpartition("#")[2]): slice_.ids for (action, tool), slice_ in policy._slices.items()}
    assert ids[Action.ISSUE, "read_file"] == ("p0", "p2")
    assert ids[Action.ISSUE, "create_issue"] == ("p2",)
    assert ids[Action.RENEW, "read_file"] == ("p1", "p2")
