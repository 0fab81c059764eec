"""What an entry may do: nouns for each change of state. `readings` reads them back from an entry's bytes.

`store/` applies them to tables, `in_force` to what a broker must know at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from broker.model.clock import to_micros
from broker.model.entry import Json
from broker.model.lease import Lease
from broker.model.selector import Lock, RevocationRule
from broker.model.task import Task, TaskState

MOST_WITHDRAWN = 256  # token keys of which it is remembered


@dataclass(frozen=True, slots=True)
class Started:
    """A ledger begins, under a name."""

    origin: str


@dataclass(frozen=True, slots=True)
class TaskBegun:
    """A task is there."""

    task: Task


@dataclass(frozen=True, slots=True)
class TaskExtended:
    """A task's deadline has moved."""

    task_id: str
    index: int
    deadline: datetime


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """A task has ended; the rule that kills its leases is an effect of its own."""

    task_id: str
    index: int
    state: TaskState
    at: datetime


@dataclass(frozen=True, slots=True)
class LeaseIssued:
    """A lease is there."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class LeaseRenewed:
    """A lease, as its renewal has left it. What renewal does not change is to be taken from its issue."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class LeasesClosed:
    """The end of these leases is on record."""

    lease_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LockLifted:
    """A lock is there no more."""

    lock_id: str


@dataclass(frozen=True, slots=True)
class Explained:
    """The entry commits to an explanation."""

    index: int
    at: datetime
    commitment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnouncedKey:
    """The public half of a token key: P-256, by its coordinates and its thumbprint, in base64url.

    Tokens are signed with it from `signs_from` on, and no token that it has signed lives beyond `until`.
    """

    kid: str
    x: str
    y: str
    signs_from: datetime
    until: datetime

    def jwk(self) -> dict[str, Json]:
        """Return the JWK (RFC 7517)."""
        return {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.kid, "x": self.x, "y": self.y}


@dataclass(frozen=True, slots=True)
class KeysAnnounced:
    """From this entry on these keys verify tokens, whichever broker signs with them, and no others.

    Keys that were `withdrawn` verify nothing any more, and are not announced again: the newest of them are named.
    """

    index: int
    keys: tuple[AnnouncedKey, ...] = ()
    withdrawn: tuple[str, ...] = ()

    def withdrawing(self, kids: Iterable[str]) -> tuple[str, ...]:
        """List what is withdrawn when these keys are, too."""
        return (*self.withdrawn, *(kid for kid in kids if kid not in self.withdrawn))[-MOST_WITHDRAWN:]

    def replaced(self, index: int, keys: Iterable[AnnouncedKey]) -> KeysAnnounced:
        """Announce these keys alone, and withdraw all others."""
        kept = tuple(sorted(keys, key=lambda key: key.kid))
        others = {key.kid for key in self.keys} - {key.kid for key in kept}
        return KeysAnnounced(index, kept, self.withdrawing(sorted(others)))

    def facts(self) -> dict[str, Json]:
        """Say it in an entry."""
        return {
            "kids": [key.kid for key in self.keys],
            "keys": [
                {"jwk": key.jwk(), "signs_from": to_micros(key.signs_from), "until": to_micros(key.until)}
                for key in self.keys
            ],
            "withdrawn": [*self.withdrawn],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitment:
    """The rules, locks and token keys in force before this entry, as in `in_force`; hashes are in hex.

    `horizon`: what nobody needs from then on is forgotten. `tokens_until`: the latest end of any token. `adopted_index`
    and `adopted_at` are those of the last adoption, or -1 and the epoch. `keys_index` is of the entry that announced
    the keys last, -1 if there is none; `keys` is None for a version that announced none.
    """

    index: int
    horizon: datetime
    tokens_until: datetime
    adopted_index: int
    adopted_at: datetime
    rules: str
    locks: str
    keys_index: int = -1
    keys: str | None = None

    def facts(self) -> dict[str, Json]:
        """Say it in an entry."""
        return {
            "horizon": to_micros(self.horizon),
            "tokens_until": to_micros(self.tokens_until),
            "adopted_index": self.adopted_index,
            "adopted_at": to_micros(self.adopted_at),
            "rules": self.rules,
            "locks": self.locks,
            **({} if self.keys is None else {"keys_index": self.keys_index, "keys": self.keys}),
        }


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Records that ended before an instant may have been deleted. The ledger keeps what they said."""

    before: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """The ledger goes on under another origin from this entry on: behind a head that somebody vouches for.

    What was signed behind `previous_size` under the origin before is disowned. Indexes go on from `index`, above all
    that was ever given out.
    """

    index: int
    at: datetime
    origin: str
    previous_origin: str
    previous_size: int
    previous_root: str


Effect = (
    Started
    | TaskBegun
    | TaskExtended
    | TaskEnded
    | LeaseIssued
    | LeaseRenewed
    | LeasesClosed
    | RevocationRule
    | Lock
    | LockLifted
    | Explained
    | KeysAnnounced
    | Commitment
    | Forgotten
    | Adopted
)
