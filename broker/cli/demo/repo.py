"""The demo's first tool server: gRPC over mutual TLS, where the TLS peer must be the holder of the credential."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

from broker.cli.demo.lines import converse
from broker.sdk import Endpoint, GrpcGuard, Verifier, watching

RESOURCE = "https://repo.tools.example"

Tool = Callable[[dict[str, Any], grpc.aio.ServicerContext[Any, Any]], Awaitable[dict[str, str]]]


async def _read_file(arguments: dict[str, Any], _context: object) -> dict[str, str]:
    return {"result": f"{arguments['path']} of {arguments['repo']}"}


async def _create_issue(arguments: dict[str, Any], _context: object) -> dict[str, str]:
    return {"result": f"an issue in {arguments['repo']}"}


async def _delete_repo(arguments: dict[str, Any], _context: object) -> dict[str, str]:
    return {"result": f"{arguments['repo']} is gone"}


def _handler(tool: Tool) -> grpc.RpcMethodHandler[Any, Any]:
    return grpc.unary_unary_rpc_method_handler(tool, json.loads, lambda value: json.dumps(value).encode())


def _credentials(svid_dir: Path) -> grpc.ServerCredentials:
    key, chain, roots = ((svid_dir / name).read_bytes() for name in ("key.pem", "svid.pem", "bundle.pem"))
    return grpc.ssl_server_credentials([(key, chain)], roots, require_client_auth=True)


async def main() -> None:
    """Serve until the demo is over; the broker and the SVID come from the environment."""
    endpoint = Endpoint.of()
    tools = {"read_file": _read_file, "create_issue": _create_issue, "delete_repo": _delete_repo}
    async with watching(Verifier(RESOURCE), endpoint) as verifier:
        server = grpc.aio.server(interceptors=[GrpcGuard(verifier, tool=lambda method: method.rpartition("/")[2])])
        handlers = {name: _handler(tool) for name, tool in tools.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("demo.Repo", handlers),))
        port = server.add_secure_port("127.0.0.1:0", _credentials(endpoint.svid_dir))
        await server.start()
        await converse({}, address=f"localhost:{port}")
        await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
