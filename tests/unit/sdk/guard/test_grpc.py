"""The guard lets a call through to its handler only if the verifier does: real servers, real mutual TLS."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent import futures
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from broker.credential import jose
from broker.credential.keys import EcSigner
from broker.model.errors import Reason
from broker.model.grant import Constraint, Grant, Operator
from broker.model.lease import Binding
from broker.sandbox.certificates import Authority
from broker.sdk.connect.connection import connect_sync
from broker.sdk.connect.refusals import refusal_from
from broker.sdk.guard.grpc import GrpcGuard, SyncGrpcGuard
from broker.sdk.verify.verifier import Verifier
from broker.system import system_clock
from broker.v1 import agent_service_pb2 as pb
from tests.support.credentials import HOLDER, believing, good_now
from tests.support.fakes import authority, server_credentials, write_svid

AUDIENCE = "https://repo.tools.example"
SERVICE = "acme.Repo"
TOOLS = {"/acme.Repo/Release": "release", "/acme.Repo/Watch": "watch", "/acme.Repo/Upload": "upload"}
SIGNER = EcSigner.generate()
Call = Callable[..., Any]


@pytest.fixture(scope="module")
def root() -> Authority:
    return authority()


@pytest.fixture
def verifier() -> Verifier:
    return believing(SIGNER, Verifier(AUDIENCE))


def token(**changes: Any) -> str:
    grants = (Grant("release", (Constraint("/lease_id", Operator.EQ, ("l-9",)),)), Grant("watch"))
    claims = good_now(AUDIENCE, grants, Binding.IDENTITY)
    return jose.encode(replace(claims, **changes), SIGNER)


def tool_of(method: str) -> str | None:
    return None if method.endswith("/Health") else TOOLS.get(method, method)


def handlers(unary: Call, stream: Call, reached: list[str]) -> grpc.GenericRpcHandler:
    forms: dict[str, Any] = {
        "request_deserializer": pb.ReleaseCredentialRequest.FromString,
        "response_serializer": pb.ReleaseCredentialResponse.SerializeToString,
    }
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Release": grpc.unary_unary_rpc_method_handler(unary, **forms),
            "Health": grpc.unary_unary_rpc_method_handler(unary, **forms),
            "Unnamed": grpc.unary_unary_rpc_method_handler(unary, **forms),
            "Watch": grpc.unary_stream_rpc_method_handler(stream, **forms),
            "Upload": grpc.stream_unary_rpc_method_handler(lambda requests, context: reached.append("Upload"), **forms),
        },
    )


@asynccontextmanager
async def aio_server(verifier: Verifier, folder: Path, root: Authority, reached: list[str]) -> AsyncIterator[str]:
    async def unary(request: pb.ReleaseCredentialRequest, context: object) -> pb.ReleaseCredentialResponse:
        reached.append(request.lease_id)
        return pb.ReleaseCredentialResponse(index=1)

    async def stream(request: object, context: object) -> AsyncIterator[pb.ReleaseCredentialResponse]:
        reached.append("Watch")
        for index in range(3):
            yield pb.ReleaseCredentialResponse(index=index)

    server = grpc.aio.server(interceptors=[GrpcGuard(verifier, tool=tool_of)])
    server.add_generic_rpc_handlers((handlers(unary, stream, reached),))
    svid = write_svid(folder / "server", root, "spiffe://example.org/tool/repo")
    port = server.add_secure_port("localhost:0", server_credentials(svid))
    await server.start()
    try:
        yield f"localhost:{port}"
    finally:
        await server.stop(None)


@contextmanager
def sync_server(verifier: Verifier, folder: Path, root: Authority, reached: list[str]) -> Iterator[str]:
    def unary(request: pb.ReleaseCredentialRequest, context: object) -> pb.ReleaseCredentialResponse:
        reached.append(request.lease_id)
        return pb.ReleaseCredentialResponse(index=1)

    def stream(request: object, context: object) -> Iterator[pb.ReleaseCredentialResponse]:
        reached.append("Watch")
        yield from (pb.ReleaseCredentialResponse(index=index) for index in range(3))

    with futures.ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, interceptors=[SyncGrpcGuard(verifier, tool=tool_of)])
        server.add_generic_rpc_handlers((handlers(unary, stream, reached),))
        svid = write_svid(folder / "server", root, "spiffe://example.org/tool/repo")
        port = server.add_secure_port("localhost:0", server_credentials(svid))
        server.start()
        yield f"localhost:{port}"
        server.stop(None).wait()


def ask(channel: Any, method: str, *credentials: str, lease_id: str = "l-9") -> Any:
    forms: dict[str, Any] = {
        "request_serializer": pb.ReleaseCredentialRequest.SerializeToString,
        "response_deserializer": pb.ReleaseCredentialResponse.FromString,
    }
    path = f"/{SERVICE}/{method}"
    metadata = [("authorization", credential) for credential in credentials]
    request = pb.ReleaseCredentialRequest(lease_id=lease_id)
    if method == "Watch":
        return [answer.index for answer in channel.unary_stream(path, **forms)(request, metadata=metadata, timeout=60)]
    if method == "Upload":
        return channel.stream_unary(path, **forms)(iter([request]), metadata=metadata, timeout=60)
    return channel.unary_unary(path, **forms)(request, metadata=metadata, timeout=60).index


def reason_of(call: Callable[[], object]) -> Reason:
    with pytest.raises(grpc.RpcError) as failed:
        call()
    return refusal_from(failed.value).reason


def check_all(address: str, folder: Path, root: Authority, reached: list[str]) -> None:
    """Go through everything that a guard must let through or refuse."""
    svid = write_svid(folder / "agent", root, HOLDER)
    with connect_sync(address, svid) as channel:
        good = f"Bearer {token()}"
        assert ask(channel, "Release", good) == 1
        assert ask(channel, "Watch", good) == [0, 1, 2]
        assert ask(channel, "Health") == 1
        assert reached == ["l-9", "Watch", "l-9"]
        reached.clear()

        refusals = {
            Reason.TOKEN_INVALID: [
                lambda: ask(channel, "Release"),
                lambda: ask(channel, "Release", good, good),
                lambda: ask(channel, "Release", "Basic eDp5"),
                lambda: ask(channel, "Release", "Bearer "),
                lambda: ask(channel, "Release", good[:-4]),
                lambda: ask(channel, "Watch"),
            ],
            Reason.TOOL_NOT_GRANTED: [lambda: ask(channel, "Unnamed", good)],
            Reason.ARGUMENT_OUT_OF_BOUNDS: [
                lambda: ask(channel, "Release", good, lease_id="l-10"),
                lambda: ask(channel, "Release", good, lease_id=""),
            ],
            Reason.HOLDER_MISMATCH: [
                lambda: ask(channel, "Release", f"Bearer {token(subject='spiffe://example.org/agent/other')}"),
            ],
            Reason.INVALID_ARGUMENT: [lambda: ask(channel, "Upload", good)],
        }
        for reason, calls in refusals.items():
            assert [reason_of(call) for call in calls] == [reason] * len(calls)
        assert reached == []


async def test_the_asyncio_guard_guards(tmp_path: Path, root: Authority, verifier: Verifier) -> None:
    reached: list[str] = []
    async with aio_server(verifier, tmp_path, root, reached) as address:
        await asyncio.to_thread(check_all, address, tmp_path, root, reached)


def test_the_threaded_guard_guards(tmp_path: Path, root: Authority, verifier: Verifier) -> None:
    reached: list[str] = []
    with sync_server(verifier, tmp_path, root, reached) as address:
        check_all(address, tmp_path, root, reached)


def test_a_stock_client_reads_why(tmp_path: Path, root: Authority, verifier: Verifier) -> None:
    with sync_server(verifier, tmp_path, root, []) as address:
        svid = write_svid(tmp_path / "agent", root, HOLDER)
        with connect_sync(address, svid) as channel, pytest.raises(grpc.RpcError) as failed:
            ask(channel, "Release", f"Bearer {token()}", lease_id="l-10")
    assert failed.value.code() is grpc.StatusCode.PERMISSION_DENIED
    status = rpc_status.from_call(failed.value)  # type: ignore[arg-type]
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("credbroker", "ARGUMENT_OUT_OF_BOUNDS")


def test_all_that_is_wrong_is_told_and_fits_into_what_a_client_takes(
    tmp_path: Path, root: Authority, verifier: Verifier
) -> None:
    many = tuple(Constraint(f"/field_{number}", Operator.EQ, ("\u00e9" * 40,)) for number in range(12))
    grant = Grant("release", (Constraint("/lease_id", Operator.EQ, ("l-9",)), *many))
    with sync_server(verifier, tmp_path, root, []) as address:
        svid = write_svid(tmp_path / "agent", root, HOLDER)
        with connect_sync(address, svid) as channel, pytest.raises(grpc.RpcError) as failed:
            ask(channel, "Release", f"Bearer {token(grants=(grant,))}", lease_id="l-10")
    refusal = refusal_from(failed.value)
    assert refusal.reason is Reason.ARGUMENT_OUT_OF_BOUNDS
    told = [(breach.field, breach.description) for breach in refusal.violations]
    assert told[0] == ("/lease_id", 'must be "l-9"')
    assert "13 constraints are broken in all" in told[-1][1]


def test_a_connection_that_outlives_its_certificate_is_refused(tmp_path: Path, root: Authority) -> None:
    later = believing(SIGNER, Verifier(AUDIENCE, clock=lambda: system_clock() + timedelta(minutes=2)))
    with sync_server(later, tmp_path, root, []) as address:
        svid = write_svid(tmp_path / "agent", root, HOLDER, timedelta(minutes=1))
        with connect_sync(address, svid) as channel:
            assert reason_of(lambda: ask(channel, "Release", f"Bearer {token()}")) is Reason.IDENTITY_EXPIRED


def test_a_stale_verifier_refuses_every_call(tmp_path: Path, root: Authority, verifier: Verifier) -> None:
    verifier.fresh_until(0)
    with sync_server(verifier, tmp_path, root, []) as address:
        svid = write_svid(tmp_path / "agent", root, HOLDER)
        with connect_sync(address, svid) as channel:
            assert reason_of(lambda: ask(channel, "Release", f"Bearer {token()}")) is Reason.VERIFIER_STALE
