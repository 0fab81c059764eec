"""The deployment of the demo's second story: a broker that HTTP callers reach, and an MCP server for a resource."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import ECKey

from broker.disk import files
from broker.sandbox.deployment import Deployment
from broker.sandbox.ports import free_port

RESEARCHER = "spiffe://example.org/agent/researcher"
_SVID_LIFETIME = timedelta(minutes=30)
_NOTES = "https://notes.tools.example"  # in the sample
_ISSUER = 'issuer = "https://broker.example.org"'
_JWT_BUNDLES = """\
[identity.jwt_bundles]
"example.org" = "jwt_bundle.json"

"""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the broker's OAuth and the MCP server will be, and the researcher's JWT-SVID."""

    issuer: str
    url: str
    jwt_svid: Path


def prepare(directory: Path, at: datetime) -> Places:
    """Write the sample deployment, with the notes at an MCP server, and what a SPIFFE agent would give the researcher.

    Both URLs are part of it, so the ports are chosen here.
    """
    broker, notes = free_port(), free_port()
    places = Places(f"https://localhost:{broker}/acme", f"https://localhost:{notes}/mcp", directory / "researcher.jwt")
    deployment = Deployment(directory)
    deployment.prepare(at)
    _change(deployment.configuration, _NOTES, places.url)
    _change(directory / "bundle" / "tools.toml", _NOTES, places.url)
    _change(deployment.configuration, _ISSUER, f'issuer = "{places.issuer}"')
    _change(deployment.configuration, "[listen]\n", f'[listen]\nhttp_address = "127.0.0.1:{broker}"\n')
    _change(deployment.configuration, "# The first rule that", f"{_JWT_BUNDLES}# The first rule that")
    _write_jwt_svid(places, directory / "jwt_bundle.json", at)
    return places


def _write_jwt_svid(places: Places, bundle: Path, at: datetime) -> None:
    """Write a JWT-SVID, and the bundle to verify it with (SPIFFE JWT-SVID; SPIFFE Trust Domain and Bundle, 4)."""
    key = ECKey.generate_key("P-256", {"kid": "1"})
    bundle.write_text(json.dumps({"keys": [key.as_dict(private=False) | {"use": "jwt-svid"}]}), encoding="utf-8")
    claims = {"sub": RESEARCHER, "aud": [places.issuer], "iat": at, "exp": at + _SVID_LIFETIME}
    token = jwt.encode({"alg": "ES256", "kid": "1", "typ": "JWT"}, claims, key)
    files.replace(places.jwt_svid, token.encode())


def _change(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
