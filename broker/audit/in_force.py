"""The rules, locks and token keys in force, derived from entries alone: what a broker must know at once.

Nobody is believed about them.

A fold over the effects of entries, in their order:

1. A rule is kept until its `kept_until`, a lock until it is lifted or has expired.
2. Forgetting goes by no clock that is read here: an entry of kind `state.committed` moves the *horizon*, and what
   nobody needs from the horizon on is forgotten with it. So whoever has replayed the same entries knows the same.
3. The same entry commits to what was in force just before it: to SHA-256 over the rules' lines in ledger order, over
   the locks' lines, and to the latest end of any token. Whoever starts takes the rows of that state from a database,
   holds them against the commitment, and replays only what came after.
4. A rule says itself until when it matters: the latest end of any token that it can cover, as it was known then.
5. The newest entry that announces token keys says all of them. A commitment names that entry.

>>> state = InForce()
>>> state.apply(effects(4, body))      # the entry 4 revokes
>>> state.ended_by(lease.selectors(), lease.index)
RevocationRule(index=4, ...)
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from json.encoder import encode_basestring as _text

from broker.audit.effects import (
    Adopted,
    Commitment,
    Effect,
    KeysAnnounced,
    LeaseIssued,
    LeaseRenewed,
    LockLifted,
)
from broker.model.clock import from_micros, to_micros
from broker.model.principal import ANY_TENANT
from broker.model.selector import Cause, Lock, RevocationRule, Selector, Target

_NEVER = from_micros(0)
_NONE_ANNOUNCED = KeysAnnounced(-1)
_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class CommitmentMismatch(ValueError):
    """What was committed to is not what the entries before it say."""


class InForce:
    """The state. One thread changes it; others may look meanwhile, and find it before or after a change."""

    def __init__(self) -> None:
        """Begin as the empty ledger does."""
        self.horizon = _NEVER
        self.tokens_until = _NEVER
        self.adopted_index = -1  # of the entry behind which all is dead that was signed before; -1: there is none
        self.adopted_at = _NEVER
        self.committed: int | None = None  # the index of the newest entry that commits to this state
        self.committed_in_part = False  # by the version before, which knew of no token keys
        self.last_rule = -1  # the index of the newest rule, forgotten ones included; -1 before the first
        self.announced = _NONE_ANNOUNCED
        self._rules: list[RevocationRule] = []
        self._by_selector: dict[Selector, list[RevocationRule]] = {}
        self._locks: dict[str, Lock] = {}
        self._lines = hashlib.sha256()

    @classmethod
    def before(
        cls,
        commitment: Commitment,
        rules: Iterable[RevocationRule],
        locks: Iterable[Lock],
        announced: KeysAnnounced = _NONE_ANNOUNCED,
    ) -> InForce:
        """Take up the state that an entry commits to. Applying the entry then holds all of it against the entry."""
        state = cls()
        state.horizon, state.tokens_until = commitment.horizon, commitment.tokens_until
        state.adopted_index, state.adopted_at = commitment.adopted_index, commitment.adopted_at
        state._take(list(rules))
        state.last_rule = state._rules[-1].index if state._rules else -1
        state.apply(locks)
        state.announced = announced
        return state

    def apply(self, effects: Iterable[Effect]) -> None:
        """Follow what entries do, in their order.

        Raises:
            CommitmentMismatch: an entry commits to another state than the entries before it make.
        """
        for effect in effects:
            match effect:
                case RevocationRule():
                    self._add(effect)
                case Lock() | LockLifted():
                    _follow(self._locks, effect)
                case LeaseIssued() | LeaseRenewed():
                    self.tokens_until = max(self.tokens_until, effect.lease.expires_at)
                case KeysAnnounced():
                    self.announced = effect
                case Commitment():
                    self._commit(effect)
                case Adopted():
                    self.adopted_index, self.adopted_at = effect.index, effect.at
                case _:
                    pass

    def commitment(self, index: int, horizon: datetime, tail: Sequence[Effect] = ()) -> Commitment:
        """Commit, in the entry at `index`, to what is in force at the horizon, and after effects not applied yet."""
        horizon = max(horizon, self.horizon)
        lines = self._lines.copy() if horizon == self.horizon else _lines_of_rules(self._kept(horizon))
        locks, tokens_until = dict(self._locks), self.tokens_until
        adopted_index, adopted_at, announced = self.adopted_index, self.adopted_at, self.announced
        for effect in tail:
            match effect:
                case RevocationRule():
                    lines.update(_line_of_rule(effect).encode() if effect.kept_until > horizon else b"")
                case Lock() | LockLifted():
                    _follow(locks, effect)
                case LeaseIssued() | LeaseRenewed():
                    tokens_until = max(tokens_until, effect.lease.expires_at)
                case KeysAnnounced():
                    announced = effect
                case Adopted():
                    adopted_index, adopted_at = effect.index, effect.at
                case _:
                    pass
        return Commitment(
            index=index,
            horizon=horizon,
            tokens_until=tokens_until,
            adopted_index=adopted_index,
            adopted_at=adopted_at,
            rules=lines.hexdigest(),
            locks=_hash_of_locks([lock for lock in locks.values() if lock.is_active(horizon)]),
            keys_index=announced.index,
            keys=_hash_of_keys(announced),
        )

    def ended_by(self, selectors: Iterable[Selector], index: int) -> RevocationRule | None:
        """Find the first rule that covers a lease, by the selectors that cover it and its ledger index."""
        recorded = self._by_selector
        ends = []
        for selector in selectors:
            rules = recorded.get(selector)
            if rules is not None and rules[-1].index > index:
                ends.append(rules[bisect_right(rules, index, key=_index)])
        return min(ends, key=_index, default=None)

    def newest(self, selector: Selector) -> RevocationRule | None:
        """Find the last rule with exactly this selector."""
        rules = self._by_selector.get(selector)
        return None if rules is None else rules[-1]

    def has_ended(self, tenant: str, task_id: str) -> bool:
        """Report whether a task has ended. An operator's rule for it ends its leases, and the task goes on."""
        rules = self._by_selector.get(Selector(tenant, Target.TASK, task_id), ())
        return any(rule.cause is Cause.TASK_ENDED for rule in rules)

    def rules(self, after: int = -1) -> list[RevocationRule]:
        """List the rules that were recorded after an index, by ascending index."""
        rules = self._rules
        return rules[bisect_right(rules, after, key=_index) :]

    def relevant(self, tenant: str) -> list[RevocationRule]:
        """List the rules of which a verifier of a tenant may still need to know, by ascending index."""
        mine = (tenant, ANY_TENANT)
        return [
            rule
            for rule in list(self._rules)
            if rule.relevant_until > self.horizon and (tenant == ANY_TENANT or rule.selector.tenant in mine)
        ]

    def locks(self, at: datetime) -> list[Lock]:
        """List the locks in force at an instant, oldest first."""
        return [lock for lock in list(self._locks.values()) if lock.is_active(at)]

    def _add(self, rule: RevocationRule) -> None:
        self._rules.append(rule)
        self._by_selector.setdefault(rule.selector, []).append(rule)
        if rule.kept_until > self.horizon:  # it may have been past when it was recorded: a clock was set back
            self._lines.update(_line_of_rule(rule).encode())
        self.last_rule = rule.index

    def _take(self, rules: list[RevocationRule]) -> None:
        """Put rules in the place of those that are here."""
        by_selector: dict[Selector, list[RevocationRule]] = {}
        for rule in rules:
            by_selector.setdefault(rule.selector, []).append(rule)
        self._rules, self._by_selector, self._lines = rules, by_selector, _lines_of_rules(rules)

    def _commit(self, commitment: Commitment) -> None:
        ours = self.commitment(commitment.index, commitment.horizon)
        in_part = commitment.keys is None
        if (replace(ours, keys_index=-1, keys=None) if in_part else ours) != commitment:
            msg = f"entry {commitment.index} commits to other rules or locks, or keys, than the entries before it make"
            raise CommitmentMismatch(msg)
        self.committed, self.committed_in_part = commitment.index, in_part
        self._forget(commitment.horizon)

    def _forget(self, horizon: datetime) -> None:
        self._locks = {name: lock for name, lock in self._locks.items() if lock.is_active(horizon)}
        kept = self._kept(horizon)
        if len(kept) != len(self._rules):
            self._take(kept)
        self.horizon = horizon

    def _kept(self, horizon: datetime) -> list[RevocationRule]:
        return [rule for rule in self._rules if rule.kept_until > horizon]


def _follow(locks: dict[str, Lock], effect: Lock | LockLifted) -> None:
    if isinstance(effect, Lock):
        locks[effect.id] = effect
    else:
        locks.pop(effect.lock_id, None)


def _lines_of_rules(rules: Iterable[RevocationRule]) -> hashlib._Hash:
    micros = cache(to_micros)  # many rules share their instants
    return hashlib.sha256("".join([_line_of_rule(rule, micros) for rule in rules]).encode())


def _index(rule: RevocationRule) -> int:
    return rule.index


def _line_of_rule(rule: RevocationRule, micros: Callable[[datetime], int] = to_micros) -> str:
    """Return its JSON (RFC 8259), a list, without white space; put together by hand, as a start does for each rule."""
    selector, deadline = rule.selector, rule.task_deadline
    return (
        f"[{rule.index},{_text(selector.tenant)},{_text(selector.target)},{_text(selector.value)},{_text(rule.cause)},"
        f"{micros(rule.recorded_at)},{micros(rule.relevant_until)},"
        f"{'null' if deadline is None else micros(deadline)}]\n"
    )


def _hash_of_locks(locks: Collection[Lock]) -> str:
    lines = [
        _dumps(
            [
                lock.index,
                lock.id,
                lock.selector.tenant,
                lock.selector.target,
                lock.selector.value,
                lock.reason,
                lock.created_by,
                to_micros(lock.created_at),
                None if lock.expires_at is None else to_micros(lock.expires_at),
            ]
        )
        for lock in sorted(locks, key=lambda lock: lock.index)
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _hash_of_keys(announced: KeysAnnounced) -> str:
    lines = [_dumps([key.kid, key.x, key.y, to_micros(key.signs_from), to_micros(key.until)]) for key in announced.keys]
    return hashlib.sha256("\n".join([*lines, _dumps(announced.withdrawn)]).encode()).hexdigest()
