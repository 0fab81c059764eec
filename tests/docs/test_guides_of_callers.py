"""The guides on calling with a token, and from GitHub Actions, word by word, at a broker with all its doors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from broker.v1 import operator_service_pb2 as pb
from tests.support.facade import JOB, NOTES, RESEARCHER, Facade, opened
from tests.support.pages import ROOT, blocks, section
from tests.support.terminal import environment

GUIDE = ROOT / "docs" / "how-to" / "call-with-a-token.md"
ACTIONS = ROOT / "docs" / "how-to" / "call-from-github-actions.md"


@contextmanager
def runner(facade: Facade) -> Iterator[str]:
    """Answer as GitHub answers a job that asks who it is, with a token of the issuer that is trusted here."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["authorization"] == "Bearer of-the-job"
            asked = parse_qs(urlsplit(self.path).query).get("audience") == [facade.url]
            self.send_response(200 if known and asked else 403)
            self.end_headers()
            self.wfile.write(json.dumps({"value": facade.workload()}).encode())

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output to the test."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/?api-version=2"
        finally:
            server.shutdown()
            thread.join()


def test_ask_over_http_and_over_grpc(tmp_path: Path) -> None:
    over_http, over_grpc = (block.commands() for block in blocks(section(GUIDE, "Ask")) if block.language == "console")
    with opened(tmp_path) as facade:
        facade.begin(JOB, RESEARCHER)
        roots = tmp_path / "roots.pem"
        roots.write_bytes(facade.roots)
        known = {"CURL_CA_BUNDLE": str(roots), "WORKLOAD_TOKEN": facade.workload()}
        (command,) = (command.replace("https://broker.example.org", facade.url) for command in over_http)
        done = subprocess.run(
            ["bash", "-ec", command], env=environment() | known, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert (answer["scope"], answer["authorization_details"][0]["locations"]) == ("tool:search_notes", [NOTES])
        (tmp_path / "token").write_text(facade.jwt_svid())
        here = {
            "broker.example.org:8444": facade.broker.jwt_address,
            "/var/run/secrets/kubernetes.io/serviceaccount/token": str(tmp_path / "token"),
            "/var/run/secrets/credbroker/token": str(tmp_path / "token"),
            "/etc/credbroker/roots.pem": str(roots),
        }
        script = "\n".join(over_grpc)
        for written, meant in here.items():
            script = script.replace(written, meant)
        issue = f"credential issue --task $TASK --tool '{NOTES}#search_notes' --out {tmp_path}/out"
        told = subprocess.run(
            ["bash", "-ec", f"{script}\n{sys.executable} -m broker {issue}"],
            env=environment() | {"TASK": facade.begin(RESEARCHER)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.returncode == 0, told.stderr
        assert (tmp_path / "out").read_text().startswith("eyJ")


def test_a_workflow_gets_its_credential_and_gives_it_back(tmp_path: Path) -> None:
    (workflow,) = (block.text for block in blocks(section(ACTIONS)) if block.language == "yaml")
    get, _work, give_back = map(textwrap.dedent, re.findall(r"run: \|\n((?: {10}.*\n)+)", workflow))
    with opened(tmp_path) as facade, runner(facade) as url:
        (tmp_path / "roots.pem").write_bytes(facade.roots)
        facade.begin(JOB)
        job = environment() | {
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-the-job",
            "ACTIONS_ID_TOKEN_REQUEST_URL": url,
            "RUNNER_TEMP": str(tmp_path),
            "BROKER": facade.url,
            "NOTES": NOTES,
            "CURL_CA_BUNDLE": str(tmp_path / "roots.pem"),
        }
        states = []
        for step in (get, give_back):
            done = subprocess.run(["bash", "-eo", "pipefail", "-c", step], env=job, capture_output=True, check=False)
            assert done.returncode == 0, done.stderr
            assert done.stdout == b"", "a token in the log of a job is everybody's"
            answer = facade.doors.call("operator", "OperatorService.ListLeases", pb.ListLeasesRequest(live_only=True))
            states.append([lease.holder for lease in answer.leases])
        assert states == [[JOB], []]
