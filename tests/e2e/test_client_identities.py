"""Clients and verifiers whose identity comes from a real Workload API, or from a token in a file."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from broker.credential.claims import from_payload
from broker.identity.spiffe import parse_spiffe_id
from broker.model import compact_jws
from broker.model.errors import Reason, Refusal
from broker.model.grant import Grant
from broker.sandbox.authority import read_authority
from broker.sandbox.certificates import issue_svid
from broker.sdk.client.client import Client
from broker.sdk.client.credential import Credential
from broker.sdk.client.sync import SyncClient
from broker.sdk.connect import workload
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.connect.identity import WorkloadSocket
from broker.sdk.connect.token_file import TokenFile
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching
from broker.system import system_clock
from tests.support.doors import DAY
from tests.support.facade import JOB, NOTES, RESEARCHER, SAFE, Facade
from tests.support.fakes import authority, eventually
from tests.support.workload_api_server import (
    WorkloadApiServer,
    at_a_socket,
    der,
    jwt_response,
    x509_response,
    x509_svid,
)

_SHOW = 'cat "$CREDBROKER_TOKEN_FILE"'
GRANTS = [Grant("search_notes")]
VERIFIER = "spiffe://example.org/tool-server/repo"


class Agent:
    """An agent of our trust domain, with an entry for one workload."""

    def __init__(self, server: WorkloadApiServer, svids: Path, spiffe_id: str) -> None:
        self.server = server
        self.socket = WorkloadSocket(server.address)
        self._root = read_authority(svids)
        self._spiffe_id = spiffe_id

    def push(self, lifetime: timedelta = DAY, *, federated: bool = False) -> None:
        """Make a fresh SVID. If `federated`, the root of it all is said to be another trust domain's."""
        svid = issue_svid(self._root, parse_spiffe_id(self._spiffe_id), [], lifetime, system_clock())
        roots = (authority().cert_pem, self._root.cert_pem) if federated else (self._root.cert_pem, b"")
        message = x509_response(
            x509_svid(self._spiffe_id, svid, roots[0]),
            federated={"spiffe://other.example": der(roots[1]) if roots[1] else b""},
        )
        self.server.tell(x509=message, jwt=jwt_response({}))


@contextmanager
def agent_of(facade: Facade, spiffe_id: str) -> Iterator[Agent]:
    with at_a_socket() as server:
        server.start()
        agent = Agent(server, facade.broker.svids, spiffe_id)
        agent.push()
        yield agent


def reason(verifier: Verifier, token: str) -> Reason | None:
    try:
        verifier.check(token, "search_notes", {"limit": 5})
    except Refusal as refusal:
        return refusal.reason
    return None


def certificate(credential: Credential) -> str:
    """Return the hash of the certificate that a credential is bound to."""
    return from_payload(compact_jws.members(credential.token.reveal().split(".")[1])).confirmation


def command(variables: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("CREDBROKER_")}
    started = [sys.executable, "-m", "broker", *arguments]
    return subprocess.run(started, env=others | variables, capture_output=True, check=False, text=True)


def followers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "workload-api"]


async def settled(client: Client, task_id: str, wanted: Callable[[object], bool]) -> None:
    """Ask for credentials until the outcome is as wanted."""
    async with asyncio.timeout(10):
        while True:
            try:
                outcome: object = certificate(await client.issue(task_id, SAFE, GRANTS))
            except Refusal as refusal:
                outcome = refusal.reason
            if wanted(outcome):
                return
            await asyncio.sleep(0.05)


async def test_a_client_shows_what_the_agent_pushed_last(facade: Facade) -> None:
    task_id = facade.begin(RESEARCHER)
    with agent_of(facade, RESEARCHER) as agent:
        async with Client(facade.broker.address, identity=agent.socket) as client:
            first = certificate(await client.issue(task_id, SAFE, GRANTS))
            assert certificate(await client.issue(task_id, SAFE, GRANTS)) == first
            agent.push()
            await settled(client, task_id, lambda found: found not in (first, None))
            agent.server.tell("denying")
            await settled(client, task_id, lambda found: found is Reason.IDENTITY_MISSING)
            agent.push()
            await settled(client, task_id, lambda found: isinstance(found, str) and len(found) == 43)
            assert followers()
        assert not followers()


async def test_an_svid_that_has_expired_is_not_shown_any_more(facade: Facade) -> None:
    task_id = facade.begin(RESEARCHER)
    with agent_of(facade, RESEARCHER) as agent:
        agent.push(timedelta(seconds=4))
        async with Client(facade.broker.address, identity=agent.socket) as client:
            await client.issue(task_id, SAFE, GRANTS)
            agent.server.kill()
            await settled(client, task_id, lambda found: found is Reason.IDENTITY_EXPIRED)


async def test_a_verifier_stays_fresh_for_as_long_as_it_has_an_identity(facade: Facade) -> None:
    task_id = facade.begin(RESEARCHER)
    with agent_of(facade, VERIFIER) as agent, agent_of(facade, RESEARCHER) as other:
        endpoint = Endpoint.of(facade.broker.address, identity=agent.socket)
        async with (
            watching(Verifier(NOTES), endpoint) as verifier,
            Client(facade.broker.address, identity=other.socket) as client,
        ):
            before, after = [await client.issue(task_id, NOTES, GRANTS) for _ in range(2)]
            assert reason(verifier, before.token.reveal()) is None
            agent.push()
            await asyncio.sleep(1)
            await client.release(before.lease_id)
            await eventually(lambda: reason(verifier, before.token.reveal()) is Reason.TOKEN_REVOKED)
            agent.server.tell("denying")
            await eventually(lambda: not verifier.is_fresh(), 30)
            assert reason(verifier, after.token.reveal()) is Reason.VERIFIER_STALE
            agent.push()
            await eventually(verifier.is_fresh, 30)
            assert reason(verifier, after.token.reveal()) is None
    assert not followers()


async def test_a_broker_of_another_trust_domain_is_not_ours(facade: Facade) -> None:
    with agent_of(facade, RESEARCHER) as agent:
        for federated, reason in ((True, Reason.UNAVAILABLE), (False, Reason.LEASE_NOT_FOUND)):
            agent.push(federated=federated)
            async with Client(facade.broker.address, identity=agent.socket, timeout=3) as client:
                with pytest.raises(Refusal) as refused:
                    await client.release("l-1")
            assert refused.value.reason is reason


async def test_a_verifier_without_an_identity_says_so(facade: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "_AGENT_SECONDS", 0.5)
    with agent_of(facade, VERIFIER) as agent:
        agent.server.kill()
        with pytest.raises(Refusal) as refused:
            async with watching(Verifier(NOTES), Endpoint.of(facade.broker.address, identity=agent.socket)):
                pytest.fail("the block must not run")
    assert refused.value.reason is Reason.IDENTITY_MISSING
    assert agent.socket.address in refused.value.message


def test_threads_and_the_command_line_ask_the_agent_as_well(facade: Facade) -> None:
    task_id = facade.begin(RESEARCHER)
    with agent_of(facade, RESEARCHER) as agent:
        with SyncClient(facade.broker.address, identity=agent.socket) as client:
            lease_id = client.issue(task_id, SAFE, GRANTS).lease_id
        assert not followers()
        variables = {"CREDBROKER_ADDRESS": facade.broker.address, "SPIFFE_ENDPOINT_SOCKET": agent.socket.address}
        done = command(variables, "credential", "release", lease_id)
    assert done.returncode == 0, done.stderr


# Tokens in files.


def token_file(facade: Facade, folder: Path, token: str) -> TokenFile:
    (folder / "ca.pem").write_bytes(facade.roots)
    (folder / "token").write_text(f"{token}\n")
    return TokenFile(folder / "token", folder / "ca.pem")


async def test_a_token_that_is_rotated_in_its_file_is_sent_with_the_next_call(facade: Facade, tmp_path: Path) -> None:
    task_id, past = facade.begin(JOB), int(system_clock().timestamp()) - 300
    identity = token_file(facade, tmp_path, facade.workload())
    async with Client(facade.broker.jwt_address, identity=identity) as client:
        credential = await client.issue(task_id, NOTES, GRANTS)
        for token, refused in (
            (facade.workload(exp=past), Reason.IDENTITY_EXPIRED),
            (facade.workload(sub="job:8"), Reason.TASK_NOT_FOUND),
            ("", Reason.IDENTITY_INVALID),
        ):
            identity.path.write_text(token)
            with pytest.raises(Refusal) as refusal:
                await client.issue(task_id, NOTES, GRANTS)
            assert refusal.value.reason is refused
        identity.path.write_text(facade.workload())
        await client.renew(credential)
        identity.path.unlink()
        with pytest.raises(Refusal) as refusal:
            await client.release(credential.lease_id)
        assert refusal.value.reason is Reason.IDENTITY_MISSING


def test_a_command_runs_with_a_credential_as_who_the_token_says(facade: Facade, tmp_path: Path) -> None:
    task_id, identity = facade.begin(JOB), token_file(facade, tmp_path, facade.workload())
    variables = {
        "CREDBROKER_ADDRESS": facade.broker.jwt_address,
        "CREDBROKER_IDENTITY_TOKEN_FILE": str(identity.path),
        "CREDBROKER_CA_FILE": str(identity.ca_file),
        "SPIFFE_ENDPOINT_SOCKET": "unix:///for/others.sock",
    }
    done = command(variables, "run", "--task", task_id, "--tool", f"{NOTES}#search_notes", "--", "sh", "-c", _SHOW)
    assert done.returncode == 0, done.stderr
    claims = from_payload(compact_jws.members(done.stdout.split(".")[1]))
    assert (claims.subject, claims.audience) == (JOB, NOTES)


async def test_a_jwt_svid_and_the_token_of_a_verifier_do_as_well(facade: Facade, tmp_path: Path) -> None:
    task_id = facade.begin(RESEARCHER)
    gateway, agent = tmp_path / "gateway", tmp_path / "agent"
    for folder in (gateway, agent):
        folder.mkdir()
    endpoint = Endpoint(facade.broker.jwt_address, token_file(facade, gateway, facade.workload(sub="gateway")))
    identity = token_file(facade, agent, facade.jwt_svid())
    async with (
        watching(Verifier(NOTES), endpoint) as verifier,
        Client(facade.broker.jwt_address, identity=identity) as client,
        client.credential(task_id, NOTES, GRANTS) as credential,
    ):
        assert reason(verifier, credential.token.reveal()) is None


async def test_a_token_is_never_sent_without_tls_or_to_whoever_is_not_the_broker(
    facade: Facade, tmp_path: Path
) -> None:
    token = facade.workload()
    identity = token_file(facade, tmp_path, token)
    heard = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def listen() -> None:
            with listener.accept()[0] as peer:
                peer.settimeout(2)
                while data := peer.recv(65_536):
                    heard.extend(data)
                    peer.sendall(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")  # the settings of a plain HTTP/2 server

        listening = asyncio.create_task(asyncio.to_thread(listen))
        async with Client(f"localhost:{listener.getsockname()[1]}", identity=identity, timeout=3) as client:
            with pytest.raises(Refusal) as refused:
                await client.release("l-1")
            assert refused.value.reason is Reason.UNAVAILABLE
        await asyncio.wait([listening])
    assert heard
    assert token.encode() not in heard
    (tmp_path / "ca.pem").write_bytes(authority().cert_pem)
    async with Client(facade.broker.jwt_address, identity=identity, timeout=3) as client:
        with pytest.raises(Refusal) as refused:
            await client.release("l-1")
    assert refused.value.reason is Reason.UNAVAILABLE
    assert token not in str(refused.value)
