"""A real Workload API in a process of its own, that does what it is told: push, deny, say nothing, die, come back."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from spiffe._proto.workload_pb2 import X509SVID, JWTBundlesResponse, X509SVIDResponse

from broker.sandbox.certificates import Svid

REPOSITORY = Path(__file__).parents[2]
METHODS = {"FetchX509SVID": "x509", "FetchJWTBundles": "jwt"}


@dataclass
class _Agent:
    """What the process serves: messages as they are, by method. One that is None is not implemented."""

    mood: str = "silent"  # or: serving, denying, hanging up
    messages: dict[str, bytes | None] = field(default_factory=lambda: {"x509": b"", "jwt": b""})
    version: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def obey(self, command: dict[str, Any]) -> None:
        with self.changed:
            self.mood = command.pop("mood", self.mood)
            for name, message in command.items():
                self.messages[name] = None if message is None else base64.b64decode(message)
            self.version += 1
            self.changed.notify_all()

    def stream(self, name: str, _request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Push the whole at once, and again whenever something changes."""
        if ("workload.spiffe.io", "true") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")
        context.add_callback(self._wake)
        seen = -1
        while context.is_active():
            with self.changed:
                while self.version == seen and context.is_active():
                    self.changed.wait()
                seen, mood, message = self.version, self.mood, self.messages[name]
            if mood == "denying":
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
            if mood == "hanging up":
                return
            if message is None:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, "method is disabled")
            elif mood == "serving" and context.is_active():
                yield message

    def _wake(self) -> None:
        with self.changed:
            self.changed.notify_all()


def _serve(address: str) -> None:
    agent = _Agent()
    server = grpc.server(ThreadPoolExecutor(32))
    streams = {
        method: grpc.unary_stream_rpc_method_handler(partial(agent.stream, name), bytes, bytes)
        for method, name in METHODS.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("SpiffeWorkloadAPI", streams),))
    server.add_insecure_port(address)
    server.start()
    print("ready", flush=True)  # noqa: T201 (read by `WorkloadApiServer`)
    for line in sys.stdin:
        agent.obey(json.loads(line))
        print("done", flush=True)  # noqa: T201 (likewise)
    server.stop(None)


class WorkloadApiServer:
    """The process, seen from a test."""

    def __init__(self, socket: Path) -> None:
        self.address = f"unix://{socket}"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it; it says nothing until told what to serve."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.workload_api_server", self.address],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._expect("ready")

    @property
    def running(self) -> bool:
        return self._process is not None

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def tell(self, mood: str = "serving", **messages: bytes | None) -> None:
        """Change its mood and what it serves (`x509`, `jwt`), and have it push."""
        command: dict[str, str | None] = {"mood": mood}
        for name, message in messages.items():
            command[name] = None if message is None else base64.b64encode(message).decode()
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        self._expect("done")

    def _expect(self, word: str) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == f"{word}\n"


@contextmanager
def at_a_socket() -> Iterator[WorkloadApiServer]:
    """Make one at a socket of its own, whose path is short enough; kill it after the block."""
    with tempfile.TemporaryDirectory() as folder:
        server = WorkloadApiServer(Path(folder) / "agent.sock")
        try:
            yield server
        finally:
            server.kill()


def der(pem: bytes) -> bytes:
    """Return certificates in PEM as DER, one behind the other."""
    return b"".join(found.public_bytes(Encoding.DER) for found in x509.load_pem_x509_certificates(pem))


def x509_svid(spiffe_id: str, svid: Svid, bundle_pem: bytes, **changes: Any) -> X509SVID:
    """Make the message of one SVID."""
    key = load_pem_private_key(svid.key_pem, None)
    fields = {
        "spiffe_id": spiffe_id,
        "x509_svid": der(svid.cert_pem),
        "x509_svid_key": key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        "bundle": der(bundle_pem) if bundle_pem else b"",
    }
    return X509SVID(**{**fields, **changes})


def x509_response(*svids: X509SVID, federated: Mapping[str, bytes] | None = None) -> bytes:
    """Make a push. `federated` maps the SPIFFE IDs of trust domains to DER."""
    return X509SVIDResponse(svids=svids, federated_bundles=federated or {}).SerializeToString()


def jwt_response(bundles: Mapping[str, bytes]) -> bytes:
    """Make a push. `bundles` maps the SPIFFE IDs of trust domains to JWKS."""
    return JWTBundlesResponse(bundles=bundles).SerializeToString()


if __name__ == "__main__":
    _serve(sys.argv[1])
