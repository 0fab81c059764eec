"""Draws that a seed decides: the same seed, the same draws, in the same order."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

_SIZE = 1 << 32


class Lot:
    """Draws one after the other."""

    def __init__(self, *seed: object) -> None:
        """Begin with the first draw of a seed."""
        self._seed = " ".join(map(str, seed))
        self._numbers = itertools.count()

    def between(self, low: float, high: float) -> float:
        """Draw a number from a span."""
        drawn = hashlib.sha256(f"{self._seed} {next(self._numbers)}".encode()).digest()
        return low + (high - low) * int.from_bytes(drawn[:4]) / _SIZE

    def pick(self, options: Sequence[T]) -> T:
        """Draw one of some."""
        return options[int(self.between(0, len(options)))]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """Draw an order."""
        return sorted(options, key=self._rank())

    def one_in(self, count: int) -> bool:
        """Draw what happens once in so many times."""
        return self.between(0, count) < 1

    def _rank(self) -> Callable[[object], float]:
        return lambda _option: self.between(0, 1)
