"""The token keys that are announced. No table holds them: the newest entry that announces any says all of them."""

from __future__ import annotations

from collections.abc import Sequence

from broker.audit.effects import Effect, KeysAnnounced
from broker.store.aggregate import Aggregate, AtHead


class Announcements(Aggregate):
    """The announced keys of a transaction."""

    def __init__(self, head: AtHead) -> None:
        """Begin with what is in force."""
        self.newest = head.in_force.announced
        self._new: list[KeysAnnounced] = []

    def add(self, announced: KeysAnnounced) -> None:
        """Announce keys in the place of all that were."""
        self.newest = announced
        self._new.append(announced)

    def tail(self) -> Sequence[Effect]:
        """List what is new."""
        return self._new
