"""A connection shows who we are now, from where that is said, and says what is missing."""

import threading
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from broker.model.errors import Reason, Refusal
from broker.sandbox.certificates import Authority
from broker.sdk.client.client import Client
from broker.sdk.client.sync import SyncClient
from broker.sdk.connect import workload
from broker.sdk.connect.connection import Connection, connect, connect_sync
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.connect.identity import WorkloadSocket
from broker.sdk.connect.refusals import refusal_from
from broker.sdk.connect.svid import SvidFolder
from broker.sdk.connect.token_file import TokenFile
from broker.v1 import verifier_service_pb2 as pb
from broker.v1 import verifier_service_pb2_grpc as pb_grpc
from tests.support.fakes import FakeBroker, authority, serving, write_svid

VARIABLES = (
    "CREDBROKER_TRUST_DOMAIN",
    "CREDBROKER_ADDRESS",
    "CREDBROKER_SVID_DIR",
    "CREDBROKER_IDENTITY_TOKEN_FILE",
    "CREDBROKER_CA_FILE",
)
HOLDER = "spiffe://example.org/agent/researcher"


@pytest.fixture(scope="module")
def root() -> Authority:
    return authority()


@pytest.fixture(autouse=True)
def _nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*VARIABLES, "SPIFFE_ENDPOINT_SOCKET"):
        monkeypatch.delenv(variable, raising=False)


async def test_what_is_missing_for_a_connection_is_said(tmp_path: Path) -> None:
    for arguments, named in (
        ((None, tmp_path), ["CREDBROKER_ADDRESS"]),
        (
            ("localhost:1", None),
            ["--svid-dir", "CREDBROKER_SVID_DIR", "CREDBROKER_IDENTITY_TOKEN_FILE", "SPIFFE_ENDPOINT_SOCKET"],
        ),
    ):
        with pytest.raises(Refusal) as refused:
            connect(*arguments)
        assert all(name in refused.value.hints.next for name in named)
    with pytest.raises(Refusal) as refused:
        connect("localhost:1", tmp_path)
    assert refused.value.reason is Reason.IDENTITY_MISSING
    assert str(tmp_path / "bundle.pem") in refused.value.message


def test_the_environment_says_where_the_broker_is_and_who_we_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDBROKER_ADDRESS", "broker.example:8443")
    for variable, value, identity in (
        ("SPIFFE_ENDPOINT_SOCKET", "unix:///agent.sock", WorkloadSocket("unix:///agent.sock")),
        ("CREDBROKER_TRUST_DOMAIN", "b.example", WorkloadSocket("unix:///agent.sock", "b.example")),
        ("CREDBROKER_IDENTITY_TOKEN_FILE", "/token", TokenFile(Path("/token"))),
        ("CREDBROKER_CA_FILE", "/ca.pem", TokenFile(Path("/token"), Path("/ca.pem"))),
        ("CREDBROKER_SVID_DIR", "/svid", SvidFolder(Path("/svid"), Path("/ca.pem"))),
    ):  # each goes before those before it
        monkeypatch.setenv(variable, value)
        assert Endpoint.of() == Endpoint("broker.example:8443", identity)
    for told in (SvidFolder(Path("/other")), TokenFile(Path("/other")), WorkloadSocket("unix:///other.sock")):
        assert Endpoint.of("localhost:1", identity=told) == Endpoint("localhost:1", told)
    assert Endpoint.of("localhost:1", "/other").identity == SvidFolder(Path("/other"), Path("/ca.pem"))


def test_two_identities_are_one_too_many(tmp_path: Path) -> None:
    token_file = TokenFile(tmp_path / "token")
    for make in (Endpoint.of, Client, SyncClient, connect, connect_sync):
        with pytest.raises(Refusal) as refused:
            make("localhost:1", tmp_path, identity=token_file)
        assert refused.value.reason is Reason.INVALID_ARGUMENT


def test_only_a_folder_can_be_shown_by_others(tmp_path: Path) -> None:
    assert Endpoint.of("localhost:1", tmp_path).svid_dir == tmp_path
    with pytest.raises(Refusal) as refused:
        _ = Endpoint("localhost:1", TokenFile(tmp_path)).svid_dir
    assert "CREDBROKER_SVID_DIR" in refused.value.hints.next


def test_credentials_do_not_show_their_key(tmp_path: Path, root: Authority) -> None:
    credentials = Endpoint.of("localhost:1", write_svid(tmp_path, root, HOLDER)).credentials()
    assert "PRIVATE" not in repr(credentials)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, Reason.IDENTITY_MISSING),
        (b"", Reason.IDENTITY_INVALID),
        (b"s3cret", Reason.IDENTITY_INVALID),
        (b"s3cret.b.c\nx: y", Reason.IDENTITY_INVALID),
        (b"s3cret.b.c.d.e", Reason.IDENTITY_INVALID),
        ("s3cret.b.\u00e9".encode(), Reason.IDENTITY_INVALID),
        (b"-----BEGIN PRIVATE KEY-----\ns3cret\n", Reason.IDENTITY_INVALID),
    ],
)
async def test_what_is_no_token_is_never_sent(tmp_path: Path, content: bytes | None, reason: Reason) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Refusal) as refused:
        async with Client("localhost:1", identity=TokenFile(path)):
            pytest.fail("the block must not run")
    assert refused.value.reason is reason
    assert str(path) in refused.value.message
    assert "s3cret" not in str(refused.value)


def test_roots_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a.b.c\n")
    with pytest.raises(Refusal) as refused:
        connect_sync("localhost:1", identity=TokenFile(tmp_path / "token", tmp_path / "ca.pem"))
    assert str(tmp_path / "ca.pem") in refused.value.message


async def test_a_socket_of_no_agent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "_AGENT_SECONDS", 0.2)
    for socket in ("unix:///nowhere/agent.sock", "localhost"):
        with pytest.raises(Refusal) as refused:
            async with Client("localhost:1", identity=WorkloadSocket(socket)):
                pytest.fail("the block must not run")
        assert refused.value.reason is Reason.IDENTITY_MISSING
        assert socket in refused.value.message
    assert not [thread for thread in threading.enumerate() if thread.name == "workload-api"]


def test_a_broker_that_is_not_there_is_unavailable(tmp_path: Path, root: Authority) -> None:
    with connect_sync("localhost:1", write_svid(tmp_path, root, HOLDER)) as channel:
        with pytest.raises(grpc.RpcError) as failed:
            pb_grpc.VerifierServiceStub(channel).GetKeySet(pb.GetKeySetRequest())
        refusal = refusal_from(failed.value)
    assert refusal.reason is Reason.UNAVAILABLE
    assert refusal.hints.next


async def test_a_rotated_certificate_makes_a_new_channel(tmp_path: Path, root: Authority) -> None:
    async with serving(FakeBroker(), tmp_path, root) as endpoint:
        connection = await Connection.open(endpoint)
        first = connection.channel()
        assert connection.channel() is first
        write_svid(endpoint.svid_dir, root, "spiffe://example.org/verifier/repo", timedelta(hours=1))
        second = connection.channel()
        assert second is not first
        await pb_grpc.VerifierServiceStub(second).GetKeySet(pb.GetKeySetRequest())
        (endpoint.svid_dir / "key.pem").unlink()
        assert connection.channel() is second  # half a rotation: what was good is kept
        await first.close()
        await connection.close()
