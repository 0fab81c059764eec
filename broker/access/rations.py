"""How many refusals of one caller are recorded one by one: a supply that is used up, and grows again with time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.model.bounded_cache import BoundedCache

_MOST_KNOWN = 5_000


@dataclass(frozen=True, slots=True)
class Ration:
    """At most so many at once, and one more each `every`."""

    most: int
    every: timedelta


OF_NOBODY = Ration(8, timedelta(minutes=1))
"""Who proves nothing can be as many as it likes: its refusals are counted, and a sample is recorded, of each reason."""
OF_A_CALLER = Ration(200, timedelta(seconds=6))
"""For each caller and reason."""


class Rations:
    """What is left of each ration, by whose it is. Of those who were not seen for long, nothing is known."""

    def __init__(self) -> None:
        """Begin with full rations for everybody."""
        self._left: BoundedCache[str, tuple[float, datetime]] = BoundedCache(_MOST_KNOWN)

    def take(self, whose: str, ration: Ration, at: datetime) -> bool:
        """Take one; report whether there was one to take."""
        left, seen = self._left.get(whose) or (float(ration.most), at)
        left = min(float(ration.most), left + max(timedelta(), at - seen) / ration.every)
        taken = left >= 1
        self._left.keep(whose, (left - taken, at))
        return taken
