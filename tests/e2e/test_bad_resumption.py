"""A workload whose certificate or token has expired: resumed TLS sessions and open connections help it to nothing.

A session that is resumed shows the certificate of the handshake it goes back to, which TLS does not look at again.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc.experimental import session_cache

from broker.model.errors import Reason
from broker.sandbox.authority import read_authority
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.connect.refusals import refusal_from
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching
from broker.system import system_clock
from broker.v1 import agent_service_pb2 as pb
from broker.v1 import grant_pb2
from tests.support import http2
from tests.support.facade import JOB, NOTES, REPO, RESEARCHER, Facade, opened
from tests.support.fakes import write_svid
from tests.support.tool_servers import SERVICE, grpc_tools

ISSUE = "/broker.v1.AgentService/IssueCredential"
TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS = pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
SERVERS = pytest.mark.parametrize("server", ["broker", "tools"])
LIFETIME = timedelta(seconds=5)
EXPIRED = b"has expired"


@dataclass
class Past:
    """What a workload kept from when its certificate and its token were good."""

    facade: Facade
    addresses: dict[str, str]
    svid: Path
    requests: dict[str, tuple[str, bytes, dict[str, str]]]
    """The call of each server: path, message and metadata."""
    token: str
    context: dict[ssl.TLSVersion, ssl.SSLContext] = field(default_factory=dict)
    session: dict[tuple[str, ssl.TLSVersion], ssl.SSLSession] = field(default_factory=dict)
    open_call: dict[str, grpc.UnaryUnaryMultiCallable[Any, Any]] = field(default_factory=dict)
    kept: dict[str, session_cache.SSLSessionCache] = field(default_factory=dict)
    """gRPC's sessions, of each server: it tells them apart by host, not by port."""

    def call(self, server: str, version: ssl.TLSVersion, session: ssl.SSLSession | None) -> tuple[bool, http2.Answer]:
        """Call over a new connection; report whether it resumed a session, and what came back."""
        path, message, metadata = self.requests[server]
        with http2.connect(self.addresses[server], self.context[version], session) as connection:
            answer = http2.call(connection, path, message, **metadata)
            assert connection.session is not None
            self.session.setdefault((server, version), connection.session)
            return bool(connection.session_reused), answer

    def channel(self, server: str) -> grpc.Channel:
        """Open a channel of gRPC's own that keeps sessions."""
        pems = ((self.svid / name).read_bytes() for name in ("bundle.pem", "key.pem", "svid.pem"))
        kept = self.kept.setdefault(server, session_cache.ssl_session_cache_lru(1))  # type: ignore[no-untyped-call]
        options = (("grpc.ssl_session_cache", kept), ("grpc.use_local_subchannel_pool", 1))
        return grpc.secure_channel(self.addresses[server], grpc.ssl_channel_credentials(*pems), options)

    def ask(self, channel: grpc.Channel, server: str) -> bytes:
        path, message, metadata = self.requests[server]
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
        return call(message, metadata=tuple(metadata.items()), timeout=60)


def client_context(svid: Path, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=svid / "bundle.pem")
    context.load_cert_chain(svid / "svid.pem", svid / "key.pem")
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    return context


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    """A workload that has called every server, and whose certificate and token have expired since."""
    folder = tmp_path_factory.mktemp("resumption")
    with ExitStack() as stack:
        facade = stack.enter_context(opened(folder))
        svids, task_id = facade.broker.svids, facade.begin(JOB, RESEARCHER)
        asking = pb.IssueCredentialRequest(task_id=task_id, resource=REPO, grants=[grant_pb2.Grant(tool="read_file")])
        credential = facade.doors.call("researcher", "AgentService.IssueCredential", asking).token
        endpoint = Endpoint.of(facade.broker.address, svids / "verifier")
        verifier = stack.enter_context(watching(Verifier(REPO), endpoint))
        tools = stack.enter_context(grpc_tools(verifier, svids / "verifier"))
        addresses = {"broker": facade.broker.address, "tools": tools}
        requests = {
            "broker": (ISSUE, asking.SerializeToString(), {}),
            "tools": (f"/{SERVICE}/read_file", b"{}", {"authorization": f"Bearer {credential}"}),
        }
        root = read_authority(svids)
        svid = write_svid(folder / "short", root, RESEARCHER, LIFETIME)
        token = facade.workload(exp=int((system_clock() + LIFETIME).timestamp()))
        end = time.monotonic() + LIFETIME.total_seconds() + 0.1
        found = Past(facade, addresses, svid, requests, token)
        found.context = {version: client_context(svid, version) for version in (TLS_1_2, TLS_1_3)}
        for server in addresses:
            for version in found.context:
                resumed, answer = found.call(server, version, None)
                assert (resumed, bool(answer.data)) == (False, True), answer
            with found.channel(server) as channel:
                assert found.ask(channel, server)
            found.open_call[server] = stack.enter_context(found.channel(server)).unary_unary(requests[server][0])
            assert found.open_call[server](requests[server][1], metadata=tuple(requests[server][2].items()), timeout=60)
        assert facade.token(client_assertion=token, task=task_id).status_code == 200
        assert time.monotonic() < end, "it took so long that the certificate has expired already"
        time.sleep(end - time.monotonic())
        yield found


@SERVERS
@VERSIONS
def test_a_resumed_session_shows_that_the_certificate_has_expired(
    past: Past, server: str, version: ssl.TLSVersion
) -> None:
    resumed, answer = past.call(server, version, past.session[server, version])
    assert resumed, "else this shows nothing"
    assert answer.data == b""
    assert EXPIRED in answer.headers


@SERVERS
def test_a_session_that_grpc_resumes_by_itself_is_refused(past: Past, server: str) -> None:
    with past.channel(server) as channel, pytest.raises(grpc.RpcError) as error:
        past.ask(channel, server)
    assert refusal_from(error.value).reason is Reason.IDENTITY_EXPIRED, "a fresh handshake would not get so far"


@SERVERS
def test_a_connection_that_is_kept_open_is_refused(past: Past, server: str) -> None:
    _, message, metadata = past.requests[server]
    with pytest.raises(grpc.RpcError) as error:
        past.open_call[server](message, metadata=tuple(metadata.items()), timeout=60)
    assert refusal_from(error.value).reason is Reason.IDENTITY_EXPIRED


@SERVERS
@VERSIONS
def test_a_fresh_handshake_fails(past: Past, server: str, version: ssl.TLSVersion) -> None:
    with pytest.raises(OSError):  # TLS 1.3 says so in an alert, or by hanging up
        past.call(server, version, None)


@VERSIONS
def test_a_good_certificate_may_resume(past: Past, version: ssl.TLSVersion) -> None:
    """So that it is the certificate, and not resumption, that is refused."""
    good = client_context(past.facade.broker.svids / "researcher", version)
    path, message, metadata = past.requests["broker"]
    session = None
    for wanted in (False, True):
        with http2.connect(past.addresses["broker"], good, session) as connection:
            assert http2.call(connection, path, message, **metadata).data
            assert connection.session_reused is wanted
            session = connection.session


# Tokens, at the listeners that look at no certificate.


def test_an_expired_token_is_refused_on_the_connection_where_it_was_good(past: Past) -> None:
    answer = past.facade.token(client_assertion=past.token)
    assert (answer.status_code, answer.json()["reason"]) == (401, "IDENTITY_EXPIRED")


@pytest.mark.parametrize("svid", ["researcher", "short"])
def test_a_certificate_where_none_is_asked_for_proves_nothing(past: Past, svid: str) -> None:
    """Be it good or expired: neither listener takes it for more than the token that is missing."""
    folder = past.svid if svid == "short" else past.facade.broker.svids / svid
    for version in (TLS_1_2, TLS_1_3):
        context = client_context(folder, version)
        with http2.connect(past.facade.broker.jwt_address, context) as connection:
            answer = http2.call(connection, ISSUE, past.requests["broker"][1])
            assert b"neither a client certificate nor a token" in answer.headers
        context.set_alpn_protocols(["http/1.1"])
        with http2.connect(past.facade.broker.http_address, context) as connection:
            form = b"grant_type=client_credentials&resource=" + NOTES.encode()
            head = f"POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(form)}\r\nConnection: close\r\n"
            kind = "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
            connection.sendall(head.encode() + kind.encode() + form)
            text = b"".join(iter(lambda: connection.recv(4_096), b""))
        assert text.startswith(b"HTTP/1.1 401 ")
        assert json.loads(text.partition(b"\r\n\r\n")[2])["reason"] == "IDENTITY_MISSING"
