"""One of the demo's agents: gets credentials, and calls tools with them. No token leaves it, but by `leak`.

python -m broker.cli.demo.agent REPO_ADDRESS NOTES_ADDRESS
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from datetime import timedelta
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import HTTPSHandler, Request, build_opener

import grpc

from broker.cli.demo.lines import converse
from broker.disk import files
from broker.sdk import Client, Endpoint, Grant, Reason, Refusal
from broker.sdk.client.secret import Secret
from broker.sdk.connect.connection import connect
from broker.sdk.connect.refusals import refusal_from
from broker.system import system_clock

_CALL_SECONDS = 5


class Agent:
    """Tokens by the name that the demo gives them, and the two tool servers."""

    def __init__(self, client: Client, repo: grpc.aio.Channel, notes: str) -> None:
        """Make an agent without any credential."""
        self._client = client
        self._repo = repo
        self._notes = notes
        self._tokens: dict[str, Secret] = {}

    async def issue(
        self, name: str, task_id: str, resource: str, tools: list[str], seconds: int | None = None, words: str = ""
    ) -> dict[str, object]:
        """Ask the broker for a credential, and keep its token as `name`."""
        credential = await self._client.issue(
            task_id,
            resource,
            [Grant(tool) for tool in tools],
            lifetime=None if seconds is None else timedelta(seconds=seconds),
            explanation=words,
        )
        self._tokens[name] = credential.token
        left = (credential.expires_at - system_clock()) / timedelta(seconds=1)
        return {"lease_id": credential.lease_id, "seconds_left": left}

    async def call_repo(self, token: str, tool: str, arguments: dict[str, object]) -> object:
        """Call a tool of the gRPC server, over mutual TLS."""
        call: grpc.aio.UnaryUnaryMultiCallable[dict[str, object], dict[str, object]] = self._repo.unary_unary(
            f"/demo.Repo/{tool}", lambda value: json.dumps(value).encode(), json.loads
        )
        metadata = (("authorization", f"Bearer {self._tokens[token].reveal()}"),)
        try:
            return (await call(arguments, metadata=metadata, timeout=_CALL_SECONDS))["result"]
        except grpc.aio.AioRpcError as error:
            raise refusal_from(error) from None

    async def call_notes(self, token: str, tool: str, arguments: dict[str, object]) -> object:
        """Call a tool of the HTTP server, over TLS."""
        headers = {"Authorization": f"Bearer {self._tokens[token].reveal()}", "Content-Type": "application/json"}
        request = Request(f"{self._notes}/{tool}", json.dumps(arguments).encode(), headers)  # noqa: S310 (https)
        return await asyncio.to_thread(_post, request)

    async def leak(self, token: str, path: str) -> None:
        """Lose a token, as agents do, into a file."""
        await asyncio.to_thread(files.replace, Path(path), self._tokens[token].reveal().encode())

    async def steal(self, name: str, path: str) -> None:
        """Find somebody's token, and keep it as `name`."""
        self._tokens[name] = Secret(await asyncio.to_thread(Path(path).read_text, "utf-8"))


def _post(request: Request) -> object:
    roots = Endpoint.of().svid_dir / "bundle.pem"
    opener = build_opener(HTTPSHandler(context=ssl.create_default_context(cafile=str(roots))))
    try:
        with opener.open(request, timeout=_CALL_SECONDS) as response:
            return json.load(response)["result"]
    except HTTPError as error:
        with error:
            problem = json.load(error)
        raise Refusal(Reason(problem["reason"]), problem["message"]) from None


async def main(repo: str, notes: str) -> None:
    """Do what the demo asks; the broker and the SVID come from the environment."""
    async with Client() as client, connect(repo) as channel:
        agent = Agent(client, channel, notes)
        does = (agent.issue, agent.call_repo, agent.call_notes, agent.leak, agent.steal)
        await converse({handler.__name__: handler for handler in does})


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
