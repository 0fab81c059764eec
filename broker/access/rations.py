"""How many refusals of one caller are recorded one by one: a supply that is used up, and grows again with time."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta

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
        self._left: OrderedDict[str, tuple[float, datetime]] = OrderedDict()

    def take(self, whose: str, ration: Ration, at: datetime) -> bool:
        """Take one; report whether there was one to take."""
        left, seen = self._left.pop(whose, (float(ration.most), at))
        left = min(float(ration.most), left + max(timedelta(), at - seen) / ration.every)
        taken = left >= 1
        self._left[whose] = (left - taken, at)
        if len(self._left) > _MOST_KNOWN:
            self._left.popitem(last=False)
        return taken
