"""The sample deployment: who is there, and what the configuration says of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from broker.config.settings import Settings, load
from broker.identity.spiffe import SpiffeId
from broker.keystore.folder import create_keys
from broker.sandbox import authority
from broker.sandbox.sample import write_sample

_TRUST_DOMAIN = "example.org"
_CA_LIFETIME = timedelta(days=3650)
_SVID_LIFETIME = timedelta(days=7)
_REMADE_BEFORE = timedelta(hours=12)
_SERVER_NAMES = ("localhost",)

IDENTITIES: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "broker": ("/broker", _SERVER_NAMES),
        "orchestrator": ("/orchestrator", ()),
        "researcher": ("/agent/researcher", ()),
        "writer": ("/agent/writer", ()),
        "operator": ("/operator", ()),
        "verifier": ("/tool-server/repo", _SERVER_NAMES),
        "notes": ("/tool-server/notes", _SERVER_NAMES),
        "auditor": ("/auditor", ()),
    }
)
"""The sample workloads: path of the SPIFFE ID, and DNS names, by the name of their folder."""

_CONFIGURATION = """\
# Written by `credbroker dev`, and yours from now on. docs/reference/configuration.md says what else there is.

[broker]
issuer = "https://broker.example.org"

[listen]
address = "127.0.0.1:8443"

[identity]
svid_dir = "svids/broker"

# The first rule that matches holds.

[[identity.rule]]
match = "spiffe://example.org/agent/*"
tenant = "acme"
groups = ["agents"]

[[identity.rule]]
match = "spiffe://example.org/orchestrator"
tenant = "acme"
groups = ["orchestrators"]

[[identity.rule]]
match = "spiffe://example.org/tool-server/repo"
tenant = "acme"
groups = ["verifiers"]
resources = ["https://repo.tools.example"]

[[identity.rule]]
match = "spiffe://example.org/tool-server/notes"
tenant = "acme"
groups = ["verifiers"]
resources = ["https://notes.tools.example"]

[[identity.rule]]
match = "spiffe://example.org/operator"
tenant = "acme"
groups = ["operators"]

[[identity.rule]]
match = "spiffe://example.org/operator/root"
tenant = "*"
groups = ["operators"]

[[identity.rule]]
match = "spiffe://example.org/auditor"
tenant = "acme"
groups = ["auditors"]

[database]
url = "broker.db"

[policy]
bundle = "bundle"

[keys]
dir = "keys"
"""
_DATABASE = 'url = "broker.db"'
_OF_VERIFIER = 'resources = ["https://repo.tools.example"'

_RESOURCE = """
[[resource]]
uri = {uri}
binding = {binding}
"""
_OFFERED_TOOL = """
[[resource.tool]]
name = {name}
sensitivity = 1
side_effects = false
max_lifetime = "10m"
toolsets = ["offered"]
"""
_OFFERED_POLICY = """\
@id("p-agents-offered") @max_lifetime("10m")
permit (
  principal in Broker::Group::"agents",
  action in Broker::Action::"grant",
  resource in Broker::Toolset::"offered"
);
"""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A folder with all that a broker needs."""

    directory: Path

    @property
    def configuration(self) -> Path:
        """The configuration file."""
        return self.directory / "broker.toml"

    @property
    def svids(self) -> Path:
        """The folder with the CA, and with an SVID's folder for each name."""
        return self.directory / "svids"

    def settings(self, port: int = 0) -> Settings:
        """Read the configuration, for a broker at a port of loopback; 0 is any that is free.

        Raises:
            ConfigError: it is wrong.
        """
        settings = load(self.configuration)
        return replace(settings, listen=replace(settings.listen, address=f"127.0.0.1:{port}"))

    def offer(self, resource: str, tools: Sequence[str], binding: str = "bearer") -> None:
        """Add a resource whose tools every agent may have, and whose server is `verifier`.

        `binding` is as in tools.toml. For a deployment that is prepared, before its broker starts.

        Raises:
            OSError: it cannot be written.
        """
        bundle = self.directory / "bundle"
        offered = _RESOURCE.format(uri=json.dumps(resource), binding=json.dumps(binding))
        offered += "".join(_OFFERED_TOOL.format(name=json.dumps(tool)) for tool in tools)
        with (bundle / "tools.toml").open("a", encoding="utf-8") as file:
            file.write(offered)
        (bundle / "policies" / "offered.cedar").write_text(_OFFERED_POLICY, encoding="utf-8")
        configuration = self.configuration.read_text(encoding="utf-8")
        of_verifier = f"{_OF_VERIFIER}, {json.dumps(resource)}"
        self.configuration.write_text(configuration.replace(_OF_VERIFIER, of_verifier), encoding="utf-8")

    def use_database(self, url: str) -> None:
        """Keep what the broker remembers in another database than a file in the folder. Before it has started.

        Raises:
            OSError: it cannot be written.
        """
        configuration = self.configuration.read_text(encoding="utf-8")
        self.configuration.write_text(configuration.replace(_DATABASE, f"url = {json.dumps(url)}"), encoding="utf-8")

    def prepare(self, at: datetime) -> None:
        """Write what is not there yet, and make SVIDs anew that soon expire.

        Raises:
            CannotStart, OSError: it cannot be written.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not authority.exists(self.svids):
            authority.create(self.svids, _TRUST_DOMAIN, _CA_LIFETIME, at)
        for name, (path, dns_names) in IDENTITIES.items():
            if not authority.outlives(self.svids / name, at + _REMADE_BEFORE):
                authority.issue(self.svids, name, SpiffeId(_TRUST_DOMAIN, path), dns_names, _SVID_LIFETIME, at)
        if not (self.directory / "bundle").exists():
            write_sample(self.directory / "bundle")
        if not (self.directory / "keys").exists():
            create_keys(self.directory / "keys", at)
        if not self.configuration.exists():
            self.configuration.write_text(_CONFIGURATION, encoding="utf-8")
