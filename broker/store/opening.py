"""Opening the ledger: start it, or write on in what is there, if that is ours, whole, and signed by our key."""

from __future__ import annotations

import json

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from broker.audit import checkpoint
from broker.audit.checkpoint import Checkpoint
from broker.audit.effects import Adopted
from broker.audit.in_force import InForce
from broker.audit.note import InvalidNote, NoteSigner, VerifierKey, verify_note
from broker.audit.proof import verify_consistency
from broker.audit.readings import effects
from broker.model.clock import Clock
from broker.model.entry import Entry, Kind
from broker.store import ledger, proofs
from broker.store.database import Database
from broker.store.derived import Derivation
from broker.store.follower import EMPTY, Follower, Position
from broker.store.ledger import Head, LedgerMismatch, Span
from broker.store.marks import Marks
from broker.store.provenance import Proven, proven
from broker.store.transaction import HeadState, Transaction

RESTORED = (
    "Bring the newest database back; if it is lost, go on from what there is, as docs/how-to/restore-a-backup.md says"
)


def open_ledger(
    database: Database, origin: str, signer: NoteSigner, clock: Clock, follower: Follower, marks: Marks
) -> None:
    """Find the ledger, or start it; let `follower` take up where it stands, and hold it against our own mark.

    Raises:
        LedgerMismatch: the database holds another ledger, one of another key, a damaged one, or one that is behind.
    """
    with database.transaction() as connection:
        if ledger.head(connection) is None:
            _refuse_lost(marks.read())
            # A crash from here on leaves a mark, and not one that is ahead.
            marks.write(signed_head(origin, signer, EMPTY, None).note)
            _start(connection, origin, signer, clock)
        ledger.lock_head(connection)  # what is read from here on belongs together, whoever writes meanwhile
        head, mark = _head(connection, origin, signer.vkey), marks.read()
        follower.open(connection)
        if follower.in_force.committed is None:
            derive(connection)  # an older version wrote these tables; from the next entry on marks are kept
        elif mark is None and marks.are_kept:
            raise LedgerMismatch(f"{marks.missing()} {RESTORED}")
        if mark is not None:
            hold_against(connection, mark, head)
    marks.write(head.note)


def check(connection: Connection, origin: str, ours: VerifierKey, marks: Marks) -> Head | None:
    """Look whether a broker could write on here, changing nothing; return the head, None if there is no ledger yet.

    Raises:
        LedgerMismatch: as `open_ledger`.
    """
    if ledger.head(connection) is None:
        _refuse_lost(marks.read())
        return None
    head, mark = _head(connection, origin, ours), marks.read()
    if mark is None and head.committed_index is not None:
        raise LedgerMismatch(f"{marks.missing()} {RESTORED}")
    if mark is not None:
        hold_against(connection, mark, head)
    return head


def signed_head(origin: str, signer: NoteSigner, position: Position, committed_index: int | None) -> Head:
    """Make the head of a position, with its checkpoint signed."""
    frontier = position.frontier
    return Head(
        origin=origin,
        frontier=frontier,
        next_index=position.next_index,
        note=signer.sign(checkpoint.format(Checkpoint(origin, frontier.size, frontier.root()))),
        committed_index=committed_index,
    )


def head_beyond(connection: Connection, mark: Checkpoint | None) -> Head:
    """Return the newest head, which goes on from `mark`: what we have signed before, None if that is not known.

    Raises:
        LedgerMismatch: it does not.
    """
    head = proofs.newest_head(connection)
    if mark is not None:
        hold_against(connection, mark, head)
    return head


def hold_against(connection: Connection, mark: Checkpoint, head: Head) -> None:
    """Make sure that the ledger under a head, which we have signed, goes on from what we have signed before.

    Raises:
        LedgerMismatch: it does not.
    """
    spans = ledger.spans(connection).spans
    place = next((place for place, span in enumerate(spans) if span.origin == mark.origin), None)
    if place is None:
        raise LedgerMismatch(f"the mark is of the ledger `{mark.origin}`, and the database holds `{head.origin}`")
    following = spans[place + 1] if place + 1 < len(spans) else None
    if following is not None and mark.size > following.first_leaf:
        _hold_against_adoption(connection, mark, head, spans[place], following)
    elif mark.size > head.frontier.size:
        raise LedgerMismatch(
            f"the database is behind: its ledger has {head.frontier.size} entries, and this broker has signed "
            f"{mark.size}. {RESTORED}"
        )
    elif mark.size and not _leads_to(connection, mark, head):
        raise LedgerMismatch(
            f"the ledger's first {mark.size} entries are not those that this broker has signed: the history has "
            f"forked. {RESTORED}"
        )


def named_key(connection: Connection) -> VerifierKey | None:
    """Take the key that the first entry names; None if it names none.

    It proves that the ledger agrees with itself, and nothing more.
    """
    first = ledger.entry(connection, 0)
    try:
        body = json.loads(first.body) if first is not None else {}
        if body["kind"] != Kind.LEDGER_STARTED.value:
            return None
        return VerifierKey.parse(str(body["effected"]["vkey"]))
    except (ValueError, KeyError, TypeError, RecursionError):  # an invalid note is a ValueError
        return None


def _refuse_lost(mark: Checkpoint | None) -> None:
    """Start no ledger where one was: its file was deleted, or another database is in its place."""
    if mark is not None and mark.size:
        raise LedgerMismatch(
            f"the database holds no ledger, and this broker has signed {mark.size} entries of `{mark.origin}`: its "
            f"file was deleted, or database.url names another. {RESTORED}"
        )


def _head(connection: Connection, origin: str, ours: VerifierKey) -> Head:
    """Read the head, which is of the ledger that we would write on, and signed by our key."""
    head = ledger.head(connection)
    assert head is not None  # noqa: S101 (it is locked)
    if head.origin != origin:
        raise LedgerMismatch(
            f"the database holds the ledger `{head.origin}`, not `{origin}`: set ledger.origin to match"
        )
    _check_key(connection, head, ours)
    if ledger.last_index(connection) + 1 != head.next_index:
        raise LedgerMismatch(
            f"the ledger is damaged: its last entry is {ledger.last_index(connection)}, and its head stands before "
            f"{head.next_index}; see `ledger verify`"
        )
    return head


def derive(connection: Connection) -> None:
    """Make the tables anew from the entries."""
    derivation = Derivation(connection)
    derivation.clear()
    for entry in ledger.entries(connection):
        derivation.apply(entry.index, effects(entry.index, entry.body))
    derivation.flush()


def _hold_against_adoption(connection: Connection, mark: Checkpoint, head: Head, own: Span, following: Span) -> None:
    """Let go what we have signed beyond an adopted head, if the adoption disowns all of it."""
    highest = own.first_index + mark.size - own.first_leaf - 1
    following_effects = proven(connection, head.frontier, [following.first_index]).get(following.first_index, ())
    adopted = any(isinstance(effect, Adopted) and effect.previous_origin == mark.origin for effect in following_effects)
    if not adopted or following.first_index <= highest:
        raise LedgerMismatch(
            f"this broker has signed entry {highest} of `{mark.origin}`, and the ledger was adopted without it, going "
            f"on at {following.first_index}. {RESTORED}"
        )


def _leads_to(connection: Connection, mark: Checkpoint, head: Head) -> bool:
    """Report whether the tree of a mark is a prefix of the head's, by stored nodes that need not be believed."""
    try:
        consistency = proofs.prove_consistency(connection, mark.size)
    except KeyError:
        return False
    return consistency is not None and verify_consistency(
        mark.size, head.frontier.size, mark.root, head.frontier.root(), consistency.hashes
    )


def _start(connection: Connection, origin: str, signer: NoteSigner, clock: Clock) -> None:
    """Make the head and the first entry, unless another broker that starts now has just done so."""
    try:
        with connection.begin_nested():
            ledger.start(connection, origin, signed_head(origin, signer, EMPTY, None).note)
    except IntegrityError:
        return
    in_force = InForce()
    commitment = in_force.commitment(0, in_force.horizon)
    in_force.committed = commitment.index
    transaction = Transaction(connection, clock(), HeadState(EMPTY), in_force, Proven())
    transaction.record(
        Entry(
            kind=Kind.LEDGER_STARTED,
            at=transaction.at,
            tenant="",
            effected={"origin": origin, "vkey": str(signer.vkey), **commitment.facts()},
        )
    )
    head, _ = transaction.write(in_force.horizon)
    ledger.advance(connection, 0, signed_head(origin, signer, head.position, commitment.index))


def _check_key(connection: Connection, head: ledger.Head, ours: VerifierKey) -> None:
    """Refuse to sign beside another key: a ledger has one key for life, and would never verify again."""
    theirs = named_key(connection)
    if theirs is not None and theirs.public != ours.public:
        msg = (
            f"the ledger is signed by the key `{theirs}`, and the checkpoint key in keys.dir is `{ours}`: give it the "
            "`checkpoint.pem` that began this ledger, or another database"
        )
        raise LedgerMismatch(msg)
    try:
        verify_note(head.note, ours)
    except InvalidNote as error:
        msg = f"the ledger's head does not verify by the checkpoint key in keys.dir, `{ours}`: {error}"
        raise LedgerMismatch(msg) from error
