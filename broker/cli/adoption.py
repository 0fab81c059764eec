"""Adopting a ledger, as `credbroker ledger adopt` does it: keys, ledger and mark, in this order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import click

from broker.audit.effects import AnnouncedKey, KeysAnnounced
from broker.audit.note import NoteSigner
from broker.cli.failure import Stop
from broker.cli.output import note
from broker.config.settings import Settings, load
from broker.keystore.announcing import announce
from broker.keystore.folder import Keys, open_keys, replace_token_keys
from broker.store import adoption
from broker.store.database import Database, plain_problems
from broker.store.marks import Marks, read_note
from broker.store.ready import ready_database
from broker.system import system_clock, uuid7


def run(config: Path, reason: str, kept: Sequence[Path], *, sure: bool) -> dict[str, object]:
    """Adopt the ledger of a configuration, whose brokers do not run; return what it is now.

    A crash leaves a ledger that is not adopted, and fewer keys: doing it again goes on.

    Raises:
        Stop: it cannot be adopted, or is not to be.
    """
    with plain_problems():
        settings = load(config)
        with ready_database(settings.database_url) as database:
            return _adopt(database, settings, reason, kept, sure=sure)


def _adopt(
    database: Database, settings: Settings, reason: str, kept: Sequence[Path], *, sure: bool
) -> dict[str, object]:
    signer = NoteSigner(settings.origin, open_keys(settings.keys.directory).checkpoint)
    marks = Marks(settings.mark_dirs, signer.vkey)
    mark = marks.read()
    known = [read_note(path, signer.vkey) for path in kept] + ([] if mark is None else [mark])
    intended = database.read_now(lambda connection: adoption.plan(connection, signer, known))
    note(
        f"the ledger `{intended.previous_origin}` is left with {intended.previous_size} entries, and entry "
        f"{intended.highest} is the highest known; it goes on as `{signer.name}` at {intended.first_index}. Every "
        "credential is withdrawn, every task ended, and everything locked."
    )
    if not sure and not click.confirm("Adopt it?", err=True):
        raise Stop("nothing was done")
    keys = replace_token_keys(settings.keys.directory, system_clock())  # before the ledger says so: they only get fewer
    announced = _announced(keys, settings)
    head = adoption.adopt(database, signer, known, reason, announced, system_clock, uuid7)
    marks.write(head.note)
    return {
        "origin": head.origin,
        "vkey": str(signer.vkey),
        "first_index": intended.first_index,
        "size": head.frontier.size,
        "previous_origin": intended.previous_origin,
        "previous_size": intended.previous_size,
    }


def _announced(keys: Keys, settings: Settings) -> Sequence[AnnouncedKey]:
    """Return how the keys are announced: as the first ones, since no verifier is fresh."""
    now = system_clock()
    announced = announce(KeysAnnounced(-1), keys.own(), settings.rotation(timedelta()), 0, now, now)
    return () if announced is None else announced.keys
