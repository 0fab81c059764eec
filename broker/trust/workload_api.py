"""Our SVID and the trust bundles from the SPIFFE Workload API, which an agent such as SPIRE's serves on a socket.

What we show and whom we believe is what the agent pushed last. If the agent is gone, that holds until our SVID expires:
its lifetime is how long the operator lets anyone go without news. From then on nobody is believed, until there is an
SVID again; and at once when the agent says that we have no identity any more (SPIFFE Workload API section 5.2.1).
Lists of revoked certificates (`crl`) are not read; SPIRE sends none.
"""

from __future__ import annotations

import ipaddress
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TypeVar

import grpc

from broker.identity.trust_bundles import TrustBundles
from broker.model.clock import Clock
from broker.model.errors import CannotStart
from broker.trust.source import SvidMaterial
from broker.trust.workload_pushes import JwtPush, X509Push, read_jwt, read_x509
from broker.trust.workload_stream import WorkloadStream

_UNIX = re.compile(r"unix:(?://)?(/[^/?#%\s][^?#%\s]*)")
_TCP = re.compile(r"tcp://([0-9.]+|\[[0-9a-f:]+\]):([0-9]{1,5})")
_METADATA = (("workload.spiffe.io", "true"),)  # SPIFFE Workload Endpoint section 3
_CHANNEL = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)
_Bundle = TypeVar("_Bundle")
_CLOSING_SECONDS = 5.0
_LONG_PAST = datetime.min.replace(tzinfo=UTC)


class WorkloadApiError(CannotStart):
    """The Workload API gives us no identity. The message names the socket and the remedy."""


@dataclass(frozen=True, slots=True)
class _State:
    """What we show, and what of the last pushes we believe: nothing of trust domains whose bundles are too old."""

    own: X509Push
    roots: X509Push | None
    keys: JwtPush | None
    old_roots: frozenset[str] = frozenset()
    old_keys: frozenset[str] = frozenset()

    def material(self, generation: int) -> SvidMaterial:
        roots = {} if self.roots is None else _without(self.roots.roots, self.old_roots)
        keys = {} if self.keys is None else _without(self.keys.keys, self.old_keys)
        bundles = TrustBundles(generation, roots, keys)
        not_after = _LONG_PAST if self.roots is None else self.own.not_after
        return SvidMaterial(generation, self.own.cert_chain_pem, self.own.private_key_pem, bundles, not_after)


class _Kept:
    """Until when the bundles are believed that a push had broken: for as long as the SVID that we had then lives."""

    def __init__(self) -> None:
        self._until: dict[str, datetime] = {}

    def too_old(self, broken: Iterable[str], not_after: datetime, now: datetime) -> frozenset[str]:
        """Return the trust domains whose bundles are believed no more. An SVID that expires at `not_after` is ours."""
        self._until = {name: self._until.get(name, not_after) for name in broken}
        return frozenset(name for name, until in self._until.items() if now >= until)


class WorkloadApi:
    """What the Workload API pushes, followed by threads until it is closed.

    What cannot be used does not replace what could, and costs nothing but itself: `problem` says why, until it is
    mended.
    """

    def __init__(self, socket: str, clock: Clock, timeout_seconds: float = 30) -> None:
        """Wait for our SVID and all bundles, and block for so long at most.

        `socket` is as in SPIFFE_ENDPOINT_SOCKET: `unix:///run/spire/agent.sock`, or `tcp://` and a loopback address.

        Raises:
            WorkloadApiError: the address is none, nothing usable came in time, or package `spiffe` is missing.
        """
        if find_spec("spiffe") is None:
            raise WorkloadApiError(f"{socket}: the Workload API needs package `spiffe`; install `credbroker[spiffe]`")
        self._socket = socket
        self._clock = clock
        self._channel = grpc.insecure_channel(_target(socket), _CHANNEL)
        self._closed = threading.Event()
        self._x509 = WorkloadStream(
            lambda: self._call("FetchX509SVID"),
            lambda message, before: read_x509(message, clock(), before),
            self._closed,
        )
        self._jwt = WorkloadStream(
            lambda: self._call("FetchJWTBundles"), read_jwt, self._closed, otherwise=JwtPush({}, {})
        )
        self._threads = [
            threading.Thread(target=stream.run, name="workload-api", daemon=True) for stream in (self._x509, self._jwt)
        ]
        for thread in self._threads:
            thread.start()
        try:
            self._own = self._wait(timeout_seconds)
        except WorkloadApiError:
            self.close()
            raise
        self._keys_until = self._own.not_after
        self._kept_roots, self._kept_keys = _Kept(), _Kept()
        self._state = self._look()
        self._material = self._state.material(1)

    @property
    def material(self) -> SvidMaterial:
        """Return what was taken last."""
        return self._material

    @property
    def problem(self) -> str | None:
        """Return why nothing newer can be had, or why nobody is believed."""
        problems, now, end = self._stream_problems(), self._clock(), self._own.not_after
        if now >= end:
            problems.append(f"our X.509-SVID expired at {end:%Y-%m-%d %H:%M:%S} UTC, so nobody is believed")
        elif now >= self._own.overdue_at:
            problems.append(f"our X.509-SVID expires at {end:%Y-%m-%d %H:%M:%S} UTC, and the agent has not renewed it")
        if now >= self._keys_until:
            problems.append("the JWT bundles are too old, so no JWT-SVID is believed")
        return f"{self._socket}: {'; '.join(problems)}" if problems else None

    def refresh(self) -> bool:
        """Take what has been pushed, and drop what has expired; report whether there is something new. Never waits."""
        state = self._look()
        if state == self._state:
            return False
        self._state, self._material = state, state.material(self._material.generation + 1)
        return True

    def close(self) -> None:
        """Hang up. What was taken last remains."""
        self._closed.set()
        self._channel.close()
        for thread in self._threads:
            thread.join(_CLOSING_SECONDS)

    def _look(self) -> _State:
        x509, jwt, before = self._x509.value, self._jwt.value, self._own.not_after
        self._own = x509 or self._own
        if self._jwt.problem is None:
            self._keys_until = self._own.not_after
        now = self._clock()
        if x509 is None or now >= x509.not_after:
            return _State(self._own, None, None)
        return _State(
            x509,
            x509,
            jwt if now < self._keys_until else None,
            self._kept_roots.too_old(x509.broken, before, now),
            self._kept_keys.too_old(jwt.broken if jwt else (), before, now),
        )

    def _wait(self, seconds: float) -> X509Push:
        end = time.monotonic() + seconds
        for stream in (self._x509, self._jwt):
            stream.answered.wait(max(0.0, end - time.monotonic()))
        push = self._x509.value
        if push is None or not self._jwt.answered.is_set():
            problems = "; ".join(self._stream_problems())
            raise WorkloadApiError(f"{self._socket}: no identity came within {seconds:g} seconds: {problems}")
        return push

    def _stream_problems(self) -> list[str]:
        x509, jwt = self._x509, self._jwt
        streams = (("X.509-SVID", x509.problem), ("JWT bundles", jwt.problem))
        lasting = [f"{what}: {problem}" for what, problem in streams if problem]
        broken = [
            *(x509.value.broken.values() if x509.value else ()),
            *(jwt.value.broken.values() if jwt.value else ()),
        ]
        return [*lasting, *(f"what the agent pushed cannot be used in part: {why}" for why in broken)]

    def _call(self, method: str) -> Iterator[bytes]:
        """Open a stream. The request is an empty message."""
        call = self._channel.unary_stream(f"/SpiffeWorkloadAPI/{method}", bytes, bytes)
        return call(b"", metadata=_METADATA)


def _without(bundles: Mapping[str, _Bundle], names: frozenset[str]) -> dict[str, _Bundle]:
    return {name: bundle for name, bundle in bundles.items() if name not in names}


def _target(socket: str) -> str:
    """Return gRPC's name of an address (SPIFFE Workload Endpoint section 4)."""
    unix, tcp = _UNIX.fullmatch(socket), _TCP.fullmatch(socket)
    if unix:
        return f"unix:{unix[1]}"
    if tcp and _is_loopback(tcp[1]):
        return f"ipv{6 if ':' in tcp[1] else 4}:{tcp[1]}:{tcp[2]}"
    raise WorkloadApiError(
        f"{socket}: is not the address of a Workload API; give `unix:///run/spire/agent.sock`, or the likes of"
        " `tcp://127.0.0.1:8000` with a loopback address"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
