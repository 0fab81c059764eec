"""The laws of quotas: none is overrun, whichever brokers are asked, and none is used up by what was not given."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

from broker.model.errors import Reason
from tests.history.events import Begin, History, Issue, Read, Revoke
from tests.history.violation import Violation


def leases_per_task(history: History) -> Iterator[Violation]:
    """A task has so many leases at most; and nobody is refused for that while so many cannot have been given."""
    limit = history.terms.leases_per_task
    given: dict[str, dict[str, Issue]] = defaultdict(dict)
    for issue in history.of(Issue):
        if issue.lease:
            given[issue.task].setdefault(issue.lease, issue)
    for leases in given.values():
        if len(leases) > limit:
            yield Violation("leases_per_task", f"{len(leases)} of {limit}", tuple(leases.values()))
    for read in history.of(Read):
        if len(read.leases) > limit:
            yield Violation("leases_per_task", f"{len(read.leases)} of {limit} are in the database", (read,))
    yield from _refused_leases(history)


def _refused_leases(history: History) -> Iterator[Violation]:
    limit = history.terms.leases_per_task
    asked: dict[str, dict[str, float]] = defaultdict(dict)
    for issue in history.of(Issue):
        of_task = asked[issue.task]
        of_task[issue.request] = min(issue.began, of_task.get(issue.request, math.inf))
    for issue in history.of(Issue):
        if issue.refused == Reason.QUOTA_EXCEEDED and issue.ended is not None:
            others = (at for name, at in asked[issue.task].items() if name != issue.request)
            if (count := sum(at <= issue.ended for at in others)) < limit:
                what = f"it is refused for the quota of {limit}, and {count} others were asked for"
                yield Violation("leases_per_task", what, (issue,))


def tasks_at_a_time(history: History) -> Iterator[Violation]:
    """So many tasks live at a time, at most; and nobody is refused for that while so many cannot have lived."""
    limit = history.terms.active_tasks
    begun = _begun(history)
    may_end: dict[str, float] = {}
    has_ended: dict[str, float] = {}
    for rule in history.of(Revoke):
        if rule.ends:
            may_end[rule.task] = min(rule.began, may_end.get(rule.task, math.inf))
            if rule.ended is not None and not rule.refused:
                has_ended[rule.task] = min(rule.ended, has_ended.get(rule.task, math.inf))
    for event in begun.values():
        alive = [
            other
            for other in begun.values()
            if other.ended is not None
            and event.ended is not None
            and other.ended <= event.ended < may_end.get(other.task, math.inf)
        ]
        if len(alive) > limit:
            yield Violation("tasks_at_a_time", f"{len(alive)} of {limit}", tuple(alive))
    yield from _refused_tasks(history, begun, has_ended)


def _refused_tasks(history: History, begun: dict[str, Begin], has_ended: dict[str, float]) -> Iterator[Violation]:
    limit = history.terms.active_tasks
    asked: dict[str, float] = {}
    for event in history.of(Begin):
        asked[event.request] = min(event.began, asked.get(event.request, math.inf))
    gone = {event.request: has_ended[event.task] for event in begun.values() if event.task in has_ended}
    for event in history.of(Begin):
        if event.refused == Reason.QUOTA_EXCEEDED and event.ended is not None:
            others = [name for name, at in asked.items() if name != event.request and at <= event.ended]
            if (count := sum(gone.get(name, math.inf) > event.began for name in others)) < limit:
                what = f"it is refused for the quota of {limit}, and {count} others can have lived"
                yield Violation("tasks_at_a_time", what, (event,))


def _begun(history: History) -> dict[str, Begin]:
    """Return the tasks that were begun, by their ids, each as it was first acknowledged."""
    begun: dict[str, Begin] = {}
    for event in sorted(history.of(Begin), key=lambda event: math.inf if event.ended is None else event.ended):
        if event.task and event.ended is not None:
            begun.setdefault(event.task, event)
    return begun
