"""The lives of token keys: published, then signing, then published until the last token they signed is dead."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class KeyLife:
    """One key: it is published as soon as it is here, and signs from `signs_from` until the next one does."""

    kid: str
    signs_from: datetime


@dataclass(frozen=True, slots=True)
class Keyring:
    """The lives of all token keys, by ascending `signs_from`. There is always one that signs.

    `withdrawn` are the ids of keys that are to verify nothing any more, whosever they are, until the ledger says so.
    """

    lives: tuple[KeyLife, ...]
    withdrawn: tuple[str, ...] = ()

    def signing(self, at: datetime) -> str:
        """Report which key signs at an instant."""
        begun = [life for life in self.lives if life.signs_from <= at]
        return (begun[-1] if begun else self.lives[0]).kid

    def wants_next(self, at: datetime, rotation: timedelta, lead: timedelta) -> bool:
        """Report whether it is time to publish the next key: `lead` before the newest has signed for `rotation`."""
        return at >= self.lives[-1].signs_from + rotation - lead

    def with_next(self, kid: str, signs_from: datetime) -> Keyring:
        """Add the next key. If a next one is waiting already, it gives way."""
        waiting = [life for life in self.lives if life.signs_from < signs_from]
        return replace(self, lives=(*waiting, KeyLife(kid, signs_from)))

    def gone(self, at: datetime, longest_token: timedelta) -> Sequence[str]:
        """List the keys whose last token is dead: their successor has signed for longer than any token lives."""
        pairs = zip(self.lives, self.lives[1:], strict=False)
        return [life.kid for life, following in pairs if following.signs_from + longest_token < at]

    def without(self, kids: Collection[str]) -> Keyring:
        """Drop keys."""
        return replace(self, lives=tuple(life for life in self.lives if life.kid not in kids))

    def withdrawing(self, kids: Collection[str]) -> Keyring:
        """Drop keys that are to verify nothing any more, and remember to say so."""
        return replace(self.without(kids), withdrawn=tuple(dict.fromkeys([*self.withdrawn, *kids])))
