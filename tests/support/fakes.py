"""Small honest fakes: a verifier's broker on loopback with real mutual TLS, and the certificates for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc

from broker.credential.keys import EcSigner, KeySet
from broker.identity.spiffe import parse_spiffe_id
from broker.model.errors import Reason, Refusal
from broker.model.selector import Cause, RevocationRule, Selector, Target
from broker.sandbox.certificates import Authority, issue_svid, new_authority
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.verify.verifier import Verifier
from broker.system import system_clock
from broker.v1 import verifier_service_pb2 as pb
from broker.v1 import verifier_service_pb2_grpc as pb_grpc
from broker.wire.codes import grpc_code
from broker.wire.selectors import rule_to_wire
from broker.wire.status import to_status_bytes
from broker.wire.times import duration_to_wire, instant_to_wire

ISSUER = "https://broker.example"
CODES = {code.value[0]: code for code in grpc.StatusCode}
DAY = timedelta(days=1)


async def abort(context: Any, refusal: Refusal) -> None:
    """Refuse as the broker does."""
    code = grpc_code(refusal.reason)
    context.set_trailing_metadata((("grpc-status-details-bin", to_status_bytes(refusal, code)),))
    await context.abort(CODES[code], refusal.message)


def authority(trust_domain: str = "example.org") -> Authority:
    return new_authority(trust_domain, DAY, system_clock())


def write_svid(folder: Path, root: Authority, spiffe_id: str, lifetime: timedelta = DAY) -> Path:
    """Write `svid.pem`, `key.pem` and `bundle.pem`; good for servers on localhost, too."""
    svid = issue_svid(root, parse_spiffe_id(spiffe_id), ["localhost"], lifetime, system_clock())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "svid.pem").write_bytes(svid.cert_pem)
    (folder / "key.pem").write_bytes(svid.key_pem)
    (folder / "bundle.pem").write_bytes(root.cert_pem)
    return folder


def server_credentials(folder: Path) -> grpc.ServerCredentials:
    pair = ((folder / "key.pem").read_bytes(), (folder / "svid.pem").read_bytes())
    return grpc.ssl_server_credentials([pair], (folder / "bundle.pem").read_bytes(), require_client_auth=True)


def rule(index: int, value: str = "", tenant: str = "acme") -> RevocationRule:
    return RevocationRule(
        index=index,
        selector=Selector(tenant, Target.TASK, value or f"t-{index}"),
        cause=Cause.TASK_ENDED,
        recorded_at=datetime(2030, 1, 1, tzinfo=UTC),
        relevant_until=datetime(2100, 1, 1, tzinfo=UTC),
    )


def known(verifier: Verifier) -> set[int]:
    return {found.index for found in verifier.revocations._newest.values()}


@dataclass
class FakeBroker(pb_grpc.VerifierServiceServicer):
    """Serves keys and rules, as protos/broker/v1/verifier_service.proto says, and remembers what it was asked."""

    signer: EcSigner = field(default_factory=EcSigner.generate)
    freshness: timedelta = timedelta(seconds=5)
    heartbeat: float = 0.05
    tenant: str = "acme"
    chunk: int = 1_000
    rules: list[RevocationRule] = field(default_factory=list)
    watched: list[int | None] = field(default_factory=list)
    confirmed: list[int] = field(default_factory=list)
    key_sets_given: int = 0
    confirms: bool = True
    follows: bool = True  # else it is of the version before
    held: list[tuple[asyncio.Queue[pb.RevocationUpdate], pb.RevocationUpdate]] | None = None  # answers that are late
    grants: timedelta | None = None  # to whoever confirms, if it is not the whole span
    told: int | None = None  # the index that the stream tells, if it is not the newest rule's
    refusal: Refusal | None = None
    sessions: dict[str, asyncio.Queue[pb.RevocationUpdate]] = field(default_factory=dict)

    @property
    def index(self) -> int:
        return self.rules[-1].index if self.rules else -1

    def push(self, *rules: RevocationRule, **changes: Any) -> None:
        """Record rules and send them to whoever watches."""
        self.rules.extend(rules)
        for session_id, queue in self.sessions.items():
            queue.put_nowait(self._update(session_id, rules, **changes))

    def restart(self) -> None:
        """Forget all sessions, as a new process would; their streams go on, as on a connection that lingers."""
        self.sessions.clear()

    async def GetKeySet(self, request: pb.GetKeySetRequest, context: Any) -> pb.KeySet:  # noqa: N802 (gRPC's name)
        self.key_sets_given += 1
        return pb.KeySet(jwks=KeySet.of([self.signer]).to_jwks(), issuer=ISSUER)

    async def WatchRevocations(  # noqa: N802
        self, request: pb.WatchRevocationsRequest, context: Any
    ) -> AsyncIterator[pb.RevocationUpdate]:
        async for update in self._watch(f"session-{len(self.watched) + 1}", request, context):
            yield update

    async def FollowRevocations(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.FollowRevocationsRequest], context: Any
    ) -> AsyncIterator[pb.RevocationUpdate]:
        if not self.follows:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        session_id = f"session-{len(self.watched) + 1}"
        request = await anext(request_iterator)
        hearing = asyncio.create_task(self._hear(session_id, request_iterator))
        try:
            async for update in self._watch(session_id, request.watch, context):
                if hearing.done():
                    await abort(context, Refusal(Reason.FEED_SESSION_UNKNOWN, "there is no such feed session"))
                yield update
        finally:
            hearing.cancel()

    async def _hear(self, session_id: str, requests: AsyncIterator[pb.FollowRevocationsRequest]) -> None:
        async for request in requests:
            if session_id not in self.sessions:
                return
            if self.confirms:
                said = request.applied
                self.confirmed.append(said.index)
                confirmed = pb.Confirmed(number=said.number, freshness=duration_to_wire(self._granted(said.index)))
                answer = self._update(session_id, (), confirmed=confirmed)
                if self.held is None:
                    self.sessions[session_id].put_nowait(answer)
                else:
                    self.held.append((self.sessions[session_id], answer))

    def _granted(self, index: int) -> timedelta:
        granted = self.freshness if self.grants is None else self.grants
        return granted if index >= self.index else timedelta(0)

    async def _watch(
        self, session_id: str, request: pb.WatchRevocationsRequest, context: Any
    ) -> AsyncIterator[pb.RevocationUpdate]:
        resume = request.resume_index if request.HasField("resume_index") else None
        self.watched.append(resume)
        if self.refusal is not None:
            await abort(context, self.refusal)
        queue = self.sessions[session_id] = asyncio.Queue()
        snapshot = resume is None or resume > self.index
        found = [rule for rule in self.rules if resume is None or snapshot or rule.index > resume]
        chunks = [found[start : start + self.chunk] for start in range(0, len(found), self.chunk)] or [[]]
        for number, chunk in enumerate(chunks, 1):
            first, last = number == 1, number == len(chunks)
            yield self._update(session_id, chunk, snapshot=snapshot and first, keys_changed=first, more=not last)
            await asyncio.sleep(0 if last else self.heartbeat)
        while True:
            try:
                yield await asyncio.wait_for(queue.get(), self.heartbeat)
            except TimeoutError:
                yield self._update(session_id, ())

    async def ConfirmRevocations(  # noqa: N802
        self, request: pb.ConfirmRevocationsRequest, context: Any
    ) -> pb.ConfirmRevocationsResponse:
        if request.session_id not in self.sessions:
            await abort(context, Refusal(Reason.FEED_SESSION_UNKNOWN, "there is no such feed session"))
        if not self.confirms:
            await abort(context, Refusal(Reason.UNAVAILABLE, "not now"))
        self.confirmed.append(request.index)
        freshness = duration_to_wire(self._granted(request.index))
        return pb.ConfirmRevocationsResponse(index=request.index, freshness=freshness)

    async def IntrospectCredential(  # noqa: N802
        self, request: pb.IntrospectCredentialRequest, context: Any
    ) -> pb.IntrospectCredentialResponse:
        return pb.IntrospectCredentialResponse(active=False)

    def _update(self, session_id: str, rules: Sequence[RevocationRule], **changes: Any) -> pb.RevocationUpdate:
        return pb.RevocationUpdate(
            session_id=session_id,
            rules=[rule_to_wire(rule) for rule in rules],
            index=self.index if self.told is None else self.told,
            tenant=self.tenant,
            freshness=duration_to_wire(self.freshness),
            send_time=instant_to_wire(system_clock()),
            **changes,
        )


@asynccontextmanager
async def serving(broker: FakeBroker, folder: Path, root: Authority, port: int = 0) -> AsyncIterator[Endpoint]:
    """Serve a fake on loopback; yield the endpoint of a verifier that may call it."""
    server = grpc.aio.server()
    pb_grpc.add_VerifierServiceServicer_to_server(broker, server)
    credentials = server_credentials(write_svid(folder / "broker", root, "spiffe://example.org/broker"))
    bound = server.add_secure_port(f"localhost:{port}", credentials)
    await server.start()
    try:
        yield Endpoint.of(
            f"localhost:{bound}", write_svid(folder / "verifier", root, "spiffe://example.org/verifier/repo")
        )
    finally:
        await server.stop(None)


async def eventually(condition: Any, seconds: float = 60) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (the condition is not ours to signal)
            await asyncio.sleep(0.01)
