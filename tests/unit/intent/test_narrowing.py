"""Law 4: what is granted is what the task declares, with all its constraints and those that were asked for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from broker.intent.narrowing import everything, narrow, within
from broker.model.errors import FieldViolation, Reason, Refusal
from broker.model.grant import Constraint, Grant, Operator, ResourceGrants
from broker.model.task import Environment, Task, TaskState
from tests.support.world import NOTES, ORCHESTRATOR, REPO, RESEARCHER, START

WEB = Constraint("/repo", Operator.EQ, ("acme/web",))
DOCS = Constraint("/path", Operator.PREFIX, ("docs/",))
DECLARED = (Grant("read_file", (WEB,)), Grant("list_files"))
TASK = Task(
    id="t",
    tenant="acme",
    owner="alice",
    purpose="triage",
    environment=Environment.DEV,
    agents=(RESEARCHER.id,),
    tools=(ResourceGrants(REPO, DECLARED),),
    deadline=START + timedelta(hours=1),
    risk_threshold=60,
    state=TaskState.ACTIVE,
    created_at=START,
    created_by=ORCHESTRATOR.id,
    index=1,
)


def refused(ask: Callable[[], object]) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        ask()
    return refusal.value


def test_constraints_are_added_and_none_is_lost() -> None:
    assert narrow(DECLARED[0], Grant("read_file", (DOCS,))) == Grant("read_file", (WEB, DOCS))
    assert narrow(DECLARED[0], Grant("read_file", (WEB, DOCS))) == Grant("read_file", (WEB, DOCS))
    assert narrow(DECLARED[0], Grant("read_file")) is DECLARED[0]


def test_true_is_not_the_1_that_is_declared() -> None:
    one, true = (Constraint("/x", Operator.EQ, (value,)) for value in (1, True))
    assert len(narrow(Grant("read_file", (one,)), Grant("read_file", (true,))).constraints) == 2


def test_everything_is_what_a_task_declares_at_one_resource() -> None:
    assert everything(TASK, REPO) == DECLARED
    refusal = refused(lambda: everything(TASK, NOTES))
    assert refusal.reason is Reason.TOOL_NOT_DECLARED
    assert refusal.message == f"task `t` declares no tool at `{NOTES}`"
    assert refusal.hints.missing == NOTES


def test_what_is_asked_for_is_granted_within_the_declared_bounds() -> None:
    asked = (Grant("list_files", (DOCS,)), Grant("read_file", (DOCS,)))
    assert within(TASK, REPO, asked) == (Grant("list_files", (DOCS,)), Grant("read_file", (WEB, DOCS)))


@pytest.mark.parametrize(
    ("resource", "tool", "told"),
    [
        (REPO, "read_files", f"does not declare tool `read_files` at `{REPO}`; did you mean `read_file`?"),
        (REPO, "delete_repo", f"does not declare tool `delete_repo` at `{REPO}`"),
        (NOTES, "read_file", f"does not declare tool `read_file` at `{NOTES}`"),
    ],
)
def test_a_tool_that_is_not_declared_is_told_with_the_one_that_was_meant(resource: str, tool: str, told: str) -> None:
    refusal = refused(lambda: within(TASK, resource, (Grant(tool),)))
    assert refusal.reason is Reason.TOOL_NOT_DECLARED
    assert refusal.message == f"task `t` {told}"
    assert refusal.hints.missing == f"tool:{tool}"


def test_a_grant_holds_no_more_constraints_than_a_token_can_carry() -> None:
    asked = tuple(Constraint(f"/{number}", Operator.PRESENT) for number in range(64))
    assert len(within(TASK, REPO, (Grant("read_file", asked[:-1]),))[0].constraints) == 64
    refusal = refused(lambda: within(TASK, REPO, (Grant("list_files"), Grant("read_file", asked))))
    assert refusal.reason is Reason.INVALID_ARGUMENT
    assert refusal.violations == (FieldViolation("grants[1].constraints", "come to more than 64 with the task's own"),)
