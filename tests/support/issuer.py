"""A real OIDC issuer over HTTPS on loopback, that can also be slow, down, or up to no good; and what it signs."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from broker.identity.spiffe import SpiffeId
from broker.sandbox.certificates import Authority, issue_svid
from broker.system import system_clock
from tests.support.fakes import DAY

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def segment(content: object) -> str:
    return base64url(content if isinstance(content, bytes) else json.dumps(content).encode())


def sign(key: Key, data: bytes) -> bytes:
    """Sign with RS256 or ES256, as the key is."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, PKCS1v15(), hashes.SHA256())
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


def compact(key: Key, header: object, payload: object) -> str:
    """Make a compact JWS of whatever it is."""
    signed = f"{segment(header)}.{segment(payload)}"
    return f"{signed}.{base64url(sign(key, signed.encode()))}"


def jwk(key: Key, kid: str, **more: Any) -> dict[str, Any]:
    """Return the public half as a JWK."""
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        size = (numbers.n.bit_length() + 7) // 8
        members = {"kty": "RSA", "n": base64url(numbers.n.to_bytes(size)), "e": base64url(numbers.e.to_bytes(3))}
        return {**members, "kid": kid, "use": "sig", "alg": "RS256", **more}
    point = key.public_key().public_numbers()
    members = {"kty": "EC", "crv": "P-256", "x": base64url(point.x.to_bytes(32)), "y": base64url(point.y.to_bytes(32))}
    return {**members, "kid": kid, "use": "sig", "alg": "ES256", **more}


@dataclass
class OidcIssuer:
    """Publishes its keys, and counts how often they are asked for. `mood` is what it does instead of answering well."""

    port: int
    keys: dict[str, Key] = field(default_factory=dict)
    mood: str = "well"
    key_sets_given: int = 0
    claimed_issuer: str = ""
    claimed_keys_url: str = ""
    answering: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.answering.set()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def roll(self, kid: str, *, keep: bool = True) -> None:
        """Publish a new key, which signs from now on."""
        if not keep:
            self.keys.clear()
        self.keys[kid] = rsa.generate_private_key(65537, 2048)

    def token(self, audience: object, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """Sign a good token, or one with changes; a claim that is None is left out."""
        kid, key = list(self.keys.items())[-1]
        now = int(system_clock().timestamp())
        claims = {"iss": self.url, "sub": "job:7", "aud": audience, "iat": now, "exp": now + 300, "jti": str(now)}
        claims |= changes
        claims = {name: value for name, value in claims.items() if value is not None}
        plain = {"alg": "RS256", "kid": kid, "typ": "JWT"} | (header or {})
        return compact(key, {name: value for name, value in plain.items() if value is not None}, claims)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._discovery),
                Route("/jwks", self._jwks),
                Route("/elsewhere", self._jwks),
            ]
        )

    async def _discovery(self, _request: Request) -> Response:
        keys_url = self.claimed_keys_url or f"{self.url}/jwks"
        return JSONResponse({"issuer": self.claimed_issuer or self.url, "jwks_uri": keys_url})

    async def _jwks(self, request: Request) -> Response:
        answer = JSONResponse({"keys": [jwk(key, kid) for kid, key in self.keys.items()]})
        self.key_sets_given += 1
        await asyncio.to_thread(self.answering.wait)
        if self.mood == "slow":
            await asyncio.sleep(7)
        return self._in_its_mood(request, answer)

    def _in_its_mood(self, request: Request, well: JSONResponse) -> Response:
        if self.mood == "redirecting" and request.url.path != "/jwks":
            return well
        answers = {
            "down": Response(status_code=500),
            "redirecting": RedirectResponse("/elsewhere"),
            "huge": JSONResponse({"keys": [], "padding": "x" * 1_000_000}),
            "particular": self._if_accepted(request, well),
            "packing": Response(gzip.compress(bytes(well.body)), headers={"content-encoding": "gzip"}),
            "confused": Response("<html>not found</html>"),
            "symmetric": JSONResponse({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "s"}]}),
        }
        return answers.get(self.mood, well)

    def _if_accepted(self, request: Request, answer: JSONResponse) -> Response:
        """Serve nothing but a key set by its own name, as a Kubernetes API server does."""
        named = "application/jwk-set+json"
        accepted = {part.partition(";")[0].strip() for part in request.headers.get("accept", "*/*").split(",")}
        if not accepted & {named, "*/*"}:
            return Response(status_code=406)
        return Response(answer.body, media_type=named)


@contextmanager
def issuing(folder: Path, root: Authority) -> Iterator[OidcIssuer]:
    """Run an issuer whose certificate is of a private root, in a thread of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    svid = issue_svid(root, SpiffeId("example.org", "/issuer"), ["localhost"], DAY, system_clock())
    (folder / "cert.pem").write_bytes(svid.cert_pem)
    (folder / "key.pem").write_bytes(svid.key_pem)
    listener = socket.create_server(("127.0.0.1", 0))
    issuer = OidcIssuer(listener.getsockname()[1])
    issuer.roll("k1")
    config = uvicorn.Config(
        issuer.app(),
        ssl_certfile=folder / "cert.pem",
        ssl_keyfile=folder / "key.pem",
        log_config=None,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield issuer
    finally:
        server.should_exit = server.force_exit = True  # it does not wait for clients that went without a word
        thread.join()
        listener.close()
