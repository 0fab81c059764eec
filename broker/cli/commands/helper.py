"""`credbroker helper`: what programs call that ask another program for their credential.

Each gets one and prints it in the form that its caller wants: a JSON object of HTTP headers, as MCP clients take them
from a command; the AWS SDKs' `credential_process`, version 1; `ExecCredential` of client.authentication.k8s.io; the
attributes of git's credential helpers (gitcredentials(7), git-credential(1)).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from urllib.parse import urlsplit

import click
from google.protobuf.timestamp_pb2 import Timestamp

from broker.cli.options import Caller, calling
from broker.cli.private import refuse_to_print_to_readers
from broker.cli.wanted import Wanted, shortened, wanted_options
from broker.v1 import agent_service_pb2 as pb

_EXEC_INFO = "KUBERNETES_EXEC_INFO"
_EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_MOST_INPUT = 65_536


@click.group()
def helper() -> None:
    """Give programs their credential in the form that they ask for.

    A helper prints the token on stdout for the program that calls it. It refuses on a terminal, and wherever an agent's
    environment variable (AGENT, AI_AGENT) is set: a program that a model starts from its own shell gets nothing from
    it, and is to be started by `credbroker run`. There is no flag that permits it, because a model could pass it.

    Each call gets a new credential, which nobody releases: it dies when its --lifetime is over, or with the task. The
    resource's binding must suit the program: one that has no certificate of yours needs "bearer".
    """


@helper.command("mcp-headers")
@wanted_options
@calling
def mcp_headers(caller: Caller, *, wanted: Wanted) -> None:
    """Print the headers of an MCP client.

    For one that takes them from a command.

    \b
    credbroker helper mcp-headers --task 0198f3c2-7b1e-7c11-9d3a-5b1c2f7d9e40 \\
      --tool https://notes.example.org#search_notes --lifetime 2m
    """
    _print_json({"Authorization": f"Bearer {_issue(caller, wanted).token}"})


@helper.command()
@wanted_options
@calling
def aws(caller: Caller, *, wanted: Wanted) -> None:
    """Print what an AWS `credential_process` prints.

    It is the shape alone. AWS does not accept it: AWS keys come from AWS, and this exchanges nothing. It is for a
    server with an AWS interface (S3-compatible storage, say) behind a gateway that checks our tokens: AccessKeyId is
    the lease, SessionToken the token, which the SDK sends as `X-Amz-Security-Token`, and SecretAccessKey the token once
    more, so that the gateway can check the request's signature with it.

    \b
    [profile storage]
    credential_process = credbroker helper aws --task 0198f3c2-7b1e-7c11-9d3a-5b1c2f7d9e40
      --tool https://storage.example.org#get_object        (one line)
    """
    answer = _issue(caller, wanted)
    _print_json(
        {
            "Version": 1,
            "AccessKeyId": answer.lease.lease_id,
            "SecretAccessKey": answer.token,
            "SessionToken": answer.token,
            "Expiration": _expiry(answer),
        }
    )


@helper.command()
@wanted_options
@calling
def kubectl(caller: Caller, *, wanted: Wanted) -> None:
    """Print an ExecCredential for kubectl.

    For an API server, or a gateway before one, that trusts the broker as an issuer. One that looks at the signature
    alone hears of no revocation: keep the lifetime short.

    \b
    users:
    - name: agent
      user:
        exec:
          apiVersion: client.authentication.k8s.io/v1
          interactiveMode: Never
          command: credbroker
          args: [helper, kubectl, --task, TASK, --tool, "https://cluster.example.org#read_pods"]
    """
    version = _exec_version(os.environ)
    answer = _issue(caller, wanted)
    status = {"token": answer.token, "expirationTimestamp": _expiry(answer)}
    _print_json({"apiVersion": version, "kind": "ExecCredential", "status": status})


@helper.command()
@wanted_options
@click.option("--username", default="credbroker", show_default=True, help="The user name that the server wants.")
@calling
@click.argument("operation")
def git(caller: Caller, *, wanted: Wanted, username: str, operation: str) -> None:
    """Answer git, which asks for a password: the token.

    Only for the scheme and host of the resource, and only `get`; else it says nothing, and git asks elsewhere. git
    keeps no password beyond its expiry.

    \b
    git config --global credential.https://git.example.org.helper \\
      '!credbroker helper git --task TASK --tool https://git.example.org#fetch'
    """
    asked = _read_attributes(sys.stdin.buffer.read(_MOST_INPUT))
    if operation != "get" or not _is_for(wanted.tools.resource, asked):
        return
    answer = _issue(caller, wanted)
    click.echo(f"username={username}\npassword={answer.token}\npassword_expiry_utc={answer.lease.expire_time.seconds}")


def _issue(caller: Caller, wanted: Wanted) -> pb.IssueCredentialResponse:
    refuse_to_print_to_readers()
    from broker.cli.calls import as_agent

    with as_agent(caller) as broker:
        answer = broker.IssueCredential(wanted.request(), timeout=caller.timeout)
    for warning in shortened(answer.token, wanted.lifetime):
        click.echo(f"credbroker helper: {warning}", err=True)
    return answer


def _expiry(answer: pb.IssueCredentialResponse) -> str:
    """Return the instant of expiry by RFC 3339, in whole seconds, rounded down."""
    return Timestamp(seconds=answer.lease.expire_time.seconds).ToJsonString()


def _print_json(document: Mapping[str, object]) -> None:
    click.echo(json.dumps(document))


def _exec_version(environment: Mapping[str, str]) -> str:
    """Return the version of ExecCredential that the caller wants: it accepts no other."""
    text = environment.get(_EXEC_INFO)
    if not text:
        return _EXEC_VERSIONS[0]
    try:
        version = json.loads(text)["apiVersion"]
    except (ValueError, TypeError, KeyError):
        raise click.UsageError(f"{_EXEC_INFO} is not an ExecCredential with an apiVersion") from None
    if version not in _EXEC_VERSIONS:
        raise click.UsageError(
            f"{_EXEC_INFO} asks for `{version}`: set apiVersion to one of {', '.join(_EXEC_VERSIONS)}"
        )
    return str(version)


def _read_attributes(data: bytes) -> dict[str, str]:
    """Read lines of `name=value` up to an empty one. What is no such line is left out."""
    head = data.decode(errors="replace").partition("\n\n")[0]
    return {name: value for name, mark, value in (line.partition("=") for line in head.split("\n")) if mark}


def _is_for(resource: str, asked: Mapping[str, str]) -> bool:
    at = urlsplit(resource)
    return (at.scheme, at.netloc.lower()) == (asked.get("protocol"), asked.get("host", "").lower())
