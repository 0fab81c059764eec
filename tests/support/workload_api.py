"""A Workload API that serves an SVID and a key, and whoever follows it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from broker.identity.spiffe import parse_spiffe_id
from broker.identity.trust_bundles import parse_certificates
from broker.sandbox.certificates import Authority, Svid, issue_svid
from broker.system import system_clock
from broker.trust.workload_api import WorkloadApi
from tests.support.fakes import authority
from tests.support.issuer import jwk
from tests.support.workload_api_server import WorkloadApiServer, jwt_response, x509_response, x509_svid

OURS, HOME, PARTNER = "spiffe://example.org/broker", "spiffe://example.org", "spiffe://partner.example"
ROOT, OTHER, FOREIGN = authority(), authority(), authority("partner.example")
ROOTS = parse_certificates(ROOT.cert_pem)
KEY = ec.generate_private_key(ec.SECP256R1())
HOUR = timedelta(hours=1)


def svid(lifetime: timedelta = HOUR, root: Authority = ROOT) -> Svid:
    return issue_svid(root, parse_spiffe_id(OURS), ["localhost"], lifetime, system_clock())


def push(found: Svid, bundle: bytes = ROOT.cert_pem, **more: Any) -> bytes:
    return x509_response(x509_svid(OURS, found, bundle), **more)


def jwks(*kids: str) -> bytes:
    return json.dumps({"keys": [jwk(KEY, kid, use="jwt-svid") for kid in kids]}).encode()


@dataclass
class Time:
    """A clock that runs, and can be moved."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return system_clock() + self.ahead


@dataclass
class Room:
    """An agent that serves an SVID and a key, and whoever follows it."""

    agent: WorkloadApiServer
    first: Svid = field(default_factory=svid)
    time: Time = field(default_factory=Time)
    opened: list[WorkloadApi] = field(default_factory=list)

    def open(self, timeout_seconds: float = 60) -> WorkloadApi:
        self.opened.append(WorkloadApi(self.agent.address, self.time, timeout_seconds))
        return self.opened[-1]

    def restart(self) -> None:
        self.agent.start()
        self.agent.tell(x509=push(self.first), jwt=jwt_response({HOME: jwks("k1")}))


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def taken(api: WorkloadApi, condition: Callable[[], object]) -> None:
    """Refresh until a condition holds."""
    until(lambda: (api.refresh(), condition())[1])


def kids(api: WorkloadApi) -> dict[str, list[str]]:
    return {name: [key.kid for key in found.keys] for name, found in api.material.trust_bundles.jwt_keys.items()}
