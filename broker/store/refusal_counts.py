"""Refusals that are counted instead of recorded one by one, until their sums are recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from broker.model.entry import Entry, Kind

_MOST_NAMED = 256
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 64.0


@dataclass(frozen=True, slots=True)
class Refused:
    """Whose requests were refused, and why. Nobody's have neither tenant nor principal."""

    tenant: str
    principal: str
    reason: str

    @classmethod
    def of(cls, entry: Entry) -> Refused:
        """Return it, read from the entry that a refusal would have."""
        return cls(entry.tenant, str(entry.observed.get("principal", "")), str(entry.decided["reason"]))


class RefusalCounts:
    """Counts, and when to record them: soon at first, and less and less often as long as the flood lasts."""

    def __init__(self) -> None:
        self._counts: Counter[Refused] = Counter()
        self._pause = _SHORTEST_PAUSE
        self._quiet_since = float("-inf")

    def add(self, refused: Refused) -> None:
        """Count one. If too many are named already, it is their tenant's."""
        if refused not in self._counts and len(self._counts) >= _MOST_NAMED:
            refused = Refused(refused.tenant, "", refused.reason)
        self._counts[refused] += 1

    def pause(self, now: float) -> float:
        """Report how many seconds to wait until the counts that begin `now`, on a monotonic clock, are recorded."""
        self._pause = min(_LONGEST_PAUSE, 2 * self._pause) if now < self._quiet_since + self._pause else _SHORTEST_PAUSE
        self._quiet_since = now + self._pause
        return self._pause

    def so_far(self) -> Mapping[Refused, int]:
        """Return what is to be recorded."""
        return dict(self._counts)

    def recorded(self, counts: Mapping[Refused, int]) -> None:
        """Forget what has been recorded."""
        self._counts.subtract(counts)
        self._counts = +self._counts


def entries(counts: Mapping[Refused, int], at: datetime) -> Iterator[Entry]:
    """Return the entries that record counts."""
    for refused, count in counts.items():
        yield Entry(
            kind=Kind.REFUSALS_SUMMARISED,
            at=at,
            tenant=refused.tenant,
            observed={"principal": refused.principal} if refused.principal else {},
            decided={"reason": refused.reason},
            effected={"count": count},
        )
