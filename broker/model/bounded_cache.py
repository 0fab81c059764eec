"""What is remembered to save time, of which there is never more than so much."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """At most `most` values by key; whatever was kept the longest ago gives way. Threads may share it.

    `get` returns a value, or None. It is a dictionary's own method, so that a hit costs no call in Python.
    """

    __slots__ = ("_most", "_values", "get")

    get: Callable[[Key], Value | None]

    def __init__(self, most: int) -> None:
        """Remember nothing yet."""
        self._most = most
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self.get = self._values.get

    def __len__(self) -> int:
        """Count the values."""
        return len(self._values)

    def __contains__(self, key: Key) -> bool:
        """Report whether there is a value."""
        return key in self._values

    def keep(self, key: Key, value: Value) -> Value:
        """Remember a value, as the newest, in the place of what the key had; return it."""
        self._values.pop(key, None)
        self._values[key] = value
        while len(self._values) > self._most:
            self._values.popitem(last=False)
        return value

    def forget(self, key: Key) -> None:
        """Forget a value, if there is one."""
        self._values.pop(key, None)
