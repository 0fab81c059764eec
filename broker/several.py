"""Several processes that serve as one broker: workers on one database and at one port, and the parent of them all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

import grpc

from broker import daemon
from broker.audit.note import NoteSigner
from broker.config import policy_bundle
from broker.config.listening import doors_of, held
from broker.config.settings import Settings
from broker.daemon import Worker
from broker.doors import Ready
from broker.keystore.folder import open_keys
from broker.model.clock import Clock
from broker.store.beside import open_register
from broker.store.database import open_database
from broker.store.ready import held_database
from broker.store.turns import Turns
from broker.system import boot_id, system_clock
from broker.workers.neighbours import Neighbours
from broker.workers.parent import Parent


def run(
    settings: Settings,
    ready: Callable[[Ready], None],
    workers: int,
    clock: Clock = system_clock,
    also: Sequence[grpc.GenericRpcHandler] = (),
) -> None:
    """Run a broker in so many processes, forks of this one, which keeps them alive; else as `daemon.run`.

    `ready` is called here, when all of them serve. What they have in common is looked at before there are any, so that
    what is wrong with it is said once.

    Raises:
        CannotStart, Refusal, PartEnded: as `daemon.serve`.
        WorkersEnded: they cannot be kept alive.
    """
    daemon.prepare_process()
    bundle = policy_bundle.load(settings.policy_bundle)
    vkey = str(NoteSigner(settings.origin, open_keys(settings.keys.directory).checkpoint).vkey)
    with held(settings.listen) as listen, held_database(settings.database_url, upgrade=settings.migrate):
        knows_all, turns = _register(settings.database_url)
        settings = replace(settings, listen=listen)
        line = Parent(workers, lambda: ready(_ready(settings, vkey))).run()
        if line is None:
            return  # in the parent, when all have ended
        worker = Worker(Neighbours(line), turns, bundle, knows_all)
        serving = daemon.serve(settings, lambda _: line.serves(), clock, also, daemon.bound_the_end, worker)
        asyncio.run(serving)


def _register(url: str) -> tuple[bool, Turns | None]:
    """Make the register of the workers on a file; report whether it is complete, and return their turns."""
    with closing(open_database(url)) as database:
        register, is_complete = open_register(database, boot_id())
        register.close()
        return is_complete, None if database.is_remote else Turns()


def _ready(settings: Settings, vkey: str) -> Ready:
    ports = {key.removeprefix("listen."): int(address.rpartition(":")[2]) for key, address in doors_of(settings.listen)}
    return Ready(ports["address"], ports.get("jwt_address"), ports.get("http_address"), vkey)
