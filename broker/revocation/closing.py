"""What is said of a barrier when somebody stops waiting for it. A value without I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from itertools import islice

from broker.model.principal import ANY_TENANT
from broker.revocation.barrier import Barrier
from broker.revocation.peers import PeerBarrier

MOST_NAMED = 100


class State(Enum):
    """CLOSED: nobody can accept it any more. PARTIAL: only those who are awaited can. UNKNOWN: others may, too."""

    CLOSED = "closed"
    PARTIAL = "partial"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """How far a rule is closed. `awaited` are tenants and names of verifiers, and `more` is how many others.

    `seconds` is after how many it must be closed at the latest, whatever happens.
    """

    state: State
    confirmed: int
    stale: int
    awaited: tuple[tuple[str, str], ...] = ()
    more: int = 0
    seconds: float = 0.0

    def named_to(self, tenant: str) -> Closing:
        """Name only what a caller of a tenant may see; the others are counted."""
        named = tuple(each for each in self.awaited if tenant in (ANY_TENANT, each[0]))
        return replace(self, awaited=named, more=self.more + len(self.awaited) - len(named))


def closed(here: Barrier, elsewhere: PeerBarrier) -> Closing:
    """End the wait of a barrier that is over, here and elsewhere."""
    receipt = here.receipt() + elsewhere.receipt()
    return Closing(state=State.CLOSED, confirmed=receipt.confirmed, stale=receipt.stale)


def not_closed(here: Barrier, elsewhere: PeerBarrier, now: float) -> Closing:
    """Say how far a barrier is, on which somebody does not wait any longer."""
    names = [(session.tenant, session.principal) for session in here.waits_for(now)]
    answers = elsewhere.answers()
    more = sum(answer.more for answer in answers)
    for answer in answers:
        names += answer.awaited
    named = tuple(islice(names, MOST_NAMED))
    receipt = here.so_far(now) + elsewhere.receipt()
    return Closing(
        state=State.PARTIAL if elsewhere.is_known(now) else State.UNKNOWN,
        confirmed=receipt.confirmed,
        stale=receipt.stale,
        awaited=named,
        more=more + len(names) - len(named),
        seconds=max(0.0, elsewhere.closed_by - now),
    )
