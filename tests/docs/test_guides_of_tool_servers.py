"""The guides on services of one's own, word by word: HTTP and gRPC behind their guards."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from broker.sandbox.ports import free_port
from tests.support.pages import ROOT, blocks, section
from tests.support.terminal import developing, open_elsewhere, typed

DECLARED = """--owner o --purpose p --environment dev --lifetime 1h \\
    --agent spiffe://example.org/agent/researcher --tool 'https://repo.tools.example#read_file'"""
GUIDES = ROOT / "docs" / "how-to"
PROTO = """
syntax = "proto3";
package repo;
service Repo {
  rpc ReadFile(ReadFileRequest) returns (ReadFileResponse);
  rpc DeleteRepo(ReadFileRequest) returns (ReadFileResponse);
}
message ReadFileRequest {
  string repo = 1;
  string path = 2;
}
message ReadFileResponse {
  string text = 1;
}
"""
CALL = """
async def main() -> None:
    async with grpc.aio.secure_channel("localhost:9443", grpc.ssl_channel_credentials(*PEMS)) as channel:
        await channel.channel_ready()
        await read(TASK, channel)

import os, sys
from pathlib import Path
SVID, TASK = Path(os.environ["CREDBROKER_SVID_DIR"]), sys.argv[1]
PEMS = [(SVID / name).read_bytes() for name in ("bundle.pem", "key.pem", "svid.pem")]
asyncio.run(main())
"""


def test_an_http_service(tmp_path: Path) -> None:
    broker, notes = free_port(), free_port()
    text = section(GUIDES / "guard-an-http-service.md").replace("8443", str(broker)).replace("9000", str(notes))
    program, serve, call = [block for block in blocks(text) if block.language in ("python", "console")]
    (tmp_path / program.saved_as).write_text(program.text)
    path = f"export PATH={Path(sys.executable).parent}:$PATH"
    wait = f"until curl -s localhost:{notes}/; do sleep 0.2; done"
    with developing(tmp_path, broker), open_elsewhere(tmp_path, [path, *serve.commands()]):
        printed = typed(tmp_path, [path, wait, *call.commands()])
    allowed, refused = (output for command, output in printed if "search_notes -H" in command)
    shown = [line for line in call.text.splitlines() if line.startswith("{")]
    assert allowed.strip() == shown[0]
    assert json.loads(refused)["reason"] == "ARGUMENT_OUT_OF_BOUNDS"
    assert json.loads(refused)["message"] in shown[1]


def test_a_grpc_service(tmp_path: Path) -> None:
    broker, repo = free_port(), free_port()
    serve, call = (
        block.text.replace("9443", str(repo))
        for block in blocks(section(GUIDES / "guard-a-grpc-service.md"))
        if block.language == "python"
    )
    (tmp_path / "repo.proto").write_text(PROTO)
    compile_it = ["grpc_tools.protoc", "-I.", "--python_out=.", "--grpc_python_out=.", "repo.proto"]
    subprocess.run([sys.executable, "-m", *compile_it], cwd=tmp_path, check=True)
    (tmp_path / "server.py").write_text(serve)
    (tmp_path / "client.py").write_text(call + CALL.replace("9443", str(repo)))
    at = f"export CREDBROKER_ADDRESS=localhost:{broker} PATH={Path(sys.executable).parent}:$PATH"
    begin = [
        at,
        "export CREDBROKER_SVID_DIR=broker-dev/svids/orchestrator",
        f"credbroker task create {DECLARED} -o json > task.json",
        """export TASK=$(python -c 'import json; print(json.load(open("task.json"))["task_id"])')""",
    ]
    holder = "CREDBROKER_SVID_DIR=broker-dev/svids/researcher"
    with developing(tmp_path, broker), open_elsewhere(tmp_path, [at, "python server.py"]):
        printed = typed(tmp_path, [*begin, f"{holder} python client.py $TASK"])
    assert printed[-1][1].strip() == "acme/web:README.md"
