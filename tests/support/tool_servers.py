"""Tool servers that are guarded, on real sockets: one speaks HTTP, one gRPC with mutual TLS."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from broker.sdk.guard.grpc import SyncGrpcGuard
from broker.sdk.guard.http import HttpGuard
from broker.sdk.verify.verifier import Verifier
from tests.support.fakes import server_credentials

SERVICE = "acme.Tools"


async def _found(request: Request) -> JSONResponse:
    return JSONResponse({"lease": request.scope["credbroker"].lease_id})


@contextmanager
def http_tools(verifier: Verifier, port: int = 0) -> Iterator[str]:
    """Serve every tool at `/TOOL`; yield the server's address on loopback."""
    tools = Starlette(routes=[Route("/{tool}", _found, methods=["GET", "POST"])])
    guard = HttpGuard(tools, verifier, lambda scope, body: (scope["path"].strip("/"), body or {}))
    listener = socket.create_server(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(guard, log_config=None, lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
        listener.close()


@contextmanager
def grpc_tools(verifier: Verifier, svid: Path) -> Iterator[str]:
    """Serve the method `/acme.Tools/TOOL`, whose messages are JSON, with mutual TLS; yield the server's address."""

    def serve(_request: bytes, _context: object) -> bytes:
        return b"{}"

    def arguments(request: Any) -> object:
        return json.loads(request or b"{}")

    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        tool: grpc.unary_unary_rpc_method_handler(serve) for tool in ("search_notes", "read_file", "delete_repo")
    }
    with futures.ThreadPoolExecutor(4) as pool:
        guard = SyncGrpcGuard(verifier, tool=lambda method: method.rpartition("/")[2], arguments=arguments)
        server = grpc.server(pool, interceptors=[guard])
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        port = server.add_secure_port("localhost:0", server_credentials(svid))
        server.start()
        try:
            yield f"localhost:{port}"
        finally:
            server.stop(None).wait()
