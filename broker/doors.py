"""All ways in, which open and close together: the gRPC listeners, and the HTTPS listener."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import grpc
import structlog

from broker.access.authentication import Authentication
from broker.access.lanes import Lanes
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
from broker.config.open_files import allow_as_many_as_possible
from broker.config.settings import ListenSettings
from broker.jobs.supervisor import Supervisor
from broker.keystore.signing import TokenKeys
from broker.revocation.feed import Feed
from broker.trust.source import SvidSource
from broker.web.app import application
from broker.web.pipeline import HttpPipeline
from broker.web.server import Certificate, CertificateProblem, HttpServer

_DRAIN_SECONDS = 12.0  # a revocation that waits for its barrier has waited out whoever was fresh when we were told
_SHARES = 4  # of the files that may be open: each listener's connections, and everything else


@dataclass(frozen=True, slots=True)
class Ready:
    """Where a broker serves: the ports of its listeners, as far as it has them; and the checkpoints' verifier key."""

    port: int
    jwt_port: int | None
    http_port: int | None
    vkey: str


@dataclass(frozen=True, slots=True)
class Doors:
    """All ways in."""

    grpc: Server
    http: HttpServer | None
    health: Health
    vkey: str

    async def open(self, parts: Supervisor) -> Ready:
        """Serve; the HTTPS listener is a part that must live."""
        await self.grpc.start()
        if self.http is not None:
            parts.watch(self.http.start())
        http_port = None if self.http is None else self.http.port
        structlog.get_logger("daemon").info("daemon.ready", port=self.grpc.port)
        return Ready(self.grpc.port, self.grpc.jwt_port, http_port, self.vkey)

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
        structlog.get_logger("daemon").info("daemon.draining")
        closing = [self.grpc.stop(_DRAIN_SECONDS)]
        if self.http is not None:
            closing.append(self.http.stop(_DRAIN_SECONDS))
        await asyncio.gather(*closing)


def make_doors(
    settings: ListenSettings,
    source: SvidSource,
    authentication: Authentication,
    feed: Feed,
    keys: TokenKeys,
    vkey: str,
    also: Sequence[grpc.GenericRpcHandler] = (),
    *,
    together: bool = False,
) -> Doors:
    """Listen where the settings say, but do not serve yet. `also` is served beside our services, to anybody.

    `together`: other processes of ours listen there as well.

    Raises:
        ListenProblem, CertificateProblem: an address or a certificate cannot be used.
    """
    desk, share = authentication.desk, allow_as_many_as_possible() // _SHARES
    way_in = (desk.issuer, authentication, Refusals(desk), Lanes())
    health = Health([feed.problem, desk.ledger.problem, keys.problem])
    server = Server(
        (settings.address, server_credentials(source, mutual=True)),
        Pipeline(*way_in),
        {
            descriptors.AGENT: AgentService(desk),
            descriptors.ORCHESTRATOR: OrchestratorService(desk, feed),
            descriptors.OPERATOR: OperatorService(desk, feed),
            descriptors.VERIFIER: VerifierService(desk, feed, keys.published, vkey.partition("+")[0]),
            descriptors.AUDITOR: AuditorService(desk, vkey),
        },
        health,
        None if settings.jwt_address is None else (settings.jwt_address, server_credentials(source, mutual=False)),
        share,
        together=together,
    )
    server.add(also)
    http = None
    if settings.http_address is not None:
        app, certificate = (
            application(HttpPipeline(*way_in), desk, keys.published),
            partial(_certificate, settings, source),
        )
        http = HttpServer(settings.http_address, app, certificate, most_connections=share, together=together)
    return Doors(server, http, health, vkey)


def _certificate(settings: ListenSettings, source: SvidSource) -> Certificate:
    """Return the certificate of the HTTPS listener as it is now."""
    if settings.http_cert is not None and settings.http_key is not None:
        return Certificate(settings.http_cert.read_bytes(), settings.http_key.read_bytes())
    return Certificate(source.material.cert_chain_pem, source.material.private_key_pem)
