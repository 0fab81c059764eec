"""Follow a ledger: one history, and what is in force by it, derived from entries and believed of no other table.

A follower stands at a *position*, a head that it has seen with its own eyes. From there it goes on only over entries
whose hashes lead to the next head that we have signed. So a ledger that was cut back, swapped, restored from an older
backup or altered is not followed, and whoever must follow before it signs does not sign.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import structlog
from sqlalchemy import Connection

from broker.audit import checkpoint, lease_ends
from broker.audit.canonical import MalformedEntry
from broker.audit.checkpoint import Checkpoint
from broker.audit.effects import (
    Adopted,
    Commitment,
    Effect,
    KeysAnnounced,
    LeaseIssued,
    LeaseRenewed,
    LockLifted,
)
from broker.audit.in_force import CommitmentMismatch, InForce
from broker.audit.note import InvalidNote, VerifierKey, verify_note
from broker.audit.readings import effects
from broker.audit.tree import Frontier, leaf_hash
from broker.model.clock import to_micros
from broker.model.selector import Lock, RevocationRule
from broker.store import ledger, locks, proofs, rules
from broker.store.ledger import Head, LedgerMismatch

_PAGE = 2_000
_OF_LEASES = (LeaseIssued, LeaseRenewed)
_FOLLOWED = (RevocationRule, Lock, LockLifted, KeysAnnounced, Commitment, Adopted)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a ledger stands: its tree, and the index of the next entry."""

    frontier: Frontier
    next_index: int

    def before(self, index: int) -> Position:
        """Pass indexes over, so that the next entry has this one."""
        return Position(self.frontier, index)


@dataclass(frozen=True, slots=True)
class Tail:
    """What came between two positions, as far as `InForce` follows it."""

    start: Position
    end: Position
    effects: Sequence[Effect]
    note: str = ""


EMPTY = Position(Frontier.empty(), 0)


class Follower:
    """What a broker knows of its ledger. Any thread may read and apply; a tail that is known changes nothing."""

    def __init__(self, vkey: VerifierKey) -> None:
        """Make a follower of the ledger that a key signs; it stands before the first entry."""
        self.in_force = InForce()
        self.position = EMPTY
        self.note = ""  # the checkpoint of our position
        self._vkey = vkey
        self._heard_of = -1
        self._lock = threading.Lock()

    def open(self, connection: Connection) -> None:
        """Take up where the newest commitment stands, and replay what came after; or everything, if there is none.

        Everything, too, if the version before has committed: it knew nothing of token keys.

        Raises:
            LedgerMismatch: it is not the ledger that the key has signed.
        """
        head = proofs.newest_head(connection)
        if head.committed_index is not None:
            try:
                state = _state_at(connection, head.committed_index)
                if state is not None:
                    self.in_force, self.position = state
                    self.apply(self.read(connection))
                    return
            except (LedgerMismatch, KeyError, MalformedEntry) as error:
                structlog.get_logger("ledger").error("ledger.rows_differ", problem=str(error), next="ledger verify")
        self.in_force, self.position = InForce(), EMPTY
        self.apply(self.read(connection))

    def heard_of(self, index: int) -> None:
        """Take it for proven that the entry at an index was signed, and we are behind for as long as we lack it."""
        self._heard_of = max(self._heard_of, index)

    def shown(self, note: str) -> None:
        """Take a checkpoint that a verifier shows: if we have signed it, we must have what is under it."""
        try:
            checkpoint_of = checkpoint.parse(verify_note(note, self._vkey))
        except (InvalidNote, ValueError):
            return  # of another ledger, of an origin that was given up, or nobody's
        passed_over = self.position.next_index - self.position.frontier.size
        if checkpoint_of.size > self.position.frontier.size:
            self.heard_of(checkpoint_of.size + passed_over - 1)

    def refuse_behind(self) -> None:
        """Refuse for as long as somebody has shown us what we lack.

        Raises:
            LedgerMismatch: we are behind.
        """
        if self._heard_of >= self.position.next_index:
            raise LedgerMismatch(
                f"the database is behind: its ledger ends before entry {self.position.next_index}, and a verifier or a "
                f"token has shown entry {self._heard_of}, signed by us"
            )

    def read(self, connection: Connection, start: Position | None = None) -> Tail:
        """Read what has come since `start`, our position, and hold it against the signed head. Nothing is changed.

        Raises:
            LedgerMismatch: the ledger is behind what we have seen, or is another, or its entries were altered.
        """
        start = start or self.position
        head = proofs.newest_head(connection)
        if head.frontier == start.frontier:
            return Tail(start, start, ())
        _refuse_behind(start.frontier, head.frontier)
        self._check_signed(head)
        frontier, next_index, followed = start.frontier, start.next_index, _Effects()
        entries = islice(ledger.entries(connection, start.next_index, _PAGE), head.frontier.size - start.frontier.size)
        while page := list(islice(entries, _PAGE)):
            for entry in page:
                followed.read(entry.index, entry.body, next_index)
                next_index = entry.index + 1
            frontier, _ = frontier.extend([leaf_hash(entry.body) for entry in page])
        if frontier != head.frontier or next_index != head.next_index:
            raise LedgerMismatch(
                f"the ledger's entries from {start.next_index} on are not those that were signed: "
                "they were altered, or another history was put in their place; see `credbroker ledger verify`"
            )
        return Tail(start, Position(frontier, next_index), followed.all(), head.note)

    def follow(self, connection: Connection) -> None:
        """Read and apply what has come, so that we stand where the ledger stood when this began, or beyond it.

        Raises:
            LedgerMismatch: as `read`.
        """
        tail = self.read(connection)
        while not self.apply(tail):  # another thread went on meanwhile, and not as far
            start = self.position
            if start.frontier.size >= tail.end.frontier.size:
                return  # by now it is: what this connection sees of a file is old
            tail = self.read(connection, start)

    def catch_up(self, connection: Connection) -> None:
        """Follow, and refuse what is behind.

        Raises:
            LedgerMismatch: as `read`; or we have been shown what the ledger lacks.
        """
        self.follow(connection)
        self.refuse_behind()

    def apply(self, tail: Tail) -> bool:
        """Go on to the end of a tail; report whether we stand there or beyond it now.

        Raises:
            LedgerMismatch: what is in force is not what the entries commit to.
        """
        with self._lock:
            at = self.position.frontier.size
            if tail.start.frontier.size == at:
                try:
                    self.in_force.apply(tail.effects)
                except CommitmentMismatch as error:
                    raise LedgerMismatch(f"{error}; see `credbroker ledger verify`") from error
                self.position = tail.end
                self.note = tail.note or self.note
                return True
            return tail.end.frontier.size <= at

    def _check_signed(self, head: Head) -> None:
        """Make sure that a head was signed by our key."""
        try:
            signed = checkpoint.parse(verify_note(head.note, self._vkey))
        except (InvalidNote, ValueError) as error:
            raise LedgerMismatch(
                f"the ledger's checkpoint is not signed by the key of this broker, `{self._vkey}`: {error}; "
                "put that ledger's key `checkpoint.pem` into keys.dir, or name another database"
            ) from error
        if signed != Checkpoint(head.origin, head.frontier.size, head.frontier.root()):
            raise LedgerMismatch("the ledger's head is not the one that was signed; see `credbroker ledger verify`")


class _Effects:
    """Collects what `InForce` follows. Of leases in a row the one that ends last is kept, and read alone."""

    def __init__(self) -> None:
        self._all: list[Effect] = []
        self._latest: tuple[int, int, bytes] | None = None  # of the leases since: its end, and its entry

    def read(self, index: int, body: bytes, expected: int) -> None:
        """Read an entry, which is to have the expected index."""
        end = lease_ends.end_of(body) if index == expected else None
        if end is not None:
            self._note(end, index, body)
            return
        for effect in _read_entry(index, body, expected):
            if isinstance(effect, _OF_LEASES):
                self._note(to_micros(effect.lease.expires_at), index, body)
            elif isinstance(effect, _FOLLOWED):
                self.all().append(effect)

    def all(self) -> list[Effect]:
        """List what was collected."""
        if self._latest is not None:
            _, index, body = self._latest
            self._all += [effect for effect in effects(index, body) if isinstance(effect, _OF_LEASES)]
            self._latest = None
        return self._all

    def _note(self, end: int, index: int, body: bytes) -> None:
        if self._latest is None or end > self._latest[0]:
            self._latest = end, index, body


def _read_entry(index: int, body: bytes, expected: int) -> Sequence[Effect]:
    try:
        done = effects(index, body)
    except MalformedEntry as error:
        raise LedgerMismatch(f"{error}; see `credbroker ledger verify`") from error
    adopts = any(isinstance(effect, Adopted) for effect in done)
    if index != expected and not (adopts and index > expected):
        raise LedgerMismatch(f"entry {expected} is missing: the next is {index}; see `credbroker ledger verify`")
    return done


def _refuse_behind(seen: Frontier, head: Frontier) -> None:
    if head.size < seen.size:
        raise LedgerMismatch(
            f"the database is behind: its ledger has {head.size} entries, and this broker has seen and signed "
            f"{seen.size}. An older backup was restored, or another database is in its place. Bring back the newest "
            "one; if it is lost, go on as docs/how-to/restore-a-backup.md says"
        )
    if head.size == seen.size:
        raise LedgerMismatch(
            f"the ledger's {head.size} entries are not those that this broker has signed: the history has forked; "
            "see `credbroker ledger verify` and docs/how-to/restore-a-backup.md"
        )


def _state_at(connection: Connection, index: int) -> tuple[InForce, Position] | None:
    """Take the state before a commitment from the tables, as yet unproven: replaying from there on proves it.

    None, if the entry does not commit to all of it.
    """
    at = ledger.spans(connection)
    leaf, body = at.leaf_of(index), ledger.fetch(connection, [index]).get(index)
    committed = next((effect for effect in _effects_of(index, body) if isinstance(effect, Commitment)), None)
    if leaf is None or committed is None:
        raise LedgerMismatch(f"entry {index} commits to nothing")
    if committed.keys is None:
        return None
    state = InForce.before(
        committed,
        rules.kept(connection, committed.horizon, index),
        locks.active_before(connection, committed.horizon, index),
        _announced_at(connection, committed.keys_index),
    )
    return state, Position(proofs.frontier_at(connection, leaf), index)


def _announced_at(connection: Connection, index: int) -> KeysAnnounced:
    announced = _effects_of(index, ledger.fetch(connection, [index]).get(index))
    return next((effect for effect in announced if isinstance(effect, KeysAnnounced)), KeysAnnounced(-1))


def _effects_of(index: int, body: bytes | None) -> Iterator[Effect]:
    yield from () if body is None else effects(index, body)
