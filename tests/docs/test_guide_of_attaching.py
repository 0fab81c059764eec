"""The examples of the page on attaching credentials, run as they stand there, and what else the adapters promise."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from broker.cli.demo.mcp_story import set_up
from broker.cli.demo.stage import Stage
from broker.model.grant import Grant, ResourceGrants
from broker.model.task import Declaration, Environment
from broker.sandbox.broker import prepare, running
from broker.sandbox.ports import free_port
from broker.sdk.client.client import Client
from broker.sdk.connect.endpoint import ADDRESS_VARIABLE, SVID_DIR_VARIABLE, Endpoint
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching
from tests.support import mcp1
from tests.support.tool_servers import grpc_tools, http_tools

ROOT = Path(__file__).parent.parent.parent
HTTP, GRPC, LANGCHAIN, OPENAI = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "how-to" / "attach-credentials.md").read_text(), re.DOTALL
)
MCP = "https://notes.example/mcp"


def example(text: str, **urls: str) -> dict[str, Any]:
    for written, meant in urls.items():
        assert written in text
        text = text.replace(written, meant)
    found: dict[str, Any] = {}
    exec(compile(text, "example.py", "exec"), found)
    return found


async def test_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment, notes = prepare(tmp_path), f"http://127.0.0.1:{free_port()}"
    for path in (deployment.configuration, tmp_path / "bundle" / "tools.toml"):
        path.write_text(path.read_text().replace("https://notes.tools.example", notes))
    svids = deployment.svids
    monkeypatch.setenv(SVID_DIR_VARIABLE, str(svids / "researcher"))
    with running(tmp_path) as broker:
        monkeypatch.setenv(ADDRESS_VARIABLE, broker.address)
        async with Client(svid_dir=svids / "orchestrator") as orchestrator:
            task = await orchestrator.create_task(declared(notes, "search_notes", broker.resource, "read_file"))
        endpoint = Endpoint.of(broker.address, svids / "notes")
        with (
            watching(Verifier(notes), endpoint) as verifier,
            http_tools(verifier, int(notes.rpartition(":")[2])),
        ):
            assert "lease" in await example(HTTP, **{"https://notes.example": notes})["search"](task.id)
        own = svids / "researcher"
        tls = grpc.ssl_channel_credentials(*(read(own / name) for name in ("bundle.pem", "key.pem", "svid.pem")))
        endpoint = Endpoint.of(broker.address, svids / "verifier")
        with (
            watching(Verifier(broker.resource), endpoint) as verifier,
            grpc_tools(verifier, svids / "verifier") as address,
        ):
            assert example(GRPC)["read_file"](task.id, address, tls, b"{}") == b"{}"


def declared(*pairs: str) -> Declaration:
    return Declaration(
        owner="team-web",
        purpose="triage",
        environment=Environment.DEV,
        agents=["spiffe://example.org/agent/researcher"],
        tools=[ResourceGrants(uri, (Grant(tool),)) for uri, tool in zip(pairs[::2], pairs[1::2], strict=True)],
        deadline=timedelta(minutes=10),
        risk_threshold=60,
    )


def read(path: Path) -> bytes:
    return path.read_bytes()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Open the stage of the demo's MCP story, for clients that find everything in the environment."""
    with set_up(tmp_path) as found:
        monkeypatch.setenv(ADDRESS_VARIABLE, found.about["address"])
        monkeypatch.setenv(SVID_DIR_VARIABLE, found.about["svids"]["researcher"])
        monkeypatch.setenv("SSL_CERT_FILE", str(Path(found.about["svids"]["researcher"]) / "bundle.pem"))
        yield found


def leases(stage: Stage) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stage.cli("operator", "lease", "list")["leases"]
    return found


def test_langchain(stage: Stage, tmp_path: Path) -> None:
    begun = stage.actors["orchestrator"].ask(
        "begin",
        agents=["spiffe://example.org/agent/researcher"],
        tools=[f"{stage.resource}#search_notes"],
        constraints=[],
    )
    program = tmp_path / "langchain_example.py"
    calls = f"\nimport asyncio\nprint(asyncio.run(search({begun['task_id']!r})))\n"
    program.write_text(LANGCHAIN.replace(MCP, stage.resource) + calls)
    done = subprocess.run(
        mcp1.command(program), capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ)
    )
    assert "10 notes on leases" in done.stdout, done.stderr
    found = leases(stage)
    assert len(found) == 2, "one to list the tools, and one for the call"
    assert "live" not in {lease["state"] for lease in found}


async def test_openai_agents(stage: Stage) -> None:
    from tests.support.scripted_model import Scripted, calls, says  # noqa: PLC0415 (what it needs takes seconds)

    model = Scripted(calls("search_notes", about="leases", limit=3), calls("transfer_to_editor"), says("three notes"))
    ask = example(OPENAI, **{MCP: stage.resource})["ask"]
    async with Client(svid_dir=stage.about["svids"]["orchestrator"]) as orchestrator, Client() as client:
        assert await ask("what is there?", model, orchestrator, client) == "three notes"
        assert "3 notes on leases" in model.told[1]
        assert model.offered[0] == ["search_notes"]
        assert [lease["state"] == "live" for lease in leases(stage)] == [False]
        tasks = stage.cli("orchestrator", "task", "list")["tasks"]
        assert [task["state"] for task in tasks] == ["completed"]
        with pytest.raises(ValueError, match="the model is gone"):
            await ask("and now?", Scripted(ValueError("the model is gone")), orchestrator, client)
        tasks = stage.cli("orchestrator", "task", "list")["tasks"]
        assert sorted(task["state"] for task in tasks) == ["completed", "failed"]
        assert "live" not in {lease["state"] for lease in leases(stage)}
