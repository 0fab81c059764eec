"""Opening the ledger: start it, or write on in what is there, if that is ours, whole, and signed by our key."""

from __future__ import annotations

import json

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from broker.audit import checkpoint
from broker.audit.checkpoint import Checkpoint
from broker.audit.note import InvalidNote, NoteSigner, VerifierKey, verify_note
from broker.audit.tree import Frontier
from broker.model.clock import Clock
from broker.model.entry import Entry, Kind
from broker.store import ledger
from broker.store.database import Database
from broker.store.transaction import Known, Transaction


class LedgerMismatch(Exception):
    """The database's ledger cannot be extended. The message says why and what to do."""


def open_ledger(database: Database, origin: str, signer: NoteSigner, clock: Clock) -> None:
    """Find the ledger, or start it.

    Raises:
        LedgerMismatch: the database holds another ledger, one of another key, or a damaged one.
    """
    with database.transaction() as connection:
        if ledger.head(connection) is None:
            _start(connection, origin, signer, clock)
        ledger.lock_head(connection)  # what is read from here on belongs together, whoever writes meanwhile
        head = ledger.head(connection)
        assert head is not None  # noqa: S101 (it is locked)
        check(connection, head, origin, signer.vkey)


def note(origin: str, signer: NoteSigner, frontier: Frontier) -> str:
    """Sign the checkpoint of a frontier."""
    return signer.sign(checkpoint.format(Checkpoint(origin, frontier.size, frontier.root())))


def check(connection: Connection, head: ledger.Head, origin: str, ours: VerifierKey) -> None:
    """Hold the ledger that is there against what we would write on.

    Raises:
        LedgerMismatch: it is another one, of another key, or has lost entries.
    """
    if head.origin != origin:
        msg = f"the database holds the ledger `{head.origin}`, not `{origin}`: set ledger.origin to match"
        raise LedgerMismatch(msg)
    _check_key(connection, head, ours)
    entries = ledger.count_entries(connection)
    expected = checkpoint.format(Checkpoint(origin, head.frontier.size, head.frontier.root()))
    if entries != head.frontier.size or not head.note.startswith(expected):
        msg = f"the ledger is damaged: {entries} entries under a head of {head.frontier.size}; see `ledger verify`"
        raise LedgerMismatch(msg)


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


def _start(connection: Connection, origin: str, signer: NoteSigner, clock: Clock) -> None:
    """Make the head and the first entry, unless another broker that starts now has just done so."""
    empty = Known(Frontier.empty())
    try:
        with connection.begin_nested():
            ledger.start(connection, origin, note(origin, signer, empty.frontier))
    except IntegrityError:
        return
    transaction = Transaction(connection, clock(), empty)
    transaction.record(
        Entry(
            kind=Kind.LEDGER_STARTED,
            at=transaction.at,
            tenant="",
            effected={"origin": origin, "vkey": str(signer.vkey)},
        )
    )
    frontier = transaction.write().frontier
    ledger.advance(connection, 0, frontier, note(origin, signer, frontier))


def _check_key(connection: Connection, head: ledger.Head, ours: VerifierKey) -> None:
    """Refuse to sign beside another key: a ledger has one key for life, and would never verify again."""
    theirs = named_key(connection)
    if theirs is not None and theirs != ours:
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
