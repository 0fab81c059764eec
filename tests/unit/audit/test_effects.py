"""What an entry does is read back from its bytes as it was meant; what is no entry of a broker is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit import canonical
from broker.audit.canonical import MalformedEntry
from broker.audit.effects import (
    Adopted,
    AnnouncedKey,
    Commitment,
    Effect,
    Explained,
    Forgotten,
    KeysAnnounced,
    LeaseIssued,
    LeaseRenewed,
    LeasesClosed,
    LockLifted,
    Started,
    TaskBegun,
    TaskEnded,
    TaskExtended,
)
from broker.audit.facts import lease_facts, lock_facts, rule_facts, selector_facts, task_facts
from broker.audit.readings import effects
from broker.model.clock import to_micros
from broker.model.entry import Entry, Json, Kind
from broker.model.grant import Constraint, Grant, Operator, ResourceGrants
from broker.model.lease import Binding, Lease
from broker.model.principal import ANY_TENANT
from broker.model.selector import Cause, Lock, RevocationRule, Selector, Target
from broker.model.task import Environment, Task, TaskState

AT = datetime(2030, 1, 1, 12, tzinfo=UTC)
INDEX = 7
OPERATOR = "spiffe://example.org/operator"
TELLING = {Kind.REQUEST_REFUSED, Kind.REFUSALS_SUMMARISED, Kind.POLICY_ACTIVATED, Kind.KEYS_ROTATED}
"""Kinds that only tell, and one that only told in the version before: no state follows from them as they are here."""

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
INSTANTS = st.integers(0, 10**10).map(lambda seconds: AT + timedelta(microseconds=seconds))
GRANTS = st.lists(
    st.builds(
        Grant,
        TEXTS,
        st.lists(
            st.builds(Constraint, TEXTS, st.sampled_from(list(Operator)), st.tuples(TEXTS)),
            max_size=2,
        ).map(tuple),
    ),
    max_size=3,
).map(tuple)
TASKS = st.builds(
    Task,
    id=TEXTS,
    tenant=TEXTS,
    owner=TEXTS,
    purpose=TEXTS,
    environment=st.sampled_from(list(Environment)),
    agents=st.lists(TEXTS, max_size=3).map(tuple),
    tools=st.lists(st.builds(ResourceGrants, TEXTS, GRANTS), max_size=2).map(tuple),
    deadline=INSTANTS,
    risk_threshold=st.integers(0, 100),
    state=st.just(TaskState.ACTIVE),
    created_at=st.just(AT),
    created_by=TEXTS,
    index=st.just(INDEX),
    changed_index=st.none(),
    ended_at=st.none(),
    leases_issued=st.just(0),
    revision=st.just(0),
)
LEASES = st.builds(
    Lease,
    id=TEXTS,
    tenant=TEXTS,
    task_id=TEXTS,
    holder=TEXTS,
    resource=TEXTS,
    grants=GRANTS,
    binding=st.sampled_from(list(Binding)),
    confirmation=TEXTS,
    issued_at=st.just(AT),
    expires_at=INSTANTS,
    max_expires_at=INSTANTS,
    decision_id=TEXTS,
    policies=st.lists(TEXTS, max_size=2).map(tuple),
    policy_revision=TEXTS,
    index=st.just(INDEX),
    changed_index=st.none(),
    renewals=st.just(0),
    closed=st.just(False),
    revoked_index=st.none(),
)
KEYS = st.builds(AnnouncedKey, kid=TEXTS, x=TEXTS, y=TEXTS, signs_from=INSTANTS, until=INSTANTS)
SELECTORS = st.builds(Selector, TEXTS, st.sampled_from(list(Target)), TEXTS)


def read(kind: Kind, **members: object) -> Sequence[Effect]:
    entry = {"kind": kind, "at": AT, "tenant": "acme", **members}
    return effects(INDEX, canonical.encode(Entry(**entry)))  # type: ignore[arg-type]


def decided(lease: Lease) -> dict[str, Json]:
    return {
        "decision_id": lease.decision_id,
        "policies": list(lease.policies),
        "policy_revision": lease.policy_revision,
    }


def rule(
    selector: Selector, cause: Cause, relevant_until: datetime, task_deadline: datetime | None = None
) -> RevocationRule:
    return RevocationRule(
        index=INDEX,
        selector=selector,
        cause=cause,
        recorded_at=AT,
        relevant_until=relevant_until,
        task_deadline=task_deadline,
    )


@given(TASKS)
def test_a_task_reads_back(task: Task) -> None:
    said = read(
        Kind.TASK_CREATED,
        tenant=task.tenant,
        task_id=task.id,
        observed={"principal": task.created_by},
        asserted=task_facts(task),
    )
    assert said == [TaskBegun(task)]


@given(LEASES, st.none() | st.just("ab" * 32))
def test_a_lease_reads_back_with_what_its_entry_commits_to(lease: Lease, explanation: str | None) -> None:
    said = read(
        Kind.LEASE_ISSUED,
        tenant=lease.tenant,
        task_id=lease.task_id,
        asserted={} if explanation is None else {"explanation": explanation},
        decided=decided(lease),
        effected=lease_facts(lease),
    )
    explained = [] if explanation is None else [Explained(INDEX, AT, explanation)]
    assert said == [LeaseIssued(lease), *explained]


@given(LEASES, st.integers(1, 1_000))
def test_a_renewal_says_its_lease_s_new_end_and_how_often(lease: Lease, renewals: int) -> None:
    (said,) = read(
        Kind.LEASE_RENEWED,
        tenant=lease.tenant,
        task_id=lease.task_id,
        decided=decided(lease),
        effected=lease_facts(lease) | {"renewals": renewals},
    )
    assert isinstance(said, LeaseRenewed)
    renewed = said.lease
    assert (renewed.id, renewed.expires_at, renewed.renewals) == (lease.id, lease.expires_at, renewals)
    assert renewed.changed_index == INDEX


@given(SELECTORS, INSTANTS)
def test_a_revocation_is_a_rule_for_as_long_as_it_says(selector: Selector, until: datetime) -> None:
    meant = rule(selector, Cause.OPERATOR, until)
    said = read(Kind.LEASES_REVOKED, tenant=selector.tenant, effected=selector_facts(selector) | rule_facts(meant))
    assert said == [meant]


@given(SELECTORS, st.none() | INSTANTS, TEXTS)
def test_a_lock_reads_back_and_its_lifting_too(selector: Selector, expires_at: datetime | None, reason: str) -> None:
    lock = Lock(
        id="lock",
        selector=selector,
        reason=reason,
        created_by=OPERATOR,
        created_at=AT,
        expires_at=expires_at,
        index=INDEX,
    )
    said = read(
        Kind.LOCK_CREATED,
        tenant=selector.tenant,
        observed={"principal": OPERATOR},
        asserted={"reason": reason},
        effected=lock_facts(lock),
    )
    assert said == [lock]
    assert read(Kind.LOCK_DELETED, effected={"lock": "lock"}) == [LockLifted("lock")]


@given(INSTANTS, INSTANTS, st.sampled_from([state for state in TaskState if state is not TaskState.ACTIVE]))
def test_the_end_of_a_task_is_a_rule_until_its_deadline(until: datetime, deadline: datetime, state: TaskState) -> None:
    meant = rule(Selector("acme", Target.TASK, "task"), Cause.TASK_ENDED, until, deadline)
    said = read(Kind.TASK_ENDED, task_id="task", asserted={"outcome": state.value}, effected=rule_facts(meant))
    assert said == [TaskEnded("task", INDEX, state, AT), meant]
    assert meant.kept_until == max(until, deadline)


@given(INSTANTS)
def test_the_smaller_kinds_read_back(instant: datetime) -> None:
    released = rule(Selector("acme", Target.LEASE, "lease"), Cause.RELEASED, instant)
    micros = to_micros(instant)
    assert read(Kind.LEASE_RELEASED, effected={"lease": "lease", **rule_facts(released)}) == [released]
    extended = read(Kind.TASK_EXTENDED, task_id="task", asserted={"deadline": micros})
    assert extended == [TaskExtended("task", INDEX, instant)]
    expired = read(Kind.LEASES_EXPIRED, effected={"leases": ["one"], "revoked": ["two", "three"]})
    assert expired == [LeasesClosed(("one", "two", "three"))]
    assert read(Kind.LEASES_EXPIRED, effected={"leases": ["one"]}) == [LeasesClosed(("one",))]
    assert read(Kind.RECORDS_FORGOTTEN, effected={"before": micros}) == [Forgotten(instant)]


def test_a_ledger_starts_commits_and_is_adopted() -> None:
    committed = Commitment(
        index=INDEX,
        horizon=AT,
        tokens_until=AT + timedelta(hours=1),
        adopted_index=-1,
        adopted_at=AT - timedelta(days=1),
        rules="00" * 32,
        locks="11" * 32,
    )
    assert read(Kind.STATE_COMMITTED, effected=committed.facts()) == [committed]
    assert read(Kind.LEDGER_STARTED, effected={"origin": "a"}) == [Started("a")], "of an older version"
    assert read(Kind.LEDGER_STARTED, effected={"origin": "a", **committed.facts()}) == [Started("a"), committed]
    everybody = rule(Selector(ANY_TENANT, Target.ALL), Cause.OPERATOR, AT + timedelta(days=2))
    done = {"origin": "b", "previous_origin": "a", "previous_size": 5, "previous_root": "22" * 32}
    assert read(Kind.LEDGER_ADOPTED, effected=done | rule_facts(everybody)) == [
        Adopted(
            index=INDEX,
            at=AT,
            origin="b",
            previous_origin="a",
            previous_size=5,
            previous_root="22" * 32,
        ),
        everybody,
    ]


@given(st.lists(KEYS, max_size=3).map(tuple), st.lists(TEXTS, max_size=3).map(tuple))
def test_announced_keys_are_read_back_as_they_were_meant(
    keys: tuple[AnnouncedKey, ...], withdrawn: tuple[str, ...]
) -> None:
    announced = KeysAnnounced(INDEX, keys, withdrawn)
    assert read(Kind.KEYS_ROTATED, effected=announced.facts()) == [announced]


def test_what_later_versions_say_of_keys_beside_it_is_passed_over() -> None:
    key = AnnouncedKey(kid="k", x="x", y="y", signs_from=AT, until=AT)
    facts = KeysAnnounced(INDEX, (key,)).facts()
    later = json.loads(json.dumps(facts).replace('"kid"', '"broker": "one", "kid"'))
    assert read(Kind.KEYS_ROTATED, effected=later | {"more": 1}) == [KeysAnnounced(INDEX, (key,))]


def test_the_keys_that_the_version_before_named_are_no_announcement() -> None:
    assert read(Kind.KEYS_ROTATED, effected={"kids": ["a", "b"]}) == ()


def test_a_rule_of_before_entries_said_so_matters_as_long_as_any_token_can_live() -> None:
    (said,) = read(Kind.LEASE_RELEASED, effected={"lease": "lease"})
    assert isinstance(said, RevocationRule)
    assert said.relevant_until == AT + timedelta(days=7)


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
def test_each_kind_is_read_or_only_tells(kind: Kind) -> None:
    if kind in TELLING:
        assert read(kind) == ()
    else:
        with pytest.raises(MalformedEntry, match="entry 7 is not in the form of its kind"):
            read(kind)  # nothing is in it


BODY = canonical.encode(Entry(kind=Kind.LEASES_EXPIRED, at=AT, tenant="acme", effected={"leases": ["one"]}))


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(lambda entry: {**entry, "kind": "leases.forgiven"}, id="kind"),
        pytest.param(lambda entry: {**entry, "at": "noon"}, id="instant"),
        pytest.param(lambda entry: {**entry, "tenant": None}, id="tenant"),
        pytest.param(lambda entry: {**entry, "effected": []}, id="part"),
        pytest.param(lambda entry: {**entry, "effected": {"leases": 3}}, id="leases"),
        pytest.param(lambda entry: {name: entry[name] for name in entry if name != "task_id"}, id="member"),
    ],
)
def test_what_no_broker_writes_is_told(alter: Callable[[Mapping[str, object]], Mapping[str, object]]) -> None:
    assert effects(INDEX, BODY) == [LeasesClosed(("one",))]
    altered = json.dumps(alter(json.loads(BODY)), sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(MalformedEntry):
        effects(INDEX, altered)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_entry_are_told(body: bytes) -> None:
    with pytest.raises(MalformedEntry):
        effects(INDEX, body)
