"""Which key signs tokens now, and which keys verify them: those of our folder, as the ledger announces them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from broker.audit.effects import AnnouncedKey, KeysAnnounced
from broker.credential.keys import EcSigner, KeySet, PublicKey
from broker.keystore import announcing
from broker.keystore.folder import Keys
from broker.keystore.rotation import Keystore
from broker.model.clock import SurelyPast
from broker.model.errors import Hints, Reason, Refusal

_AGAIN_SECONDS = 5.0  # where no key of ours is announced: it is tried as often


@dataclass(frozen=True, slots=True)
class _Turn:
    """A key of ours that is announced, and when it may sign, by the monotonic clock: `ready` and not yet `over`."""

    signer: EcSigner
    signs_from: datetime
    ready: float
    over: float


class TokenKeys:
    """The keys of tokens. Any thread may ask for them.

    A key that our ledger does not announce signs nothing, since not every verifier would have it, and verifies nothing.
    """

    def __init__(
        self, keystore: Keystore, announced: Callable[[], KeysAnnounced], monotonic: Callable[[], float]
    ) -> None:
        """Make them of a folder; `announced` returns what is announced by the entries that we have followed."""
        self.keystore = keystore
        self.announced = announced
        self._monotonic = monotonic
        self._past = SurelyPast(keystore.clock, monotonic)
        self._ready: dict[tuple[str, datetime], float] = {}
        self._seen: tuple[KeysAnnounced, Keys] | None = None
        self._turns: Sequence[_Turn] = ()  # the latest first
        self._published: tuple[Sequence[AnnouncedKey], KeySet] = ([], KeySet.of(()))

    def signer(self) -> EcSigner:
        """Return the key that signs tokens now: the last whose turn has come.

        Raises:
            Refusal: UNAVAILABLE, for as long as verifiers may not have it.
        """
        self.look()
        now, at = self._monotonic(), self.keystore.clock()
        earliest: _Turn | None = None
        for turn in self._turns:
            if turn.ready <= now < turn.over:
                if turn.signs_from <= at:
                    return turn.signer
                earliest = turn
        if earliest is not None:  # the clock was set back
            return earliest.signer
        raise _not_yet(min((turn.ready - now for turn in self._turns if turn.ready > now), default=_AGAIN_SECONDS))

    def published(self) -> KeySet:
        """Return the public keys that verify tokens now, whichever broker signs with them."""
        withdrawn = self.keystore.keys.keyring.withdrawn
        good = [key for key in announcing.good(self.announced(), self._past()) if key.kid not in withdrawn]
        if self._published[0] != good:
            self._published = good, KeySet.of(_public(good))
        return self._published[1]

    def news(self, before: KeysAnnounced, index: int, at: datetime) -> KeysAnnounced | None:
        """Return what there is to announce, in the entry at an index; None, if all of it is.

        Raises:
            Refusal: QUOTA_EXCEEDED, if there is no room for our keys.
        """
        own = self.keystore.keys.own()
        return announcing.announce(before, own, self.keystore.rotation, index, at, self._past())

    @property
    def withdraws(self) -> bool:
        """Whether there is anything to withdraw."""
        return bool(self.keystore.keys.keyring.withdrawn)

    def problem(self) -> str | None:
        """Return what is wrong, if no token can be signed now."""
        try:
            self.signer()
        except Refusal as refusal:
            return refusal.message
        return None

    def look(self) -> None:
        """Take note of what is announced: from now on a key that was not before is waited for."""
        announced, keys = self.announced(), self.keystore.keys
        if self._seen is not None and self._seen[0] is announced and self._seen[1] is keys:
            return
        by_kid = {key.kid: key for key in announced.keys}
        self._turns = [
            _Turn(keys.signers[life.kid], life.signs_from, self._ready_at(key), self._over_at(key))
            for life in reversed(keys.keyring.lives)
            if (key := by_kid.get(life.kid)) is not None
        ]
        self._seen = announced, keys

    def _ready_at(self, key: AnnouncedKey) -> float:
        """Return when a key may sign: one whose turn is yet to come when we first see it waits for verifiers.

        The wait is a whole one from then, by a clock that nobody sets.
        """
        wait = self.keystore.rotation.spread.total_seconds() if self.keystore.clock() < key.signs_from else 0.0
        return self._ready.setdefault((key.kid, key.signs_from), self._monotonic() + wait)

    def _over_at(self, key: AnnouncedKey) -> float:
        """Return when a key must have been announced anew: the last token of before ends with the announcement."""
        left = key.until - self.keystore.rotation.longest - self.keystore.clock()
        return self._monotonic() + left.total_seconds()


def _public(keys: Sequence[AnnouncedKey]) -> Iterator[PublicKey]:
    for key in keys:
        with suppress(ValueError):  # it is no point of the curve, so nothing can be signed with it
            yield PublicKey.from_jwk(key.jwk())


def _not_yet(seconds: float) -> Refusal:
    again = math.ceil(seconds)
    return Refusal(
        Reason.UNAVAILABLE,
        "this broker has a new token key, and verifiers are only being told of it",
        Hints(next=f"try again in {again} seconds, or ask another broker", retry_seconds=again),
    )
