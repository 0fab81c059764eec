"""SQL about revocation rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache

from sqlalchemy import Connection, Row, Select, insert, or_, select

from broker.audit.effects import Adopted, Effect
from broker.model.clock import from_micros, to_micros
from broker.model.selector import Cause, RevocationRule, Selector, Target
from broker.store import notices
from broker.store.aggregate import Aggregate, AtHead
from broker.store.rows import delete_some
from broker.store.schema import rules

_KEPT = select(
    rules.c.index,
    rules.c.tenant,
    rules.c.target,
    rules.c.value,
    rules.c.cause,
    rules.c.recorded_at,
    rules.c.relevant_until,
    rules.c.task_deadline,
)
_SELECTORS_PER_QUERY = 10_000  # at most two parameters each; SQLite takes 32,766


def fetch(connection: Connection, selectors: Collection[Selector]) -> Mapping[Selector, list[int]]:
    """Find the ledger indexes of the rules with these selectors, ascending."""
    wanted = list(selectors)
    indexes: defaultdict[Selector, list[int]] = defaultdict(list)
    for start in range(0, len(wanted), _SELECTORS_PER_QUERY):
        chunk = frozenset(wanted[start : start + _SELECTORS_PER_QUERY])
        for index, tenant, target, value in connection.execute(_with(chunk)):
            selector = Selector(tenant, Target(target), value)
            if selector in chunk:
                indexes[selector].append(index)
    return indexes


def _with(selectors: Collection[Selector]) -> Select[int, str, str, str]:
    """Select the rules with these selectors, and perhaps a few more: a value is sought in each of the tenants."""
    values: defaultdict[Target, set[str]] = defaultdict(set)
    for selector in selectors:
        values[selector.target].add(selector.value)
    named = [(rules.c.target == target.value) & rules.c.value.in_(sought) for target, sought in sorted(values.items())]
    return (
        select(rules.c.index, rules.c.tenant, rules.c.target, rules.c.value)
        .where(or_(*named), rules.c.tenant.in_({selector.tenant for selector in selectors}))
        .order_by(rules.c.index)
    )


def kept(connection: Connection, horizon: datetime, before: int) -> Sequence[RevocationRule]:
    """List the rules recorded before an index that somebody needs beyond the horizon, by ascending index."""
    query = _KEPT.where(rules.c.kept_until > to_micros(horizon), rules.c.index < before)
    return _rules(connection.execute(query.order_by(rules.c.index)).all())


def add(connection: Connection, new: Collection[RevocationRule]) -> None:
    """Insert rules."""
    connection.execute(insert(rules), [_values(rule) for rule in new])


def forget(connection: Connection, before: datetime, limit: int) -> int:
    """Delete rules, at most so many, that nobody has needed since an instant; report how many."""
    return delete_some(connection, rules, rules.c.kept_until < to_micros(before), limit)


def _values(rule: RevocationRule) -> dict[str, object]:
    return {
        "index": rule.index,
        "tenant": rule.selector.tenant,
        "target": rule.selector.target.value,
        "value": rule.selector.value,
        "cause": rule.cause.value,
        "recorded_at": to_micros(rule.recorded_at),
        "relevant_until": to_micros(rule.relevant_until),
        "task_deadline": None if rule.task_deadline is None else to_micros(rule.task_deadline),
        "kept_until": to_micros(rule.kept_until),
    }


def _rules(rows: Iterable[Row]) -> list[RevocationRule]:  # type: ignore[type-arg]
    """Read rows in the order of `_KEPT`, ten thousand at a start: of names and of instants there are few."""
    target_of, cause_of, instant = cache(Target), cache(Cause), cache(from_micros)
    return [
        RevocationRule(
            index=index,
            selector=Selector(tenant, target_of(kind), value),
            cause=cause_of(why),
            recorded_at=instant(recorded_at),
            relevant_until=instant(relevant_until),
            task_deadline=None if task_deadline is None else instant(task_deadline),
        )
        for index, tenant, kind, value, why, recorded_at, relevant_until, task_deadline in rows
    ]


class Rules(Aggregate):
    """The revocation rules of a transaction: those in force, and `new` ones."""

    def __init__(self, head: AtHead) -> None:
        """Begin with what is in force."""
        self.new: list[RevocationRule] = []
        self._head = head
        self._adopted: list[Adopted] = []

    def newest(self, selector: Selector) -> int | None:
        """Report the index of the last rule with exactly this selector."""
        ends = [rule.index for rule in self.new if rule.selector == selector]
        last = self._head.in_force.newest(selector)
        if last is not None:
            ends.append(last.index)
        return max(ends or fetch(self._head.connection, [selector]).get(selector, []), default=None)

    def any_since(self, index: int) -> bool:
        """Report whether there may be a rule that was recorded after an index."""
        return bool(self.new) or self._head.in_force.last_rule > index

    def ends(self, selectors: Collection[Selector], index: int) -> list[int]:
        """List the indexes of new rules that cover a lease, and of the first in force, by its selectors and index."""
        ends = [rule.index for rule in self.new if rule.index > index and rule.selector in selectors]
        first = self._head.in_force.ended_by(selectors, index)
        return ends if first is None else [*ends, first.index]

    def add(self, rule: RevocationRule) -> None:
        """Add a rule."""
        self.new.append(rule)

    def adopt(self, adopted: Adopted) -> None:
        """Note that a rule ends what another ledger, which this one was, has issued."""
        self._adopted.append(adopted)

    def tail(self) -> Sequence[Effect]:
        """List what is new."""
        return [*self.new, *self._adopted]

    def write(self) -> None:
        """Insert what is new."""
        if self.new:
            add(self._head.connection, self.new)
            notices.tell(self._head.connection)
