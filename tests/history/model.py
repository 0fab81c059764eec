"""A correct broker and its verifiers, small enough to see through, and the histories that Hypothesis has them live.

Every operation takes effect at one instant between its beginning and its answer, or, if no answer comes, then or never.
A verifier hears of a rule up to a window after that; a barrier is answered when all have heard.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from broker.model.errors import Reason
from tests.history.events import Begin, Event, History, Issue, Read, Renew, Revoke, Terms, Use

TERMS = Terms(window=10.0, leases_per_task=3, active_tasks=2)
_VERIFIERS = ("verifier 1", "verifier 2")
_KINDS = ("begin", "issue", "issue", "issue", "revoke", "end", "use", "use", "use", "use", "renew")


@dataclass(frozen=True, slots=True)
class Op:
    """What somebody is about to do, with numbers that pick among what there is: which task, lease or request."""

    kind: str
    began: float
    works: float  # the instant at which it takes effect
    ended: float
    answered: bool
    happens: bool
    number: int
    once: bool
    barrier: bool
    hears: tuple[float, ...]  # for how long each verifier does not hear of its rule


@dataclass
class Model:
    """The truth, as it changes from one instant to the next."""

    events: list[Event] = field(default_factory=list)
    indexes: int = 0
    tasks: dict[str, str] = field(default_factory=dict)  # by request
    ended: dict[str, Revoke] = field(default_factory=dict)  # by task
    leases: dict[str, Issue] = field(default_factory=dict)  # by request
    spent: set[str] = field(default_factory=set)
    rules: list[tuple[Revoke, tuple[float, ...]]] = field(default_factory=list)  # and when each verifier hears of it

    def live(self, op: Op) -> None:
        """Let an operation take effect."""
        event = getattr(self, f"_{op.kind}")(op) if op.answered or op.happens else None
        if event is None:
            return
        if isinstance(event, Revoke) and event.barrier and op.answered:
            heard = next(heard for rule, heard in self.rules if rule.rule == event.rule)
            event = replace(event, ended=max(op.ended, *heard))
        self.events.append(event if op.answered else _unanswered(event))

    def look(self) -> None:
        """Read what the database holds."""
        for task in self.tasks.values():
            of_task = [issue.lease for issue in self.leases.values() if issue.task == task]
            self.events.append(Read(by="reader", began=1_000.0, ended=1_000.0, task=task, leases=tuple(of_task)))

    def _begin(self, op: Op) -> Begin:
        request = f"begin {op.number}"
        event = Begin(by="orchestrator", began=op.began, ended=op.ended, request=request)
        if request not in self.tasks:
            if len(self.tasks.keys()) - len(self.ended) >= TERMS.active_tasks:
                return replace(event, refused=Reason.QUOTA_EXCEEDED)
            self.tasks[request] = f"task {op.number}"
        return replace(event, task=self.tasks[request])

    def _issue(self, op: Op) -> Issue | None:
        known = [event for event in self.events if isinstance(event, Begin) and event.task]
        if not known:
            return None
        request, task = f"issue {op.number}", known[op.number % 2 % len(known)].task
        spent = f"token {op.number % 3}" if op.once else ""
        if spent:
            request = f"{request} with {spent} at {op.began}"
        elif request in self.leases:
            task = self.leases[request].task
        event = Issue(by="agent", began=op.began, ended=op.ended, request=request, task=task, token=spent)
        if spent in self.spent:
            return replace(event, refused=Reason.ASSERTION_REPLAYED)
        self.spent |= {spent} if spent else set()
        return self._given(event)

    def _given(self, event: Issue) -> Issue:
        if (earlier := self.leases.get(event.request)) is not None:
            if self._dead(earlier):
                return replace(event, refused=Reason.LEASE_NOT_LIVE)
            return replace(event, lease=earlier.lease, index=earlier.index)
        if event.task in self.ended:
            return replace(event, refused=Reason.TASK_NOT_ACTIVE)
        if sum(issue.task == event.task for issue in self.leases.values()) >= TERMS.leases_per_task:
            return replace(event, refused=Reason.QUOTA_EXCEEDED)
        given = replace(event, lease=f"lease of {event.request}", index=self._next())
        self.leases[event.request] = given
        return given

    def _revoke(self, op: Op) -> Revoke | None:
        if (issue := self._known(op)) is None:
            return None
        lease, task = ("", issue.task) if op.once else (issue.lease, "")
        rule = Revoke(
            by="operator", began=op.began, ended=op.ended, rule=f"rule {op.began} {op.works}", lease=lease, task=task
        )
        return self._ruled(replace(rule, barrier=op.barrier, index=self._next()), op)

    def _end(self, op: Op) -> Revoke | None:
        known = [event for event in self.events if isinstance(event, Begin) and event.task]
        if not known:
            return None
        task = known[op.number % len(known)].task
        rule = Revoke(by="orchestrator", began=op.began, ended=op.ended, rule=task, task=task, ends=True)
        rule = replace(rule, barrier=op.barrier)
        if task in self.ended:
            return replace(rule, index=self.ended[task].index)
        self.ended[task] = self._ruled(replace(rule, index=self._next()), op)
        return self.ended[task]

    def _ruled(self, rule: Revoke, op: Op) -> Revoke:
        self.rules.append((rule, tuple(op.works + late for late in op.hears)))
        return rule

    def _use(self, op: Op) -> Use | None:
        if (issue := self._known(op)) is None:
            return None
        who = op.number % 2
        heard = any(heard[who] <= op.works for rule, heard in self.rules if _covers(rule, issue))
        refused = Reason.TOKEN_REVOKED if heard else ""
        return Use(by=_VERIFIERS[who], began=op.began, ended=op.ended, lease=issue.lease, refused=refused)

    def _renew(self, op: Op) -> Renew | None:
        if (issue := self._known(op)) is None:
            return None
        refused = Reason.LEASE_NOT_LIVE if self._dead(issue) else ""
        return Renew(by="agent", began=op.began, ended=op.ended, lease=issue.lease, refused=refused)

    def _known(self, op: Op) -> Issue | None:
        """Pick a lease that somebody had been given."""
        known = [issue for issue in self.events if isinstance(issue, Issue) and issue.lease]
        known = [issue for issue in known if issue.ended is not None and issue.ended <= op.began]
        return known[op.number % len(known)] if known else None

    def _dead(self, issue: Issue) -> bool:
        return any(_covers(rule, issue) for rule, _heard in self.rules)

    def _next(self) -> int:
        self.indexes += 1
        return self.indexes


def _covers(rule: Revoke, issue: Issue) -> bool:
    return rule.index > issue.index and (rule.lease or rule.task) in (issue.lease, issue.task)


def _unanswered(event: Event) -> Event:
    """Take away what only an answer tells; who tries a token is told at once."""
    match event:
        case Renew():
            return replace(event, ended=None, refused="")
        case Issue():
            return replace(event, ended=None, refused="", lease="", index=-1)
        case Begin():
            return replace(event, ended=None, refused="", task="")
        case Revoke():
            return replace(event, ended=None, index=-1)
        case _:
            return event


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Draw what a correct broker may live: so many operations, each as chance has it."""
    count, chance = draw(st.integers(1, 80)), draw(st.randoms(use_true_random=True))

    def some(most: int) -> int:
        return chance.randint(0, most)

    def op(number: int) -> Op:
        began = float(some(number))
        works = began + some(6)
        return Op(
            kind=_KINDS[some(len(_KINDS) - 1)] if number > 1 else "begin",
            began=began,
            works=works,
            ended=works + some(6),
            answered=some(5) > 0,
            happens=some(1) > 0,
            number=some(7),
            once=some(3) == 0,
            barrier=some(1) > 0,
            hears=tuple(float(some(10)) for _ in _VERIFIERS),
        )

    model = Model()
    for planned in sorted(map(op, range(count)), key=lambda planned: planned.works):
        model.live(planned)
    model.look()
    return History(tuple(model.events), TERMS)
