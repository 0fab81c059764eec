"""The daemon: the only place that chooses implementations, and brings them up and down in order."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor

from broker.access.authentication import Authentication
from broker.access.refusals import Refusals
from broker.api import descriptors
from broker.api.agents import AgentService
from broker.api.auditors import AuditorService
from broker.api.health import Health
from broker.api.operators import OperatorService
from broker.api.orchestrators import OrchestratorService
from broker.api.pipeline import Pipeline
from broker.api.server import Server
from broker.api.tls import server_credentials
from broker.api.verifiers import VerifierService
from broker.audit.note import NoteSigner
from broker.config import policy_bundle
from broker.config.identity import IdentitySettings
from broker.config.listening import check_free, doors_of
from broker.config.open_files import allow_as_many_as_possible
from broker.config.settings import ListenSettings, Settings
from broker.credential.replays import Replays
from broker.identity.directory import Directory
from broker.identity.jwt import JwtAuthenticator
from broker.identity.trust_bundles import TrustBundles
from broker.identity.x509 import Authenticator
from broker.jobs.crew import Crew, PartEnded
from broker.jobs.refresh import refresh
from broker.jobs.schedule import Schedule
from broker.keystore.rotation import Keystore, Rotation
from broker.lease import activation
from broker.lease.desk import Desk, TaskCache
from broker.lease.lookup import LeaseLookup
from broker.model.clock import Clock
from broker.policy.engine import Policy
from broker.revocation.feed import Feed
from broker.store import migrate
from broker.store.committer import Committed
from broker.store.database import Database, open_database
from broker.store.follower import Follower
from broker.store.marks import Marks
from broker.store.reserve import Reserve
from broker.store.sole import sole_writer
from broker.store.writer import Writer
from broker.system import system_clock, uuid7, uuid7_in_bulk
from broker.trust.files import SvidFiles
from broker.trust.issuer_keys import TrustedIssuers
from broker.trust.source import SvidSource
from broker.web.app import application
from broker.web.pipeline import HttpPipeline
from broker.web.server import Certificate, CertificateProblem, HttpServer

_DRAIN_SECONDS = 10.0
_SHARES = 4  # of the files that may be open: each listener's connections, and everything else
_GC_ALLOCATIONS = (
    50_000  # requests leave hardly any cycles behind: looking for them as often as by default costs a fifth
)


@dataclass(frozen=True, slots=True)
class Ready:
    """Where a broker serves: the ports of its listeners, as far as it has them; and the checkpoints' verifier key."""

    port: int
    jwt_port: int | None
    http_port: int | None
    vkey: str


@dataclass(frozen=True, slots=True)
class _Doors:
    """All ways in."""

    grpc: Server
    http: HttpServer | None
    feed: Feed
    health: Health

    async def open(self, vkey: str, crew: Crew) -> Ready:
        await self.grpc.start()
        if self.http is not None:
            crew.watch(self.http.start())
        return Ready(self.grpc.port, self.grpc.jwt_port, None if self.http is None else self.http.port, vkey)

    def renew(self) -> None:
        """Show a rotated certificate. gRPC asks for it by itself."""
        if self.http is None:
            return
        try:
            self.http.refresh()
        except (OSError, CertificateProblem) as error:
            structlog.get_logger("http").error("http.certificate_not_renewed", problem=str(error))

    async def close(self) -> None:
        """Let the calls under way finish, and nobody else in."""
        self.feed.close()
        closing = [self.grpc.stop(_DRAIN_SECONDS)]
        if self.http is not None:
            closing.append(self.http.stop(_DRAIN_SECONDS))
        await asyncio.gather(*closing)


async def serve(
    settings: Settings,
    ready: Callable[[Ready], None],
    clock: Clock = system_clock,
    also: Sequence[grpc.GenericRpcHandler] = (),
) -> None:
    """Run a broker until SIGTERM or SIGINT, then drain. `also` is served beside its own services, to anybody.

    Raises:
        CannotStart, Refusal: it cannot start.
        PartEnded: a part that must live as long as the daemon has ended.
    """
    gc.set_threshold(_GC_ALLOCATIONS, 50, 50)
    stop, crew = _stop_signal(), Crew()
    for key, address in doors_of(settings.listen):
        check_free(key, address)
    async with AsyncExitStack() as stack:
        source = await _source(stack, settings.identity, clock)
        database = await _database(stack, settings)
        keys = _keystore(settings, clock)
        signer = NoteSigner(settings.origin, keys.checkpoint)
        follower, marks = Follower(signer.vkey), Marks(settings.mark_dirs, signer.vkey)
        feed = Feed(database, follower, time.monotonic, uuid7)

        def writer(committed: Callable[[Committed], None]) -> Writer:
            return Writer(
                database,
                settings.origin,
                signer,
                clock,
                committed,
                reserve=Reserve.beside(database),
                follower=follower,
                marks=marks,
            )

        desk = await _desk(stack, settings, clock, database, feed, keys, writer, crew)
        stack.push_async_callback(crew.dismiss)
        authentication = _authentication(settings.identity, source, desk)
        doors = _doors(settings.listen, source, authentication, feed, keys, str(signer.vkey))
        doors.grpc.add(also)
        crew.start("feed", feed.run())
        crew.start("marks", marks.run())
        crew.start("identity", refresh(source, clock, doors.renew))
        crew.start("issuers", authentication.issuers.run())
        crew.start("health", doors.health.run())
        crew.start("probe", desk.ledger.probe())
        crew.start("schedule", Schedule(desk, partial(_rotate, keys, feed, desk)).run())
        ready(await doors.open(str(signer.vkey), crew))
        await _until_told(stop, crew, doors)


async def _until_told(stop: asyncio.Event, crew: Crew, doors: _Doors) -> None:
    """Serve until told to stop, or until a part has ended; then drain."""
    log = structlog.get_logger("daemon")
    log.info("daemon.ready", port=doors.grpc.port)
    try:
        await crew.wait(stop)
    except PartEnded as ended:
        log.critical("daemon.part_ended", problem=str(ended), exc_info=ended)
        raise
    finally:
        log.info("daemon.draining")
        await doors.close()


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _source(stack: AsyncExitStack, settings: IdentitySettings, clock: Clock) -> SvidSource:
    if settings.svid_dir is not None:
        files = SvidFiles(settings.svid_dir, settings.trust_bundles, settings.jwt_bundles)
        files.check_time(clock())
        return files
    from broker.trust.workload_api import WorkloadApi  # noqa: PLC0415 (its package is an extra)

    source = await asyncio.to_thread(WorkloadApi, settings.workload_api, clock)
    stack.callback(source.close)
    return source


async def _database(stack: AsyncExitStack, settings: Settings) -> Database:
    stack.enter_context(sole_writer(settings.database_url))
    prepare = migrate.upgrade if settings.migrate else migrate.require_newest
    await asyncio.to_thread(prepare, settings.database_url)
    database = open_database(settings.database_url)
    stack.callback(database.close)
    return database


def _keystore(settings: Settings, clock: Clock) -> Keystore:
    keys = settings.keys
    return Keystore(
        keys.directory, Rotation(every=keys.rotation, lead=keys.lead, longest=settings.limits.lifetime), clock
    )


async def _rotate(keys: Keystore, feed: Feed, desk: Desk) -> None:
    if await keys.rotate():
        structlog.get_logger("keys").info("keys.rotated", published=keys.kids())
        feed.keys_changed()
        await activation.keys_rotated(desk, keys.kids())


async def _desk(
    stack: AsyncExitStack,
    settings: Settings,
    clock: Clock,
    database: Database,
    feed: Feed,
    keys: Keystore,
    make_writer: Callable[[Callable[[Committed], None]], Writer],
    crew: Crew,
) -> Desk:
    """Lay the desk out, with a ledger writer at work."""
    cache, policy = TaskCache(database), Policy(policy_bundle.load(settings.policy_bundle))

    def committed(change: Committed) -> None:
        cache.update(change.tasks)
        if change.rules:
            feed.wake()

    writer = make_writer(committed)
    crew.watch(writer.start())
    stack.push_async_callback(writer.stop)
    desk = Desk(
        clock=clock,
        ids=uuid7_in_bulk(),
        salts=lambda: os.urandom(32),
        database=database,
        ledger=writer,
        tasks=cache,
        leases=LeaseLookup(database),
        policy=lambda: policy,
        signer=keys.signer,
        issuer=settings.issuer,
        limits=settings.limits,
        rules=settings.identity.rules,
        withheld=feed.withheld,
    )
    await activation.policy_activated(desk)
    return desk


def _authentication(settings: IdentitySettings, source: SvidSource, desk: Desk) -> Authentication:
    directory = Directory(settings.rules, settings.denied)
    trusted = TrustedIssuers(settings.issuers)

    def bundles() -> TrustBundles:
        return source.material.trust_bundles

    return Authentication(
        desk=desk,
        source=source,
        certificates=Authenticator(bundles, directory),
        tokens=JwtAuthenticator(trusted.issuers, trusted.current, bundles, settings.audience, directory),
        issuers=trusted,
        replays=Replays(),
    )


def _doors(
    settings: ListenSettings, source: SvidSource, authentication: Authentication, feed: Feed, keys: Keystore, vkey: str
) -> _Doors:
    desk = authentication.desk
    way_in = (desk.issuer, authentication, Refusals(desk))
    services: dict[ServiceDescriptor, object] = {
        descriptors.AGENT: AgentService(desk),
        descriptors.ORCHESTRATOR: OrchestratorService(desk, feed),
        descriptors.OPERATOR: OperatorService(desk, feed),
        descriptors.VERIFIER: VerifierService(desk, feed, keys.published, vkey.partition("+")[0]),
        descriptors.AUDITOR: AuditorService(desk, vkey),
    }
    mutual = (settings.address, server_credentials(source, mutual=True))
    for_tokens = None
    if settings.jwt_address is not None:
        for_tokens = (settings.jwt_address, server_credentials(source, mutual=False))
    share = allow_as_many_as_possible() // _SHARES
    health = Health([feed.problem, desk.ledger.problem])
    server = Server(mutual, Pipeline(*way_in), services, health, for_tokens, share)
    if settings.http_address is None:
        return _Doors(server, None, feed, health)
    app = application(HttpPipeline(*way_in), desk, keys.published)
    certificate = partial(_certificate, settings, source)
    return _Doors(server, HttpServer(settings.http_address, app, certificate, most_connections=share), feed, health)


def _certificate(settings: ListenSettings, source: SvidSource) -> Certificate:
    """Return the certificate of the HTTPS listener as it is now."""
    if settings.http_cert is not None and settings.http_key is not None:
        return Certificate(settings.http_cert.read_bytes(), settings.http_key.read_bytes())
    return Certificate(source.material.cert_chain_pem, source.material.private_key_pem)
