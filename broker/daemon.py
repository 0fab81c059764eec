"""The daemon: the only place that chooses implementations, brings them up and down in order, and watches them run."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version

import grpc

from broker import logs
from broker.access.authentication import Authentication
from broker.access.lanes import Strangers
from broker.audit.note import NoteSigner, VerifierKey
from broker.config import policy_bundle
from broker.config.identity import IdentitySettings
from broker.config.listening import check_all_free
from broker.config.settings import Settings
from broker.credential.replays import Replays
from broker.doors import Ready, make_doors
from broker.identity.directory import Directory
from broker.identity.jwt import JwtAuthenticator
from broker.identity.trust_bundles import TrustBundles
from broker.identity.x509 import Authenticator
from broker.jobs import checkpoint_copy
from broker.jobs.checkpoint_copy import CheckpointCopy
from broker.jobs.effects import Doer, EffectRunner
from broker.jobs.refresh import refresh
from broker.jobs.rotate import rotate
from broker.jobs.schedule import Schedule
from broker.jobs.supervisor import Supervisor
from broker.keystore.rotation import Keystore
from broker.keystore.signing import TokenKeys
from broker.lease import activation
from broker.lease.desk import Desk, TaskCache
from broker.lease.lookup import LeaseLookup
from broker.model.clock import Clock
from broker.policy.bundle import PolicyBundle
from broker.policy.engine import Policy
from broker.revocation.feed import FRESHNESS, Feed
from broker.revocation.membership import Place
from broker.store.beside import open_register
from broker.store.committer import Committed
from broker.store.database import Database, open_database
from broker.store.follower import Follower
from broker.store.marks import Marks
from broker.store.ready import ready_database
from broker.store.reserve import Reserve
from broker.store.turns import Turns
from broker.store.writer import Writer
from broker.system import boot_id, boottime, system_clock, uuid7, uuid7_in_bulk
from broker.trust.files import SvidFileSource
from broker.trust.issuer_keys import TrustedIssuers
from broker.trust.source import SvidSource
from broker.workers.neighbours import Ears, Neighbours

_END_WITHIN_SECONDS = 60.0
# Windows of freshness after which no verifier is fresh that lacks what an entry says: a window, and as much as clocks
# may differ in it.
_SPREAD = 1.01
_SECRET_BYTES = 32
_NAME_BYTES = 255
# Requests leave hardly any cycles behind: looking for them as often as by default costs a fifth.
_GC_ALLOCATIONS = 50_000


@dataclass(frozen=True, slots=True)
class _Ledger:
    """The database, who signs its ledger, and what is remembered of it: in memory, and beside the keys."""

    database: Database
    signer: NoteSigner
    follower: Follower
    marks: Marks


@dataclass(frozen=True, slots=True)
class Worker:
    """What one of several processes that serve as one broker is given, once for all of them.

    `knows_all`: their register is complete, as `revocation.membership.Place` has it.
    """

    neighbours: Neighbours
    turns: Turns | None
    bundle: PolicyBundle
    knows_all: bool

    def join(self, parts: Supervisor, feed: Feed) -> None:
        """Listen to the others, and tell them what they cannot read."""
        feed.tell_withheld = self.neighbours.withhold
        parts.start(
            "neighbours", self.neighbours.run(Ears(feed.told, feed.withhold_here, feed.withheld.waiting, parts.stop))
        )


def run(
    settings: Settings,
    ready: Callable[[Ready], None],
    clock: Clock = system_clock,
    also: Sequence[grpc.GenericRpcHandler] = (),
) -> None:
    """Run a broker in a process of its own: `serve`, with logs to stderr, and an end that is bounded.

    However it ends, and whatever hangs then, the process lives for a minute longer at most: it then says where each of
    its threads stands, and exits with 1.

    Raises:
        CannotStart, Refusal, PartEnded: as `serve`.
    """
    prepare_process()
    asyncio.run(serve(settings, ready, clock, also, over=bound_the_end))


def prepare_process() -> None:
    """Set this process up, with all that it needs imported: it is a broker's, or forks some that are."""
    logs.configure()
    gc.freeze()  # what is imported stays: neither collections nor the end of the process need look at it
    gc.set_threshold(_GC_ALLOCATIONS, 50, 50)


def bound_the_end() -> None:
    """Have the process end in time. A thread that waits for a disk cannot be told to stop, and would be waited for."""
    faulthandler.dump_traceback_later(_END_WITHIN_SECONDS, exit=True)


async def serve(
    settings: Settings,
    ready: Callable[[Ready], None],
    clock: Clock = system_clock,
    also: Sequence[grpc.GenericRpcHandler] = (),
    over: Callable[[], None] = lambda: None,
    worker: Worker | None = None,
) -> None:
    """Run a broker until SIGTERM or SIGINT, then drain. `also` is served beside its own services, to anybody.

    `ready` is called when it serves, `over` when it is to serve no longer, for whatever reason. A `worker` is one of
    several processes that do, and finds ready what they have in common.

    Raises:
        CannotStart, Refusal: it cannot start.
        PartEnded: a part that must live as long as the daemon has ended.
    """
    if worker is None:
        check_all_free(settings.listen)
    async with AsyncExitStack() as stack:  # what is entered or pushed here ends in reverse
        parts = await _supervision(stack, over)
        source = await _source(stack, settings.identity, clock)
        keystore = Keystore(settings.keys.directory, settings.rotation(FRESHNESS * _SPREAD), clock)
        ledger = await _ledger(stack, settings, keystore, worker)
        keys = TokenKeys(keystore, lambda: ledger.follower.in_force.announced, boottime)
        place = await _place(settings, ledger.database, worker)
        feed = Feed(ledger.database, ledger.follower, place, boottime, uuid7, partial(os.urandom, _SECRET_BYTES))
        parts.when_over(feed.close)  # at once: whatever is wrong may keep it from hearing of revocations
        desk = await _desk(stack, parts, settings, clock, ledger, keys, feed, worker)
        stack.push_async_callback(parts.dismiss)
        authentication = _authentication(settings.identity, source, desk)
        kept = (keys, str(ledger.signer.vkey))
        doors = make_doors(settings.listen, source, authentication, feed, *kept, also, together=worker is not None)
        for name, part in feed.parts().items():
            parts.start(name, part)
        if worker is not None:
            worker.join(parts, feed)
        parts.start("marks", ledger.marks.run())
        parts.start("identity", refresh(source, clock, doors.renew))
        parts.start("issuers", authentication.issuers.run())
        parts.start("health", doors.health.run())
        parts.start("probe", desk.ledger.probe())
        parts.start("effects", _effects(settings, desk, ledger.signer.vkey).run())
        parts.start("schedule", Schedule(desk, partial(rotate, keys, feed, desk)).run())
        stack.push_async_callback(doors.close)
        ready(await doors.open(parts))
        await parts.wait()


async def _supervision(stack: AsyncExitStack, over: Callable[[], None]) -> Supervisor:
    parts = await stack.enter_async_context(Supervisor())
    parts.when_over(over)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, parts.stop)
    return parts


async def _source(stack: AsyncExitStack, settings: IdentitySettings, clock: Clock) -> SvidSource:
    if settings.svid_dir is not None:
        files = SvidFileSource(settings.svid_dir, settings.trust_bundles, settings.jwt_bundles)
        files.check_time(clock())
        return files
    from broker.trust.workload_api import WorkloadApi  # noqa: PLC0415 (its package is an extra)

    return stack.enter_context(closing(await asyncio.to_thread(WorkloadApi, settings.workload_api, clock)))


async def _ledger(stack: AsyncExitStack, settings: Settings, keystore: Keystore, worker: Worker | None) -> _Ledger:
    ready: AbstractContextManager[Database] = (
        ready_database(settings.database_url, upgrade=settings.migrate)
        if worker is None
        else closing(open_database(settings.database_url, turns=worker.turns))
    )
    database = await asyncio.to_thread(stack.enter_context, ready)  # it may wait, and we may be told to stop meanwhile
    signer = NoteSigner(settings.origin, keystore.checkpoint)
    return _Ledger(database, signer, Follower(signer.vkey), Marks(settings.mark_dirs, signer.vkey))


async def _place(settings: Settings, database: Database, worker: Worker | None) -> Place:
    """Open the register of the brokers on the database."""
    register, is_complete = await asyncio.to_thread(open_register, database, boot_id())
    place = Place(
        database=register,
        name=f"{socket.gethostname()}:{settings.listen.address}"[:_NAME_BYTES],
        version=version("credbroker"),
        is_shared=database.is_shared,
        is_complete=is_complete,
    )
    return place if worker is None else replace(place, is_complete=worker.knows_all, tell=worker.neighbours.wake)


async def _desk(
    stack: AsyncExitStack,
    parts: Supervisor,
    settings: Settings,
    clock: Clock,
    ledger: _Ledger,
    keys: TokenKeys,
    feed: Feed,
    worker: Worker | None,
) -> Desk:
    """Lay the desk out, with a ledger writer at work."""
    policy = Policy(policy_bundle.load(settings.policy_bundle) if worker is None else worker.bundle)
    database, tasks = ledger.database, TaskCache(ledger.database)
    committed = _telling(tasks, feed, worker)
    kept = (Reserve.beside(database), ledger.follower, ledger.marks)
    asks = () if settings.copy_checkpoints_to is None else (checkpoint_copy.ask,)
    writer = Writer(database, settings.origin, ledger.signer, clock, committed, *kept, asks)
    parts.watch(writer.start())
    stack.push_async_callback(writer.stop)
    desk = Desk(
        clock=clock,
        ids=uuid7_in_bulk(),
        salts=lambda: os.urandom(32),
        database=database,
        ledger=writer,
        tasks=tasks,
        leases=LeaseLookup(database),
        policy=lambda: policy,
        signer=keys.signer,
        issuer=settings.issuer,
        limits=settings.limits,
        rules=settings.identity.rules,
        withheld=feed.withheld,
    )
    await activation.policy_activated(desk)
    await activation.keys_announced(desk, keys)
    return desk


def _telling(tasks: TaskCache, feed: Feed, worker: Worker | None) -> Callable[[Committed], None]:
    """Return what tells of a commit whoever keeps copies of what it has changed."""

    def committed(change: Committed) -> None:
        tasks.update(change.tasks)
        if change.rules:
            feed.wake()
            if worker is not None:
                worker.neighbours.wake()

    return committed


def _effects(settings: Settings, desk: Desk, vkey: VerifierKey) -> EffectRunner:
    """Name who does the effects outside the database, by kind."""
    doers: dict[str, Doer] = {}
    if settings.copy_checkpoints_to is not None:
        doers[checkpoint_copy.KIND] = CheckpointCopy(settings.copy_checkpoints_to, desk.database, vkey).do
    return EffectRunner(desk.ledger, desk.database, desk.clock, doers)


def _authentication(settings: IdentitySettings, source: SvidSource, desk: Desk) -> Authentication:
    directory = Directory(settings.rules, settings.denied)
    trusted = TrustedIssuers(settings.issuers, time.monotonic)

    def bundles() -> TrustBundles:
        return source.material.trust_bundles

    return Authentication(
        desk=desk,
        source=source,
        certificates=Authenticator(bundles, directory),
        tokens=JwtAuthenticator(trusted.issuers, trusted.current, bundles, settings.audience, directory),
        issuers=trusted,
        replays=Replays(),
        strangers=Strangers(),
    )
