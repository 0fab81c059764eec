"""What brokers on one database tell each other about their verifiers. Values without I/O (docs/decisions/0017).

Each broker has a row in a register; a change of its `beat` shows that it lives. Whoever reads the rows goes by its own
clock alone, counting a whole window from when it had first seen a row as it is:

1. A broker writes a new beat, and who its verifiers are, before it keeps anybody fresh; and nobody for longer than a
   window from when that write began. So whoever reads a row that was there, as it is, a window ago, knows that none of
   that broker's verifiers is fresh: if it writes again, it looks at the ledger before it keeps anybody fresh again.
2. A barrier reads the register after its rule was committed. Who is not on record then reads the rule before it is
   fresh.
3. It waits for another broker until: none of its verifiers on record is concerned; or it answers that all of those have
   confirmed or are stale; or its row is old, by 1; or a window is over since the rule was committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from broker.revocation.barrier import NEVER, Receipt, concerns


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a broker says of a barrier on the rules of a tenant.

    All rules up to `closed` are: of the verifiers concerned so many had confirmed the last of them, or were stale. Then
    `awaited` are those that the next one waits for: tenants and names, and how many `more`.
    """

    closed: int = -1
    confirmed: int = 0
    stale: int = 0
    awaited: tuple[tuple[str, str], ...] = ()
    more: int = 0


_NO_ANSWER = Answer()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A broker's row: the rules on which it holds barriers, its answers, and how many verifiers it has, by tenant."""

    id: str
    name: str = ""
    version: str = ""
    beat: int = 0
    asked: Mapping[str, int] = field(default_factory=dict)
    answers: Mapping[str, Answer] = field(default_factory=dict)
    verifiers: Mapping[str, int] = field(default_factory=dict)

    def has_any(self, rule_tenant: str) -> bool:
        """Report whether a rule of a tenant concerns any of its verifiers."""
        return any(concerns(rule_tenant, tenant) for tenant, number in self.verifiers.items() if number)

    def answer(self, rule_tenant: str) -> Answer:
        """Return what it says of barriers on rules of a tenant."""
        return self.answers.get(rule_tenant, _NO_ANSWER)


@dataclass(slots=True)
class Peers:
    """The other brokers, as the register was read last. `patience` is a window on another clock, in seconds.

    Until `strangers_until` there may be verifiers of whom there is no record.
    """

    patience: float
    strangers_until: float = NEVER
    known: dict[str, Peer] = field(default_factory=dict)
    read_began: float = NEVER
    _since: dict[str, float] = field(default_factory=dict)

    def read(self, peers: Iterable[Peer], began: float, ended: float) -> None:
        """Take what the register says in a reading that began and ended then."""
        before, since = self.known, self._since
        self.known = {peer.id: peer for peer in peers}
        self._since = {
            peer.id: since[peer.id] if peer.id in before and before[peer.id].beat == peer.beat else ended
            for peer in self.known.values()
        }
        self.read_began = began

    def is_silent(self, peer_id: str) -> bool:
        """Report whether a row was, in the last reading, as it had been for a whole window: nobody is fresh by it."""
        return self.read_began >= self._since[peer_id] + self.patience

    def silent(self) -> list[Peer]:
        """List the brokers whose rows are old."""
        return [peer for peer in self.known.values() if self.is_silent(peer.id)]

    def have_any(self) -> bool:
        """Report whether another broker has verifiers."""
        return any(peer.verifiers for peer in self.known.values())

    def asked(self) -> dict[str, int]:
        """Return the newest rule of each tenant on which another broker holds a barrier."""
        newest: dict[str, int] = {}
        for peer in self.known.values():
            for tenant, index in peer.asked.items():
                newest[tenant] = max(index, newest.get(tenant, -1))
        return newest

    def barrier(self, index: int, tenant: str, now: float) -> PeerBarrier:
        """Begin a barrier on a rule of a tenant, which is committed."""
        return PeerBarrier(self, index, tenant, now)


class PeerBarrier:
    """The wait of a barrier for the verifiers of other brokers."""

    def __init__(self, peers: Peers, index: int, tenant: str, now: float) -> None:
        """Begin, when the rule is committed."""
        self._peers = peers
        self._index, self._tenant = index, tenant
        self._began, self.closed_by = now, now + peers.patience
        self._receipts: dict[str, Receipt] = {}

    def is_over(self, now: float) -> bool:
        """Report whether no other broker's verifier can accept what the rule covers any more."""
        if now >= self.closed_by:
            return True
        return self._is_read(now) and not self.waits_for()

    def next_at(self, now: float) -> float:
        """Return when to look again, if nothing is heard before. It must not be over."""
        strangers = self._peers.strangers_until
        return min(self.closed_by, strangers) if now < strangers else self.closed_by

    def waits_for(self) -> list[Peer]:
        """Return the brokers whose verifiers may still accept it, by the last reading."""
        return [peer for peer in self._peers.known.values() if not self._is_closed(peer)]

    def answers(self) -> list[Answer]:
        """Return what those say for whose verifiers it waits."""
        return [peer.answer(self._tenant) for peer in self.waits_for()]

    def is_known(self, now: float) -> bool:
        """Report whether it is known whom it waits for: all of them are named in answers."""
        named = all(answer.awaited for answer in self.answers())
        return named and self._is_read(now)

    def receipt(self) -> Receipt:
        """Return what the others have answered, when it is over."""
        return sum(self._receipts.values(), Receipt(0, 0))

    def _is_read(self, now: float) -> bool:
        """Report whether all whom it concerns are on record, and the record was read since the rule was committed."""
        return self._peers.read_began > self._began and now >= self._peers.strangers_until

    def _is_closed(self, peer: Peer) -> bool:
        answer = peer.answer(self._tenant)
        if answer.closed >= self._index:
            self._receipts.setdefault(peer.id, Receipt(answer.confirmed, answer.stale))
            return True
        return not peer.has_any(self._tenant) or self._peers.is_silent(peer.id)
