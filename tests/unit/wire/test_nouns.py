"""Every noun comes back from the wire as it was; what has no meaning is refused, by its field's name."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.model.errors import Reason, Refusal
from broker.model.grant import Constraint, Grant, Operator, ResourceGrants
from broker.model.lease import Binding, Lease, LeaseState
from broker.model.selector import Cause, Lock, RevocationRule, Selector, Target
from broker.model.task import Environment, Task, TaskState
from broker.v1 import grant_pb2, lease_pb2, selector_pb2, task_pb2
from broker.wire.grants import grants_from_wire, grants_to_wire, resources_from_wire, resources_to_wire
from broker.wire.leases import lease_to_wire
from broker.wire.selectors import lock_to_wire, rule_from_wire, rule_to_wire, selector_from_wire, selector_to_wire
from broker.wire.tasks import (
    environment_from_wire,
    task_from_wire,
    task_state_from_wire,
    task_state_to_wire,
    task_to_wire,
)
from broker.wire.times import instant_from_wire

START = datetime(2030, 1, 1, 12, tzinfo=UTC)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), min_size=1, max_size=20)
scalars = texts | st.booleans() | st.integers(-(2**63), 2**63 - 1)
constraints = st.builds(Constraint, texts, st.sampled_from(Operator), st.lists(scalars, max_size=4).map(tuple))
grants = st.lists(st.builds(Grant, texts, st.lists(constraints, max_size=3).map(tuple)), max_size=4).map(tuple)
resources = st.lists(st.builds(ResourceGrants, texts, grants), max_size=3).map(tuple)
instants = st.integers(0, 253_402_300_799_999_999).map(
    lambda micros: START.replace(year=1970, month=1, day=1, hour=0) + timedelta(microseconds=micros)
)
selectors = st.one_of(
    st.builds(Selector, names, st.sampled_from([Target.LEASE, Target.TASK, Target.AGENT]), names),
    st.builds(Selector, names, st.just(Target.TOOL), st.builds("{}#{}".format, names, names)),
    st.builds(Selector, names, st.just(Target.ALL)),
)
rules = st.builds(
    RevocationRule,
    index=st.integers(0, 2**62),
    selector=selectors,
    cause=st.sampled_from(Cause),
    recorded_at=instants,
    relevant_until=instants,
)
tasks = st.builds(
    Task,
    id=names,
    tenant=names,
    owner=texts,
    purpose=texts,
    environment=st.sampled_from(Environment),
    agents=st.lists(texts, max_size=3).map(tuple),
    tools=resources,
    deadline=instants,
    risk_threshold=st.integers(0, 100),
    state=st.sampled_from(TaskState),
    created_at=instants,
    created_by=texts,
    index=st.integers(0, 2**62),
    ended_at=st.none() | instants,
    leases_issued=st.integers(0, 2**31),
)


def refused_field(error: Refusal) -> str:
    assert error.reason is Reason.INVALID_ARGUMENT
    return error.violations[0].field


@given(grants)
def test_grants_come_back_as_they_were(value: tuple[Grant, ...]) -> None:
    back = grants_from_wire(grants_to_wire(value), "grants")
    assert back == value
    # 1 == True in Python, and not to us
    assert [[type(v) for c in g.constraints for v in c.values] for g in back] == [
        [type(v) for c in g.constraints for v in c.values] for g in value
    ]


@given(resources)
def test_declared_tools_come_back_as_they_were(value: tuple[ResourceGrants, ...]) -> None:
    assert resources_from_wire(resources_to_wire(value), "tools") == value


@given(selectors)
def test_selectors_come_back_as_they_were(value: Selector) -> None:
    assert selector_from_wire(selector_to_wire(value), "selector") == value


@given(rules)
def test_rules_come_back_as_they_were(value: RevocationRule) -> None:
    assert rule_from_wire(rule_to_wire(value), "rule") == value


@given(tasks)
def test_tasks_come_back_as_they_were(value: Task) -> None:
    assert task_from_wire(task_to_wire(value)) == value


@pytest.mark.parametrize("state", list(TaskState))
def test_task_states_come_back_as_they_were(state: TaskState) -> None:
    assert task_state_from_wire(task_state_to_wire(state), "outcome") is state


@pytest.mark.parametrize("op", [grant_pb2.OPERATOR_UNSPECIFIED, 9, 2_000])
def test_an_operator_that_is_not_known_is_refused(op: grant_pb2.Operator.ValueType) -> None:
    message = grant_pb2.Grant(tool="x", constraints=[grant_pb2.Constraint(path="/a", op=op)])
    with pytest.raises(Refusal) as refused:
        grants_from_wire([message], "grants")
    assert refused_field(refused.value) == "grants[0].constraints[0].op"


def test_a_scalar_of_no_kind_is_refused() -> None:
    constraint = grant_pb2.Constraint(path="/a", op=grant_pb2.OPERATOR_EQ, values=[grant_pb2.Scalar()])
    message = grant_pb2.ResourceGrants(resource="r", grants=[grant_pb2.Grant(tool="x", constraints=[constraint])])
    with pytest.raises(Refusal) as refused:
        resources_from_wire([message], "tools")
    assert refused_field(refused.value) == "tools[0].grants[0].constraints[0].values[0]"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (selector_pb2.Selector(task_id="t"), "selector.tenant"),
        (selector_pb2.Selector(tenant="acme"), "selector"),
        (selector_pb2.Selector(tenant="acme", everything=False), "selector.everything"),
        (selector_pb2.Selector(tenant="acme", lease_id=""), "selector.lease_id"),
        (selector_pb2.Selector(tenant="acme", agent="spiffe://e/é"), "selector.agent"),
        (selector_pb2.Selector(tenant="acme", task_id="a\nb"), "selector.task_id"),
        (selector_pb2.Selector(tenant="acme", task_id="a" * 3_000), "selector.task_id"),
        (selector_pb2.Selector(tenant="acme", tool="read_file"), "selector.tool"),
        (selector_pb2.Selector(tenant="acme", tool="#read_file"), "selector.tool"),
    ],
)
def test_a_selector_that_selects_nothing_is_refused(message: selector_pb2.Selector, field: str) -> None:
    with pytest.raises(Refusal) as refused:
        selector_from_wire(message, "selector")
    assert refused_field(refused.value) == field


def test_a_rule_without_a_cause_is_refused() -> None:
    message = rule_to_wire(
        RevocationRule(
            index=1,
            selector=Selector("acme", Target.ALL),
            cause=Cause.OPERATOR,
            recorded_at=START,
            relevant_until=START,
        )
    )
    message.cause = selector_pb2.REVOCATION_CAUSE_UNSPECIFIED
    with pytest.raises(Refusal) as refused:
        rule_from_wire(message, "rules[3]")
    assert refused_field(refused.value) == "rules[3].cause"


@pytest.mark.parametrize("number", [task_pb2.TASK_STATE_UNSPECIFIED, 5, -1])
def test_a_task_state_that_is_not_known_is_refused(number: int) -> None:
    with pytest.raises(Refusal) as refused:
        task_state_from_wire(number, "outcome")
    assert refused_field(refused.value) == "outcome"


@pytest.mark.parametrize("name", ["", "production", "Prod"])
def test_an_environment_that_is_not_known_is_refused(name: str) -> None:
    with pytest.raises(Refusal) as refused:
        environment_from_wire(name, "environment")
    assert refused_field(refused.value) == "environment"


@pytest.mark.parametrize(
    "enumeration",
    [
        (LeaseState, lease_pb2.LeaseState, "LEASE_STATE_"),
        (TaskState, task_pb2.TaskState, "TASK_STATE_"),
        (Operator, grant_pb2.Operator, "OPERATOR_"),
        (Cause, selector_pb2.RevocationCause, "REVOCATION_CAUSE_"),
    ],
)
def test_enums_and_their_nouns_name_the_same(enumeration: tuple[type, object, str]) -> None:
    noun, wire, prefix = enumeration
    names = {name.removeprefix(prefix) for name in wire.keys()}  # type: ignore[attr-defined]  # noqa: SIM118 (an enum wrapper)
    assert names == set(noun.__members__) | {"UNSPECIFIED"}  # type: ignore[attr-defined]


def test_a_lease_says_where_it_stands_now() -> None:
    lease = Lease(
        id="l-1",
        tenant="acme",
        task_id="t-1",
        holder="spiffe://example.org/agent",
        resource="https://repo.tools.example",
        grants=(Grant("read_file"),),
        binding=Binding.IDENTITY,
        issued_at=START,
        expires_at=START + timedelta(minutes=5),
        max_expires_at=START + timedelta(hours=1),
        decision_id="d-1",
        policies=("permit-reading",),
        policy_revision="r-1",
        index=7,
    )
    live = lease_to_wire(lease, START)
    assert (live.lease_id, live.index, live.state) == ("l-1", 7, lease_pb2.LEASE_STATE_LIVE)
    assert not live.HasField("revoked_index")
    assert instant_from_wire(live.expire_time, "expire_time") == lease.expires_at
    assert lease_to_wire(lease, lease.expires_at).state == lease_pb2.LEASE_STATE_EXPIRED


def test_a_lock_without_an_end_has_none_on_the_wire() -> None:
    lock = Lock(
        id="k-1",
        selector=Selector("acme", Target.ALL),
        reason="a drill",
        created_by="spiffe://example.org/operator",
        created_at=START,
        expires_at=None,
        index=3,
    )
    message = lock_to_wire(lock)
    assert not message.HasField("expire_time")
    assert selector_from_wire(message.selector, "selector") == lock.selector
