"""What policy says of a request, as a permit or as a refusal that says what can be done about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from broker.lease.decide import permitted, permitted_tools
from broker.model.decision import Effect, Situation
from broker.model.errors import Reason, Refusal
from broker.policy.engine import Policy
from tests.support.sample_policy import REPO, SITUATION, loaded_with

FORBIDS = [f'@id("f{number}") forbid (principal, action, resource);' for number in range(6)]
ALL = '@id("all") permit (principal, action, resource);'
OVERFLOW = """@id("limit") forbid (principal, action, resource)
when { context.requested_lifetime_seconds * 9223372036854775807 > 60 };"""
ASKED = replace(SITUATION, tools=("list_files", "read_file"), lifetime_seconds=3_600)


def policy(folder: Path, *policies: str) -> Policy:
    return Policy(loaded_with(folder, *policies))


def refused(decides: Policy, asked: Situation = ASKED) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        permitted(decides, asked, "d-1")
    assert refusal.value.hints.decision_id == "d-1"
    assert refusal.value.hints.policy_revision == decides.bundle.revision
    return refusal.value


def test_what_policy_permits_is_permitted(tmp_path: Path) -> None:
    decision = permitted(policy(tmp_path, ALL), ASKED, "d-1")
    assert (decision.effect, decision.policies) == (Effect.PERMIT, ("all",))


def test_each_tool_that_is_permitted_by_itself_is_named(tmp_path: Path) -> None:
    reading = f'@id("read") permit (principal, action, resource == Broker::Tool::"{REPO}#read_file");'
    assert permitted_tools(policy(tmp_path, reading), ASKED) == ("read_file",)


def test_a_tool_that_no_bundle_knows_is_refused_before_anything_is_decided(tmp_path: Path) -> None:
    refusal = refused(policy(tmp_path, ALL), replace(ASKED, tools=("read_file", "red_file")))
    assert refusal.reason is Reason.TOOL_UNKNOWN
    assert refusal.message == f"the policy bundle knows no tool `red_file` at `{REPO}`"
    assert refusal.hints.missing == "tool:red_file"


def test_what_nothing_permits_is_refused(tmp_path: Path) -> None:
    refusal = refused(policy(tmp_path, '@id("none") permit (principal, action, resource) when { false };'))
    assert refusal.reason is Reason.POLICY_DENIED
    assert refusal.message == "policy does not permit tool `list_files`: nothing permits it"


@pytest.mark.parametrize(
    ("forbids", "named"),
    [(1, "`f0`"), (4, "`f0`, `f1`, `f2`, `f3`"), (6, "`f0`, `f1`, `f2`, `f3` and 2 more")],
)
def test_the_first_few_policies_that_forbid_it_are_named(tmp_path: Path, forbids: int, named: str) -> None:
    refusal = refused(policy(tmp_path, ALL, *FORBIDS[:forbids]))
    assert refusal.reason is Reason.POLICY_DENIED
    assert refusal.message == f"policy does not permit tool `list_files`: forbidden by {named}"


def test_a_policy_that_fails_refuses_and_is_the_operators_to_mend(tmp_path: Path) -> None:
    refusal = refused(policy(tmp_path, ALL, OVERFLOW))
    assert refusal.reason is Reason.POLICY_ERROR
    assert refusal.message == "policy could not decide about tool `list_files`, so it is refused"
    assert refusal.hints.next.startswith("operators: look the decision id up")
