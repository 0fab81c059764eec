"""A connection takes its certificate from files, and says what is missing."""

from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from broker.identity.authority import Authority
from broker.model.errors import Reason, Refusal
from broker.sdk.connection import Connection, Endpoint, connect, connect_sync
from broker.sdk.refusals import refusal_from
from broker.v1 import verifier_service_pb2 as pb
from broker.v1 import verifier_service_pb2_grpc as pb_grpc
from tests.fakes import FakeBroker, authority, serving, write_svid

HOLDER = "spiffe://example.org/agent/researcher"


@pytest.fixture(scope="module")
def root() -> Authority:
    return authority()


async def test_what_is_missing_for_a_connection_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDBROKER_ADDRESS", raising=False)
    monkeypatch.delenv("CREDBROKER_SVID_DIR", raising=False)
    for arguments, named in (((None, tmp_path), "CREDBROKER_ADDRESS"), (("localhost:1", None), "CREDBROKER_SVID_DIR")):
        with pytest.raises(Refusal) as refused:
            connect(*arguments)
        assert named in refused.value.hints.next
    with pytest.raises(Refusal) as refused:
        connect("localhost:1", tmp_path)
    assert refused.value.reason is Reason.IDENTITY_MISSING
    assert str(tmp_path / "bundle.pem") in refused.value.message


def test_the_environment_says_where_the_broker_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDBROKER_ADDRESS", "broker.example:8443")
    monkeypatch.setenv("CREDBROKER_SVID_DIR", str(tmp_path))
    assert Endpoint.of() == Endpoint("broker.example:8443", tmp_path)
    assert Endpoint.of("localhost:1") == Endpoint("localhost:1", tmp_path)


def test_credentials_do_not_show_their_key(tmp_path: Path, root: Authority) -> None:
    credentials = Endpoint("localhost:1", write_svid(tmp_path, root, HOLDER)).credentials()
    assert "PRIVATE" not in repr(credentials)


def test_a_broker_that_is_not_there_is_unavailable(tmp_path: Path, root: Authority) -> None:
    with connect_sync("localhost:1", write_svid(tmp_path, root, HOLDER)) as channel:
        with pytest.raises(grpc.RpcError) as failed:
            pb_grpc.VerifierServiceStub(channel).GetKeySet(pb.GetKeySetRequest())
        refusal = refusal_from(failed.value)
    assert refusal.reason is Reason.UNAVAILABLE
    assert refusal.hints.next


async def test_a_rotated_certificate_makes_a_new_channel(tmp_path: Path, root: Authority) -> None:
    async with serving(FakeBroker(), tmp_path, root) as endpoint:
        connection = Connection(endpoint)
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
