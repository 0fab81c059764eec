"""A running broker with all its doors: an OIDC issuer that it trusts, JWT-SVIDs, HTTPS, and gRPC for tokens."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx2
from cryptography.hazmat.primitives.asymmetric import ec

from broker.model.grant import Constraint, Grant, Operator, ResourceGrants
from broker.model.task import Declaration, Environment
from broker.sandbox.authority import read_authority
from broker.sandbox.broker import Broker, prepare, running
from broker.sandbox.ports import free_port
from broker.sdk.client.sync import SyncClient
from broker.system import system_clock
from tests.support.doors import Doors
from tests.support.issuer import OidcIssuer, compact, issuing, jwk

RESEARCHER = "spiffe://example.org/agent/researcher"
JOB = "oidc:ci:job:7"
REPO, NOTES = "https://repo.tools.example", "https://notes.tools.example"
VAULT, SAFE = "https://vault.tools.example", "https://safe.tools.example"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_CONFIGURATION = """
[identity.jwt_bundles]
"example.org" = "jwt_bundle.json"
{jwt_bundles}
[[identity.issuer]]
name = "ci"
url = "{url}"
ca_file = "svids/ca.pem"
task_claim = "task"
one_time = {one_time}
[[identity.issuer.condition]]
claim = "/project/path"
prefix = "acme/"

[[identity.rule]]
match = "oidc:ci:job:*"
tenant = "acme"
groups = ["agents"]

[[identity.rule]]
match = "oidc:ci:gateway"
tenant = "acme"
groups = ["verifiers"]
resources = ["https://notes.tools.example"]
"""
_TOOLS = """
[[resource]]
uri = "{uri}"
binding = "{binding}"
[[resource.tool]]
name = "search_notes"
sensitivity = 1
side_effects = false
max_lifetime = "10m"
toolsets = ["notes-read"]
"""


@dataclass
class Facade:
    """The doors of a broker, and what is needed to come through them."""

    broker: Broker
    doors: Doors
    issuer: OidcIssuer
    url: str
    svid_key: ec.EllipticCurvePrivateKey
    roots: bytes
    http: httpx2.Client = field(repr=False)

    def workload(self, **changes: Any) -> str:
        """A token of the OIDC issuer for a job."""
        return self.issuer.token(self.url, **{"project": {"path": "acme/web"}, **changes})

    def jwt_svid(self, subject: str = RESEARCHER, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """A JWT-SVID."""
        claims = {"sub": subject, "aud": [self.url], "exp": int(system_clock().timestamp()) + 300, **changes}
        return compact(self.svid_key, {"alg": "ES256", "kid": "svid", "typ": "JWT", **(header or {})}, claims)

    def token(self, headers: dict[str, str] | None = None, /, **form: str) -> httpx2.Response:
        """Ask the token endpoint, by client credentials unless the form says otherwise."""
        asked = {"grant_type": "client_credentials", "client_assertion_type": JWT_BEARER, "resource": NOTES} | form
        return self.http.post("/token", data={k: v for k, v in asked.items() if v}, headers=headers or {})

    def begin(self, *agents: str, lifetime: timedelta = timedelta(hours=1)) -> str:
        """Declare a task for agents."""
        declaration = Declaration(
            owner="team-web",
            purpose="triage",
            environment=Environment.DEV,
            agents=agents,
            tools=[
                ResourceGrants(REPO, (Grant("read_file"), Grant("create_issue"), Grant("delete_repo"))),
                ResourceGrants(
                    NOTES, (Grant("search_notes", (Constraint("/limit", Operator.RANGE, (1, 50)),)), Grant("add_note"))
                ),
                ResourceGrants(VAULT, (Grant("search_notes"),)),
                ResourceGrants(SAFE, (Grant("search_notes"),)),
            ],
            deadline=lifetime,
            risk_threshold=60,
        )
        with SyncClient(self.broker.address, self.broker.svids / "orchestrator") as client:
            return client.create_task(declaration).id

    def channel(self) -> grpc.Channel:
        """A channel to the listener for tokens."""
        return grpc.secure_channel(self.broker.jwt_address, grpc.ssl_channel_credentials(self.roots))


@contextmanager
def opened(folder: Path, more: str = "", *, jwt_bundles: str = "", one_time: bool = False) -> Iterator[Facade]:
    """Run a broker with all its doors, with `more` in its table `identity`. Its issuer's tokens may be for one time."""
    deployment = prepare(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    bundle = {"keys": [jwk(key, "svid", use="jwt-svid")]}
    (folder / "jwt_bundle.json").write_text(json.dumps(bundle))
    authority = read_authority(deployment.svids)
    with (folder / "bundle" / "tools.toml").open("a") as tools:
        tools.write(_TOOLS.format(uri=VAULT, binding="dpop") + _TOOLS.format(uri=SAFE, binding="certificate"))
    groups = folder / "bundle" / "groups.toml"
    groups.write_text(groups.read_text().replace('/agent/researcher"]', '/agent/researcher", "oidc:ci:job:*"]'))
    url = f"https://localhost:{free_port()}"
    with ExitStack() as stack:
        issuer = stack.enter_context(issuing(folder / "issuer", authority))
        text = deployment.configuration.read_text()
        text = text.replace('issuer = "https://broker.example.org"', f'issuer = "{url}"')
        listen = f'jwt_address = "127.0.0.1:0"\nhttp_address = "127.0.0.1:{url.rpartition(":")[2]}"\n'
        text = text.replace("[listen]\n", f"[listen]\n{listen}")
        head, marker, tail = text.partition("# The first rule that matches holds.")
        ours = _CONFIGURATION.format(url=issuer.url, jwt_bundles=jwt_bundles, one_time=str(one_time).lower())
        deployment.configuration.write_text(head + ours + more + marker + tail)
        broker = stack.enter_context(running(folder))
        context = ssl.create_default_context(cadata=authority.cert_pem.decode())
        http = stack.enter_context(httpx2.Client(base_url=url, verify=context, trust_env=False, timeout=60))
        yield Facade(broker, Doors(broker, stack), issuer, url, key, authority.cert_pem, http)
