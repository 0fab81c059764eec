"""The examples of the pages on MCP servers and clients, run as they stand there, with the demo's broker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client

from broker.cli.demo.mcp_story import SCENES, set_up
from broker.cli.demo.scene import Scene, play
from broker.cli.demo.stage import Stage
from broker.sdk.connect.endpoint import ADDRESS_VARIABLE, SVID_DIR_VARIABLE
from broker.sdk.guard.mcp.stdio import TOKEN_FILE_VARIABLE
from tests.support.pages import blocks, section

ROOT = Path(__file__).parent.parent.parent
MCP = "https://notes.example/mcp"
CLIENTS = ROOT / "docs" / "how-to" / "connect-an-mcp-client.md"
SERVE = ROOT / "tests" / "mcp" / "stories" / "as_documented.py"
GUARD, CORS, MIDDLEWARE, FASTMCP, STDIO = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "how-to" / "guard-an-mcp-server.md").read_text(), re.DOTALL
)


def serving(folder: Path, example: str) -> list[str]:
    """Return the command that serves an example, with the URLs of its arguments in place of those written."""
    for written, meant in (
        ('"https://notes.example/mcp"', "sys.argv[2]"),
        ('"https://notes.example"', 'sys.argv[2].removesuffix("/mcp")'),
        ('"https://broker.example.org"', "sys.argv[3]"),
        ('"https://broker.example.org/acme"', "sys.argv[3]"),
    ):
        example = example.replace(written, meant)
    (folder / "example.py").write_text(f"import sys\n{example}")
    return [sys.executable, str(SERVE), str(folder / "example.py")]


def otherwise(stage: Stage, scenes: Sequence[Scene]) -> list[tuple[str, str, str]]:
    """Return what is not as told."""
    return [(seen.scene.name, seen.observed, seen.detail) for seen in play(stage, scenes) if not seen.ok]


@pytest.mark.parametrize("example", [GUARD, f"{GUARD}\n{CORS}"], ids=["alone", "behind CORS"])
def test_the_gate_goes_the_same_way(tmp_path: Path, example: str) -> None:
    with set_up(tmp_path, notes=serving(tmp_path, example)) as stage:
        assert otherwise(stage, SCENES) == []


@pytest.mark.parametrize("example", [MIDDLEWARE, FASTMCP], ids=["mcp", "FastMCP"])
def test_middleware_refuses_the_same_and_nobody_asks_for_more(tmp_path: Path, example: str) -> None:
    differs = {
        "step_up_denied": "TOOL_NOT_GRANTED",
        "tool_refused": "TOOL_NOT_GRANTED",
        "ledger_has_it_all": "TASK_NOT_FOUND",
    }
    scenes = [replace(scene, expected=differs.get(scene.name, scene.expected)) for scene in SCENES]
    with set_up(tmp_path, notes=serving(tmp_path, example)) as stage:
        assert otherwise(stage, scenes) == []


async def test_over_standard_input_the_token_is_that_of_the_environment(tmp_path: Path) -> None:
    with set_up(tmp_path) as stage:
        assert otherwise(stage, SCENES[:1]) == []
        options = ["--task", stage.task_id, "--tool", f"{stage.resource}#search_notes"]
        stage.cli("researcher", "credential", "issue", *options, "--out", str(tmp_path / "token"))
        (tmp_path / "example.py").write_text(STDIO.replace("https://notes.example/mcp", stage.resource))
        environment = {
            **os.environ,
            ADDRESS_VARIABLE: stage.about["address"],
            SVID_DIR_VARIABLE: stage.about["svids"]["notes"],
            TOKEN_FILE_VARIABLE: str(tmp_path / "token"),
        }
        server = StdioServerParameters(command=sys.executable, args=[str(tmp_path / "example.py")], env=environment)
        async with Client(stdio_client(server)) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["search_notes"]
            found = await client.call_tool("search_notes", {"about": "leases", "limit": 7})
            assert found.structured_content == {"result": "7 notes on leases"}
            with pytest.raises(MCPError, match="ARGUMENT_OUT_OF_BOUNDS"):
                await client.call_tool("search_notes", {"about": "leases", "limit": 70})
            stage.actors["orchestrator"].ask("end", task_id=stage.task_id)
            with pytest.raises(MCPError, match="TOKEN_REVOKED"):
                await client.call_tool("search_notes", {"about": "leases", "limit": 7})


def test_the_python_client_of_the_page_about_clients(tmp_path: Path) -> None:
    (example,) = (block.text for block in blocks(section(CLIENTS)) if block.language == "python")
    with set_up(tmp_path) as stage:
        assert otherwise(stage, SCENES[:1]) == []
        issuer = re.search(r'^issuer = "(.*)"', (tmp_path / "broker.toml").read_text(), re.MULTILINE)
        assert issuer
        for written, meant in ((MCP, stage.resource), ("https://broker.example.org", issuer[1])):
            assert written in example
            example = example.replace(written, meant)
        (tmp_path / "client.py").write_text(example)
        (tmp_path / "identity.jwt").symlink_to(tmp_path / "researcher.jwt")
        roots = {"SSL_CERT_FILE": str(tmp_path / "svids" / "researcher" / "bundle.pem")}
        done = subprocess.run(
            [sys.executable, "client.py"],
            cwd=tmp_path,
            env={**os.environ, **roots},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.stdout == "['search_notes']\n{'result': '10 notes on leases'}\n", done.stderr
