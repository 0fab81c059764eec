"""What must hold before a broker writes on in a ledger that it finds: it is ours, whole, and signed by our key."""

from __future__ import annotations

import json

from sqlalchemy import Connection

from broker.audit import checkpoint
from broker.audit.checkpoint import Checkpoint
from broker.audit.note import InvalidNote, VerifierKey, verify_note
from broker.model.entry import Kind
from broker.store import ledger


class LedgerMismatch(Exception):
    """The database's ledger cannot be extended. The message says why and what to do."""


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
