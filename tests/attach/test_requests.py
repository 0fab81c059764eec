"""Credentials on the requests of httpx, httpx2 and gRPC, from a real broker to guarded servers on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import httpx
import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import RedirectResponse
from starlette.routing import Route

from broker.credential.keys import EcSigner
from broker.model.grant import Grant
from broker.sdk.attach import httpx as for_httpx
from broker.sdk.attach import httpx2 as for_httpx2
from broker.sdk.attach.grpc import call_credentials
from broker.sdk.client.client import Client
from broker.sdk.client.secret import Secret
from broker.sdk.client.sync import SyncClient
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching
from tests.support.facade import NOTES, REPO, RESEARCHER, VAULT, Facade, opened
from tests.support.tool_servers import SERVICE, grpc_tools, http_tools

PACKAGES = pytest.mark.parametrize(("package", "attach"), [(httpx, for_httpx), (httpx2, for_httpx2)], ids=["1", "2"])
SEARCH = [Grant("search_notes")]


@pytest.fixture(scope="module")
def facade(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facade]:
    with opened(tmp_path_factory.mktemp("facade")) as found:
        yield found


@pytest.fixture(scope="module")
def serve(facade: Facade) -> Iterator[Callable[[str, bytes], tuple[Verifier, str]]]:
    """Serve a resource over HTTP; give its verifier and its address."""
    endpoint = Endpoint.of(facade.broker.address, facade.broker.svids / "verifier")
    with ExitStack() as stack:

        def serve(resource: str, nonce_key: bytes = b"") -> tuple[Verifier, str]:
            verifier = stack.enter_context(watching(Verifier(resource, nonce_key=nonce_key), endpoint))
            return verifier, stack.enter_context(http_tools(verifier))

        yield serve


def whose(facade: Facade, key: EcSigner | None = None) -> dict[str, Any]:
    svid = facade.broker.svids / "researcher"
    return {"address": facade.broker.address, "svid_dir": svid, "holder_key": key, "issuer": facade.url}


@PACKAGES
@pytest.mark.parametrize("resource", [NOTES, VAULT])
def test_threads_call_with_it(facade: Facade, serve: Any, package: Any, attach: Any, resource: str) -> None:
    _, address = serve(resource)
    key = EcSigner.generate() if resource == VAULT else None
    with (
        SyncClient(**whose(facade, key)) as client,
        client.credential(facade.begin(RESEARCHER), resource, SEARCH) as credential,
        package.Client(base_url=address, auth=attach.CredentialAuth(credential, at=address), trust_env=False) as http,
    ):
        for _ in range(3):
            assert http.post("/search_notes?a=b", json={"limit": 1}).json() == {"lease": credential.lease_id}
        assert http.post("/add_note", json={}).status_code == 403
        credential.token = Secret("not.a.token")
        assert http.post("/search_notes", json={"limit": 1}).status_code == 401


@PACKAGES
async def test_a_server_that_wants_its_nonce_gets_it(facade: Facade, serve: Any, package: Any, attach: Any) -> None:
    _, address = serve(VAULT, b"k" * 32)
    async with (
        Client(**whose(facade, EcSigner.generate())) as client,
        client.credential(facade.begin(RESEARCHER), VAULT, SEARCH) as credential,
        package.AsyncClient(
            base_url=address, auth=attach.CredentialAuth(credential, at=address), trust_env=False
        ) as http,
    ):
        for _ in range(2):
            assert (await http.post("/search_notes", json={})).json() == {"lease": credential.lease_id}


@PACKAGES
async def test_a_token_that_was_renewed_meanwhile_is_tried_once(
    facade: Facade, serve: Any, package: Any, attach: Any
) -> None:
    _, address = serve(NOTES)
    async with Client(**whose(facade)) as client:
        old = await client.issue(task := facade.begin(RESEARCHER), NOTES, SEARCH)
        new = await client.issue(task, NOTES, SEARCH)
        old.token = Secret("not.a.token")
        credentials = iter([old, new, new])
        auth = attach.CredentialAuth(lambda: next(credentials), at=address)
        async with package.AsyncClient(base_url=address, auth=auth, trust_env=False) as http:
            assert (await http.post("/search_notes", json={"limit": 1})).json() == {"lease": new.lease_id}


@PACKAGES
async def test_no_other_origin_gets_it(facade: Facade, serve: Any, package: Any, attach: Any) -> None:
    """Neither when it is asked directly, nor by a redirect."""
    _, address = serve(NOTES)
    seen: list[str | None] = []

    async def elsewhere(request: Any) -> RedirectResponse:
        seen.append(request.headers.get("authorization"))
        return RedirectResponse(f"{address}/search_notes", status_code=307)

    server = uvicorn.Server(
        uvicorn.Config(Starlette(routes=[Route("/", elsewhere, methods=["POST"])]), port=0, log_config=None)
    )
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    other = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    async with (
        Client(**whose(facade)) as client,
        client.credential(facade.begin(RESEARCHER), NOTES, SEARCH) as credential,
        package.AsyncClient(auth=attach.CredentialAuth(credential, at=address), trust_env=False) as http,
    ):
        answer = await http.post(other, json={"limit": 1}, follow_redirects=True)
        assert (answer.status_code, seen) == (401, [None])
        for url in (address.replace("http:", "https:"), address.replace("127.0.0.1", "127.0.0.1.nip.example")):
            flow = attach.CredentialAuth(credential, at=address).auth_flow(package.Request("POST", url))
            assert "authorization" not in next(flow).headers
    server.should_exit = True
    await task


def raw(channel: grpc.Channel, method: str) -> grpc.UnaryUnaryMultiCallable[bytes, bytes]:
    return channel.unary_unary(method)


@pytest.mark.parametrize("bound", [False, True])
def test_grpc_calls_carry_it(facade: Facade, bound: bool) -> None:
    resource, tool = (VAULT, "search_notes") if bound else (REPO, "read_file")
    svids = facade.broker.svids
    endpoint = Endpoint.of(facade.broker.address, svids / "verifier")
    own = svids / "researcher"
    tls = grpc.ssl_channel_credentials(*((own / name).read_bytes() for name in ("bundle.pem", "key.pem", "svid.pem")))
    with (
        watching(Verifier(resource), endpoint) as verifier,
        grpc_tools(verifier, svids / "verifier") as address,
        SyncClient(**whose(facade, EcSigner.generate() if bound else None)) as client,
        client.credential(facade.begin(RESEARCHER), resource, [Grant(tool)]) as credential,
    ):
        secured = grpc.composite_channel_credentials(tls, call_credentials(credential))
        with grpc.secure_channel(address, secured) as channel:
            granted, other = (raw(channel, f"/{SERVICE}/{name}") for name in (tool, "delete_repo"))
            for _ in range(2):  # with a proof of its own each time
                assert granted(b"{}", timeout=60) == b"{}"
            with pytest.raises(grpc.RpcError) as refused:
                other(b"{}", timeout=60)
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
