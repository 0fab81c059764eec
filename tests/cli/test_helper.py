"""Credential helpers with a real broker, called by the programs that they are for where those are here."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from broker.cli.private import AGENT_VARIABLES
from broker.cli.unverified import decode
from broker.sandbox.broker import RESOURCE, TOOL, Broker, running

HOST = RESOURCE.removeprefix("https://")
KUBERNETES = "client.authentication.k8s.io"


@dataclass(frozen=True)
class Caller:
    """A program that calls helpers, on behalf of the agent."""

    broker: Broker
    task_id: str

    def command(self, name: str) -> list[str]:
        tool = f"{RESOURCE}#{TOOL}"
        return [sys.executable, "-m", "broker", "helper", name, "--task", self.task_id, "--tool", tool]

    def environment(self, **more: str) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if name not in AGENT_VARIABLES}
        return clean | self.broker.environment("researcher") | more

    def call(self, name: str, **environment: str) -> Any:
        done = subprocess.run(
            self.command(name), capture_output=True, text=True, check=True, env=self.environment(**environment)
        )
        assert done.stderr == ""
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    with running(tmp_path_factory.mktemp("broker")) as broker:
        yield Caller(broker, broker.begin_task())


def claims_of(token: str) -> Mapping[str, Any]:
    claims = decode(token).claims
    assert claims["aud"] == RESOURCE
    return claims


def expiry(claims: Mapping[str, Any]) -> str:
    return f"{datetime.fromtimestamp(claims['exp'], UTC):%Y-%m-%dT%H:%M:%SZ}"


def test_headers_for_an_mcp_client(caller: Caller) -> None:
    headers = caller.call("mcp-headers")
    assert list(headers) == ["Authorization"]
    scheme, token = headers["Authorization"].split()
    assert scheme == "Bearer"
    claims_of(token)


def test_the_shape_of_an_aws_credential_process(caller: Caller) -> None:
    keys = caller.call("aws")
    claims = claims_of(keys["SessionToken"])
    assert keys == {
        "Version": 1,
        "AccessKeyId": claims["jti"],
        "SecretAccessKey": keys["SessionToken"],
        "SessionToken": keys["SessionToken"],
        "Expiration": expiry(claims),
    }


@pytest.mark.parametrize("version", ["", f"{KUBERNETES}/v1", f"{KUBERNETES}/v1beta1"])
def test_an_exec_credential_in_the_version_that_was_asked_for(caller: Caller, version: str) -> None:
    info = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}}
    document = caller.call("kubectl", KUBERNETES_EXEC_INFO=json.dumps(info) if version else "")
    claims = claims_of(document["status"]["token"])
    assert document == {
        "apiVersion": version or f"{KUBERNETES}/v1",
        "kind": "ExecCredential",
        "status": {"token": document["status"]["token"], "expirationTimestamp": expiry(claims)},
    }


def test_git_fills_in_the_token_for_our_host_alone(caller: Caller, tmp_path: Path) -> None:
    helper = shlex.join(caller.command("git"))
    configuration = tmp_path / "gitconfig"
    environment = caller.environment(
        GIT_CONFIG_GLOBAL=str(configuration), GIT_CONFIG_NOSYSTEM="1", GIT_TERMINAL_PROMPT="0"
    )
    environment |= {"GIT_ASKPASS": "true"}
    subprocess.run(["git", "config", "--global", "credential.helper", f"!{helper}"], env=environment, check=True)

    def fill(host: str) -> dict[str, str]:
        asked = f"protocol=https\nhost={host}\n\n"
        done = subprocess.run(
            ["git", "credential", "fill"], input=asked, capture_output=True, text=True, env=environment, check=False
        )
        return dict(line.partition("=")[::2] for line in done.stdout.splitlines())

    filled = fill(HOST)
    assert claims_of(filled["password"])
    assert filled["username"] == "credbroker"
    assert not fill("other.tools.example").get("password")


def test_git_is_told_when_the_password_expires(caller: Caller) -> None:
    told = subprocess.run(
        [*caller.command("git"), "--username", "oauth2", "get"],
        input=f"capability[]=authtype\nprotocol=https\nhost={HOST}\nwwwauth[]=Basic\n\n",
        capture_output=True,
        text=True,
        env=caller.environment(),
        check=True,
    )
    attributes = dict(line.split("=", 1) for line in told.stdout.splitlines())
    claims = claims_of(attributes["password"])
    assert list(attributes) == ["username", "password", "password_expiry_utc"]
    assert (attributes["username"], attributes["password_expiry_utc"]) == ("oauth2", str(claims["exp"]))
