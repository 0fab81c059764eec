"""What the engine remembers of its decisions, and the slices of a bundle that it asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import product
from pathlib import Path

import cedarpy
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.model.decision import Action, Effect, Situation
from broker.model.task import Environment
from broker.policy import request
from broker.policy.bundle import PolicyBundle
from broker.policy.engine import Policy
from tests.support.sample_policy import MAINTAINER, RESEARCHER, SCRIBE, SITUATION, STRANGER, WRITER, loaded_with


def test_memory_is_bounded(bundle: PolicyBundle) -> None:
    policy = Policy(bundle)
    for number in range(4100):
        policy.decide(replace(SITUATION, lifetime_seconds=number))
    assert len(policy._remembered) == 4096
    assert len(policy._permits) == 4096


FREEZE = """
@id("p-all") permit (principal, action in Broker::Action::"grant", resource);
@id("g-freeze") forbid (principal, action in Broker::Action::"grant", resource in Broker::Toolset::"repo-write")
when { context.now >= datetime("2030-01-02") };
"""


def test_a_permit_is_not_remembered_past_the_instant_that_a_policy_reads(tmp_path: Path) -> None:
    policy = Policy(loaded_with(tmp_path, FREEZE))
    before, after = SITUATION.at, SITUATION.at + timedelta(days=1)
    for tools, effect in ((("create_issue",), Effect.DENY), (("read_file", "create_issue"), Effect.DENY)):
        asked = replace(SITUATION, principal=WRITER, tools=tools)
        assert policy.decide(replace(asked, at=before)).effect is Effect.PERMIT
        assert policy.decide(replace(asked, at=after)).effect is effect
        assert policy.decide(replace(asked, at=before)).effect is Effect.PERMIT
    assert policy.decide(replace(SITUATION, at=before)) == policy.decide(replace(SITUATION, at=after))


def test_an_error_is_not_remembered(tmp_path: Path) -> None:
    policy = Policy(loaded_with(tmp_path, FREEZE))
    assert policy.decide(replace(SITUATION, owner="\ud800")).effect is Effect.ERROR
    assert not policy._permits
    assert not policy._remembered


SITUATIONS = st.builds(
    replace,
    st.just(SITUATION),
    action=st.sampled_from(Action),
    principal=st.sampled_from([RESEARCHER, WRITER, STRANGER]),
    tools=st.sampled_from([("read_file",), ("create_issue",), ("read_file", "create_issue"), ("list_files",)]),
    environment=st.sampled_from(Environment),
    purpose=st.sampled_from(["triage", "experiment"]),
    risk_threshold=st.sampled_from([5, 50]),
    lifetime_seconds=st.sampled_from([0, 601, 86_401]),
    renewals=st.sampled_from([0, 96]),
    at=st.sampled_from([SITUATION.at, SITUATION.at + timedelta(days=1)]),
)


@settings(max_examples=40)
@given(st.lists(SITUATIONS, min_size=2, max_size=8))
def test_who_remembers_decides_as_who_does_not(bundle: PolicyBundle, asked: list[Situation]) -> None:
    remembering = Policy(bundle)
    assert [remembering.decide(each) for each in asked * 2] == [Policy(bundle).decide(each) for each in asked] * 2


def situations() -> Iterator[Situation]:
    for action, principal, environment, risk_threshold in product(
        Action, (RESEARCHER, WRITER, SCRIBE, MAINTAINER, STRANGER), Environment, (5, 50)
    ):
        yield replace(
            SITUATION, action=action, principal=principal, environment=environment, risk_threshold=risk_threshold
        )


def test_slices_decide_as_the_full_set_does(policy: Policy) -> None:
    bundle = policy.bundle
    full = cedarpy.PolicySet.from_json_str(
        json.dumps(
            {
                "staticPolicies": {name: statement.tree for name, statement in bundle.statements.items()},
                "templates": {},
                "templateLinks": [],
            }
        )
    )
    effects = set()
    for situation in situations():
        for resource in bundle.resources.values():
            for tool in resource.tools.values():
                asked = replace(situation, resource=resource.uri, tools=(tool.name,))
                decision = policy.decide(asked)
                whole = cedarpy.is_authorized(
                    request.cedar_request(asked.action, asked.principal, tool.id, request.facts(asked, decision.risk)),
                    full,
                    request.entities(asked.principal, bundle.groups_of(asked.principal), tool),
                    bundle.schema,
                )
                assert (decision.effect is Effect.PERMIT) == whole.allowed
                assert set(decision.policies) == set(whole.diagnostics.reasons)
                effects.add(decision.effect)
    assert effects == {Effect.PERMIT, Effect.DENY}


def test_slices_are_smaller_than_the_bundle_and_know_no_time(policy: Policy) -> None:
    for slice_ in policy._slices.values():
        assert len(slice_.ids) < len(policy.bundle.policies)
        assert "now" not in slice_.reads
