"""The laws that a recorded history must keep, as functions from a history to its violations.

Each accuses only what no order of the operations explains: of two that overlap, either may have been first.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain

from broker.model.errors import Reason
from tests.history.events import Begin, Event, History, Issue, Read, Renew, Revoke, Use
from tests.history.quotas import leases_per_task, tasks_at_a_time
from tests.history.violation import Violation

_NOT_LET_IN = frozenset(
    {
        Reason.ASSERTION_REPLAYED,
        Reason.PROOF_INVALID,
        Reason.IDENTITY_EXPIRED,
        Reason.IDENTITY_INVALID,
        Reason.IDENTITY_MISSING,
        Reason.IDENTITY_UNKNOWN,
    }
)


def violations(history: History) -> list[Violation]:
    """Hold a history against every law."""
    return list(chain.from_iterable(law(history) for law in LAWS))


def barrier(history: History) -> Iterator[Violation]:
    """Once a barrier has returned, nobody accepts what its rule covers."""
    rules = [rule for rule in history.of(Revoke) if rule.barrier and _done(rule)]
    for rule, use in _late(history, rules, 0.0):
        yield Violation("barrier", "what a barrier has ended was accepted after it", (rule, use))


def window(history: History) -> Iterator[Violation]:
    """One window after a rule was acknowledged nobody accepts what it covers, barrier or not."""
    rules = [rule for rule in history.of(Revoke) if _done(rule)]
    for rule, use in _late(history, rules, history.terms.window):
        yield Violation("window", "what was revoked is accepted for longer than the window", (rule, use))


def resurrection(history: History) -> Iterator[Violation]:
    """A verifier that has refused a token as revoked does not accept it later."""
    dead: dict[tuple[str, str], Use] = {}
    for use in sorted(history.of(Use), key=lambda use: use.began):
        if use.refused == Reason.TOKEN_REVOKED:
            dead.setdefault((use.by, use.lease), use)
        before = dead.get((use.by, use.lease))
        if use.accepted and before is not None and use.began > _ended(before):
            yield Violation("resurrection", "a verifier accepts what it has refused as revoked", (before, use))


def cause(history: History) -> Iterator[Violation]:
    """A token is refused as revoked only when somebody has begun to revoke it."""
    task_of = {issue.lease: issue.task for issue in history.of(Issue) if issue.lease}
    began: dict[str, float] = {}
    for rule in history.of(Revoke):
        target = rule.lease or rule.task
        began[target] = min(rule.began, began.get(target, math.inf))
    for use in history.of(Use):
        if use.refused == Reason.TOKEN_REVOKED:
            first = min(began.get(target, math.inf) for target in (use.lease, task_of.get(use.lease, "")))
            if first > _ended(use):
                yield Violation("cause", "it is refused as revoked, and nobody has revoked it", (use,))


def end(history: History) -> Iterator[Violation]:
    """Once the end of a task is acknowledged, nobody is given a credential for it."""
    first: dict[str, Revoke] = {}
    for rule in sorted(history.of(Revoke), key=_ended):
        if rule.ends and _done(rule):
            first.setdefault(rule.task, rule)
    for issue in history.of(Issue):
        if issue.lease and issue.task in first and issue.began > _ended(first[issue.task]):
            yield Violation("end", "a credential was given after its task had ended", (first[issue.task], issue))


def renewal(history: History) -> Iterator[Violation]:
    """Once a revocation is acknowledged, nobody is given a new token on what it covers."""
    first = _first_rules(history, [rule for rule in history.of(Revoke) if _done(rule)])
    for renew in history.of(Renew):
        given = renew.ended is not None and not renew.refused
        if given and renew.lease in first and renew.began > _ended(first[renew.lease]):
            yield Violation("renewal", "what was revoked was renewed", (first[renew.lease], renew))


def request(history: History) -> Iterator[Violation]:
    """One request id has one result, however often and wherever it is sent, and a result has one request id."""
    made: dict[str, Begin | Issue] = {}
    asked: dict[str, Begin | Issue] = {}
    events: list[Begin | Issue] = [*history.of(Begin), *history.of(Issue)]
    for event in events:
        if not _result(event):
            continue
        first = made.setdefault(event.request, event)
        if _result(first) != _result(event):
            yield Violation("request", "a request id was used twice", (first, event))
        first = asked.setdefault(_result(event), event)
        if first.request != event.request:
            yield Violation("request", "two requests were given the same", (first, event))


def once(history: History) -> Iterator[Violation]:
    """What is good for one time is good for one time, at whichever broker, and is not refused as used before that."""
    shown: dict[str, list[Issue]] = defaultdict(list)
    for issue in history.of(Issue):
        if name := issue.token or issue.proof:
            shown[name].append(issue)
    for attempts in shown.values():
        uses = [issue for issue in attempts if _uses(issue)]
        if len(uses) > 1:
            yield Violation("once", f"it was good for {len(uses)} times", tuple(uses))
        for issue in attempts:
            others = min((other.began for other in attempts if other is not issue), default=math.inf)
            if issue.refused == Reason.ASSERTION_REPLAYED and others > _ended(issue):
                yield Violation("once", "it is refused as used, and was not", (issue,))


def order(history: History) -> Iterator[Violation]:
    """The ledger has one order: what began when something was acknowledged stands behind that."""
    changes = _changes(history)
    acknowledged = sorted(changes, key=_ended)
    highest, position = None, 0
    for change in sorted(changes, key=lambda change: change.began):
        while position < len(acknowledged) and _ended(acknowledged[position]) < change.began:
            before = acknowledged[position]
            highest = before if highest is None or before.index > highest.index else highest
            position += 1
        if highest is not None and highest.index >= change.index:
            yield Violation("order", "it began later, and its index is not greater", (highest, change))
    first: dict[int, Issue | Revoke] = {}
    for change in changes:
        if first.setdefault(change.index, change) is not change:
            yield Violation("order", "two have one index", (first[change.index], change))


def kept(history: History) -> Iterator[Violation]:
    """What was acknowledged is in the database, and for every lease there, somebody has asked."""
    given: dict[str, dict[str, Issue]] = defaultdict(dict)
    asked: dict[str, set[str]] = defaultdict(set)
    for issue in history.of(Issue):
        asked[issue.task].add(issue.request)
        if issue.lease:
            given[issue.task][issue.lease] = issue
    for read in history.of(Read):
        known = given[read.task]
        for lost in sorted(known.keys() - set(read.leases)):
            yield Violation("kept", "what was acknowledged is lost", (known[lost], read))
        strangers = set(read.leases) - known.keys()
        unanswered = asked[read.task] - {issue.request for issue in known.values()}
        if len(strangers) > len(unanswered):
            what = f"there are {len(strangers)} leases that nobody was given, for {len(unanswered)} requests"
            yield Violation("kept", what, (read,))


LAWS: tuple[Callable[[History], Iterable[Violation]], ...] = (
    barrier,
    window,
    resurrection,
    cause,
    end,
    renewal,
    request,
    leases_per_task,
    tasks_at_a_time,
    once,
    order,
    kept,
)
"""All of them."""


def _done(rule: Revoke) -> bool:
    """Report whether a revocation was acknowledged."""
    return rule.ended is not None and not rule.refused


def _ended(event: Event) -> float:
    return math.inf if event.ended is None else event.ended


def _uses(issue: Issue) -> bool:
    """Report whether it has used up what came with it."""
    let_in = issue.ended is not None and issue.refused not in _NOT_LET_IN
    return bool(issue.lease) or (bool(issue.token) and let_in)


def _result(event: Begin | Issue) -> str:
    return event.lease if isinstance(event, Issue) else event.task


def _late(history: History, rules: Iterable[Revoke], grace: float) -> Iterator[tuple[Revoke, Use]]:
    """Yield what was accepted later than some seconds after a rule was acknowledged that covers it."""
    first = _first_rules(history, rules)
    for use in history.of(Use):
        if use.accepted and use.lease in first and use.began > _ended(first[use.lease]) + grace:
            yield first[use.lease], use


def _first_rules(history: History, rules: Iterable[Revoke]) -> dict[str, Revoke]:
    """Return, by lease, the rule that was acknowledged first of those that cover it."""
    first: dict[str, Revoke] = {}
    leases = _leases(history)
    for rule in sorted(rules, key=_ended):
        for lease in [rule.lease] if rule.lease else leases.get(rule.task, {}):
            # A rule of a task that goes on covers what had been given when it was asked for.
            if rule.lease or rule.ends or leases[rule.task][lease] < rule.began:
                first.setdefault(lease, rule)
    return first


def _leases(history: History) -> dict[str, dict[str, float]]:
    """Return the leases of each task, with the instant at which each was there."""
    there: dict[str, dict[str, float]] = defaultdict(dict)
    for issue in history.of(Issue):
        if issue.lease:
            there[issue.task][issue.lease] = min(_ended(issue), there[issue.task].get(issue.lease, math.inf))
    return there


def _changes(history: History) -> list[Issue | Revoke]:
    """Return what has an index: one event for each, from when it was first asked for until it was first answered."""
    events: list[Issue | Revoke] = [*history.of(Issue), *history.of(Revoke)]
    began: dict[str, float] = {}
    changes: dict[str, Issue | Revoke] = {}
    for event in events:
        name = event.request if isinstance(event, Issue) else event.rule
        began[name] = min(event.began, began.get(name, math.inf))
        if event.index >= 0 and (name not in changes or _ended(event) < _ended(changes[name])):
            changes[name] = event
    return [replace(change, began=began[name]) for name, change in changes.items()]
