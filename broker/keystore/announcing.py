"""What brokers announce of their token keys to each other, as a ledger entry: pure values, no I/O.

The newest announcement holds the keys of all brokers. Whoever announces takes over what others have announced and is
still good, and puts its own beside it, at the head of the ledger, where brokers stand one at a time:

1. Of a keyring those keys are announced that sign, will sign, or have signed a token that may be alive.
2. A key that was not announced before signs only when every verifier that is fresh has it: a while after its entry.
   Where no key is announced there is no verifier to be waited for.
3. An announcement ends by itself, so that the keys of a broker that never comes back do not stay. Who is there renews
   its own, long before.
4. What was withdrawn, by whichever broker, is announced no more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from broker.audit.effects import AnnouncedKey, KeysAnnounced
from broker.credential.keys import PublicKey
from broker.keystore.keyring import KeyLife, Keyring
from broker.model.clock import from_micros
from broker.model.errors import Hints, Reason, Refusal

_ENDED = from_micros(0)
MOST_ANNOUNCED = 128  # of all brokers at a time: more would make an entry that is too long for the ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """When keys change: one signs for `every`, the next is published `lead` before its turn; tokens live `longest`.

    `spread` is how long after its entry every verifier that is fresh has a key.
    """

    every: timedelta
    lead: timedelta
    longest: timedelta
    spread: timedelta

    @property
    def kept(self) -> timedelta:
        """For how long a key stays after another's turn has come: that may have had to wait."""
        return self.longest + self.spread


@dataclass(frozen=True, slots=True)
class Own:
    """The keys of one folder: their lives, and their public halves."""

    keyring: Keyring
    public: Sequence[PublicKey]


def good(announced: KeysAnnounced, past: datetime) -> list[AnnouncedKey]:
    """List the keys whose announcement had not ended at an instant, which is past whatever clocks say."""
    return [key for key in announced.keys if key.until > past]


def gone(keyring: Keyring, announced: KeysAnnounced, at: datetime, kept: timedelta) -> Collection[str]:
    """Find the keys of a keyring whose last token is dead. One that is announced signs until another such follows."""
    signs_from = {key.kid: key.signs_from for key in announced.keys}
    lives = [KeyLife(life.kid, signs_from[life.kid]) for life in keyring.lives if life.kid in signs_from]
    followed = Keyring(tuple(sorted(lives, key=lambda life: life.signs_from))).gone(at, kept)
    return {*followed, *(kid for kid in keyring.gone(at, kept) if kid not in signs_from)}


def announce(
    before: KeysAnnounced, own: Own, rotation: Rotation, index: int, at: datetime, past: datetime
) -> KeysAnnounced | None:
    """Return what the entry at an index is to announce: ours beside what was. None, if nothing is new.

    `past` is as in `good`: if our clock is ahead, others must not lose their keys by it.

    Raises:
        Refusal: QUOTA_EXCEEDED, if there is no room for our keys beside those of the others.
    """
    withdrawn = before.withdrawing(own.keyring.withdrawn)
    known = {key.kid: key for key in good(before, past) if key.kid not in withdrawn}
    not_announced = {*withdrawn, *gone(own.keyring, before, at, rotation.kept)}
    soonest = at + rotation.spread if good(before, past) else None
    turns = {life.kid: life.signs_from for life in own.keyring.lives}
    others = [key for kid, key in known.items() if kid not in turns]
    ours = [
        _renewed(known.get(key.kid) or _new(key, turns[key.kid], soonest), at, rotation)
        for key in own.public
        if key.kid not in not_announced
    ]
    if len(others) + len(ours) > MOST_ANNOUNCED:
        raise _no_room(len(others))
    keys = tuple(sorted([*others, *ours], key=lambda key: key.kid))
    return None if (keys, withdrawn) == (before.keys, before.withdrawn) else KeysAnnounced(index, keys, withdrawn)


def _new(key: PublicKey, turn: datetime, soonest: datetime | None) -> AnnouncedKey:
    jwk, signs_from = key.to_jwk(), turn if soonest is None else max(turn, soonest)
    return AnnouncedKey(kid=key.kid, x=jwk["x"], y=jwk["y"], signs_from=signs_from, until=_ENDED)


def _renewed(key: AnnouncedKey, at: datetime, rotation: Rotation) -> AnnouncedKey:
    """Announce a key for longer, if less than half of the time in which it may sign is left."""
    if key.until >= at + rotation.every / 2 + rotation.longest:
        return key
    return replace(key, until=at + rotation.every + rotation.longest)


def _no_room(others: int) -> Refusal:
    return Refusal(
        Reason.QUOTA_EXCEEDED,
        f"{others} token keys of other brokers are announced, and there is room for {MOST_ANNOUNCED} in all",
        Hints(
            next="let a broker keep its keys.dir when it restarts; what is announced of one that is gone ends by itself"
        ),
    )
