"""The daemon: the only place that chooses implementations, and brings them up and down in order."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import structlog
from google.protobuf.descriptor import ServiceDescriptor

from broker.api import descriptors
from broker.api.agents import AgentService
from broker.api.auditors import AuditorService
from broker.api.feed import Feed
from broker.api.operators import OperatorService
from broker.api.orchestrators import OrchestratorService
from broker.api.pipeline import Pipeline
from broker.api.server import Server
from broker.api.tls import server_credentials
from broker.api.verifiers import VerifierService
from broker.audit.note import NoteSigner
from broker.config.identity import IdentitySettings
from broker.config.settings import ListenSettings, Settings
from broker.credential import keyfiles
from broker.credential.keyfiles import Keys
from broker.credential.keys import KeySet
from broker.credential.replays import Replays
from broker.identity.bundles import TrustBundles
from broker.identity.directory import Directory
from broker.identity.jwt import JwtAuthenticator
from broker.identity.x509 import Authenticator
from broker.jobs.schedule import Schedule
from broker.lease import announce
from broker.lease.desk import Desk, TaskCache
from broker.model.clock import Clock, system_clock, uuid7, uuid7_in_bulk
from broker.policy import bundle
from broker.policy.engine import Policy
from broker.store import migrate
from broker.store.database import Database, open_database
from broker.store.writer import Committed, Writer
from broker.trust.callers import Callers
from broker.trust.files import SvidFiles
from broker.trust.key_sets import KeySets
from broker.trust.source import SvidSource

_DRAIN_SECONDS = 10.0
_REFRESH_SECONDS = 1.0
_GC_ALLOCATIONS = (
    50_000  # requests leave hardly any cycles behind: looking for them as often as by default costs a fifth
)


class KeyRoom:
    """The keys in use, and their rotation."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Read the keys."""
        self._settings = settings.keys
        self._longest_token = settings.limits.lifetime
        self._clock = clock
        self.keys: Keys = keyfiles.open_keys(settings.keys.directory)

    def published(self) -> KeySet:
        """Give the public keys that verify tokens now."""
        return self.keys.published()

    async def rotate(self) -> bool:
        """Publish the next key when it is time, and drop those whose last token is dead; tell whether any changed.

        What another broker or an operator has done to the folder counts as well.
        """
        before = self.keys.keyring
        self.keys = await asyncio.to_thread(self._rotated)
        return self.keys.keyring != before

    def kids(self) -> list[str]:
        """List the ids of the published keys."""
        return [life.kid for life in self.keys.keyring.lives]

    def _rotated(self) -> Keys:
        now, directory = self._clock(), self._settings.directory
        keys = keyfiles.drop_gone(directory, keyfiles.open_keys(directory), now, self._longest_token)
        if keys.keyring.wants_next(now, self._settings.rotation, self._settings.lead):
            keys = keyfiles.publish_next(directory, keys, now + self._settings.lead)
        return keys


@dataclass(frozen=True, slots=True)
class Ready:
    """Where a broker serves: the ports of its listeners, as far as it has them; and the checkpoints' verifier key."""

    port: int
    jwt_port: int | None
    http_port: int | None
    vkey: str


async def serve(settings: Settings, ready: Callable[[Ready], None], clock: Clock = system_clock) -> None:
    """Run a broker until SIGTERM or SIGINT, then drain.

    Raises:
        SvidFileError, KeyFileError, BundleError, DatabaseProblem, LedgerMismatch, Refusal: it cannot start.
    """
    gc.set_threshold(_GC_ALLOCATIONS, 50, 50)
    stop = _stop_signal()
    source = await asyncio.to_thread(_source, settings.identity, clock)
    prepare = migrate.upgrade if settings.migrate else migrate.require_newest
    await asyncio.to_thread(prepare, settings.database_url)
    async with AsyncExitStack() as stack:
        database = open_database(settings.database_url)
        stack.callback(database.close)
        feed = Feed(database, clock, uuid7)
        keys = KeyRoom(settings, clock)
        cache = TaskCache(database)

        def committed(change: Committed) -> None:
            cache.update(change.tasks)
            if change.rules:
                feed.wake()

        signer = NoteSigner(settings.origin, keys.keys.checkpoint)
        writer = Writer(database, settings.origin, signer, clock, committed)
        writer.start()
        stack.push_async_callback(writer.stop)
        desk = _desk(settings, clock, database, writer, cache, keys)
        await announce.policy_activated(desk)
        key_sets = KeySets(settings.identity.issuers)
        await stack.enter_async_context(key_sets.kept_fresh())
        callers = _callers(settings.identity, source, desk, key_sets)
        server = _server(settings.listen, source, callers, feed, keys, str(signer.vkey))
        schedule = Schedule(desk, partial(_rotate, keys, feed, desk))
        schedule.start()
        stack.callback(schedule.stop)
        for work in (feed.run(), _refresh(source)):
            stack.callback(asyncio.create_task(work).cancel)
        await server.start()
        ready(Ready(server.port, server.jwt_port, None, str(signer.vkey)))
        await _drain_at(stop, server, feed)


async def _drain_at(stop: asyncio.Event, server: Server, feed: Feed) -> None:
    log = structlog.get_logger("daemon")
    log.info("daemon.ready", port=server.port)
    await stop.wait()
    log.info("daemon.draining")
    feed.close()
    await server.stop(_DRAIN_SECONDS)


async def _rotate(keys: KeyRoom, feed: Feed, desk: Desk) -> None:
    if await keys.rotate():
        structlog.get_logger("keys").info("keys.rotated", published=keys.kids())
        feed.keys_changed()
        await announce.keys_rotated(desk, keys.kids())


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _desk(
    settings: Settings, clock: Clock, database: Database, writer: Writer, cache: TaskCache, keys: KeyRoom
) -> Desk:
    policy = Policy(bundle.load(settings.policy_bundle))
    return Desk(
        clock=clock,
        ids=uuid7_in_bulk(),
        salts=lambda: os.urandom(32),
        database=database,
        ledger=writer,
        tasks=cache,
        policy=lambda: policy,
        signer=lambda: keys.keys.signer(clock()),
        issuer=settings.issuer,
        limits=settings.limits,
    )


def _source(settings: IdentitySettings, clock: Clock) -> SvidSource:
    if settings.svid_dir is not None:
        return SvidFiles(settings.svid_dir, settings.bundles, settings.jwt_bundles)
    from broker.trust.workload_api import WorkloadApi  # noqa: PLC0415 (its package is an extra)

    return WorkloadApi(settings.workload_api, clock)


def _callers(settings: IdentitySettings, source: SvidSource, desk: Desk, key_sets: KeySets) -> Callers:
    directory = Directory(settings.rules, settings.denied)

    def bundles() -> TrustBundles:
        return source.material.bundles

    return Callers(
        desk=desk,
        certificates=Authenticator(bundles, directory),
        tokens=JwtAuthenticator(key_sets.issuers, key_sets.current, bundles, settings.audience, directory),
        key_sets=key_sets,
        replays=Replays(),
    )


def _server(
    settings: ListenSettings, source: SvidSource, callers: Callers, feed: Feed, keys: KeyRoom, vkey: str
) -> Server:
    desk = callers.desk
    services: dict[ServiceDescriptor, object] = {
        descriptors.AGENT: AgentService(desk),
        descriptors.ORCHESTRATOR: OrchestratorService(desk, feed),
        descriptors.OPERATOR: OperatorService(desk, feed),
        descriptors.VERIFIER: VerifierService(desk, feed, keys.published),
        descriptors.AUDITOR: AuditorService(desk, vkey),
    }
    mutual = (settings.address, server_credentials(source, mutual=True))
    for_tokens = None
    if settings.jwt_address is not None:
        for_tokens = (settings.jwt_address, server_credentials(source, mutual=False))
    return Server(mutual, Pipeline(desk, callers), services, for_tokens)


async def _refresh(source: SvidSource) -> None:
    """Look for rotated certificates and changed roots."""
    log = structlog.get_logger("identity")
    problem: str | None = None
    while True:
        await asyncio.sleep(_REFRESH_SECONDS)
        if await asyncio.to_thread(source.refresh):
            log.info("identity.refreshed", generation=source.material.generation)
        if source.problem != problem:
            problem = source.problem
            if problem:
                log.error("identity.not_refreshed", problem=problem)
