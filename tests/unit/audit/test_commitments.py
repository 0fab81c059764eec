"""What a commitment's hashes are over, whatever the texts of the rules are, and that a start finds the same."""

from __future__ import annotations

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from broker.audit.in_force import InForce
from broker.model.clock import from_micros, to_micros
from broker.model.selector import Cause, RevocationRule, Selector, Target

INSTANTS = st.integers(1, 2**52).map(from_micros)
RULES = st.builds(
    RevocationRule,
    index=st.just(0),
    selector=st.builds(
        Selector,
        st.text(),
        st.sampled_from(Target),
        st.text() | st.sampled_from(['"],["', "\\", "\x00\x1f\x7f", "\u2028"]),
    ),
    cause=st.sampled_from(Cause),
    recorded_at=INSTANTS,
    relevant_until=INSTANTS,
    task_deadline=st.none() | INSTANTS,
)


@given(st.lists(RULES, max_size=5))
def test_commits_to_the_rules_as_lines_of_json(found: list[RevocationRule]) -> None:
    rules = [numbered(rule, index) for index, rule in enumerate(found)]
    state = InForce()
    state.apply(rules)
    made = state.commitment(len(rules), state.horizon)
    lines = [
        [
            rule.index,
            rule.selector.tenant,
            rule.selector.target.value,
            rule.selector.value,
            rule.cause.value,
            to_micros(rule.recorded_at),
            to_micros(rule.relevant_until),
            None if rule.task_deadline is None else to_micros(rule.task_deadline),
        ]
        for rule in rules
    ]
    told = "".join(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n" for line in lines)
    assert made.rules == hashlib.sha256(told.encode()).hexdigest()
    taken_up = InForce.before(made, rules, ())
    taken_up.apply([made])
    assert (taken_up.committed, taken_up.last_rule) == (len(rules), len(rules) - 1)
    assert [taken_up.newest(rule.selector) for rule in rules] == [state.newest(rule.selector) for rule in rules]


def numbered(rule: RevocationRule, index: int) -> RevocationRule:
    return RevocationRule(
        index=index,
        selector=rule.selector,
        cause=rule.cause,
        recorded_at=rule.recorded_at,
        relevant_until=rule.relevant_until,
        task_deadline=rule.task_deadline,
    )
