"""What stands between a client and its broker is named, with the file or name it is about and the remedy."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from broker.identity.spiffe import parse_spiffe_id
from broker.model.errors import Reason, Refusal
from broker.model.grant import Grant
from broker.sandbox.certificates import Authority, issue_svid, new_authority
from broker.sdk.client.client import Client
from broker.sdk.connect.diagnosis import diagnose
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.connect.svid import SvidFolder
from broker.system import system_clock
from broker.v1 import agent_service_pb2_grpc
from tests.support.desk import Agents, FakeDesk
from tests.support.fakes import DAY, server_credentials

HOLDER, BROKER = "spiffe://example.org/agent/researcher", "spiffe://example.org/broker"
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def root() -> Authority:
    return new_authority("example.org", 10 * DAY, system_clock() - 5 * DAY)


def write(
    folder: Path,
    root: Authority,
    spiffe_id: str,
    *,
    begins: timedelta = -HOUR,
    lifetime: timedelta = DAY,
    roots: Authority | None = None,
    names: tuple[str, ...] = ("localhost",),
) -> Path:
    """Write an SVID's folder; it begins so long after now."""
    svid = issue_svid(root, parse_spiffe_id(spiffe_id), names, lifetime, system_clock() + begins)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "svid.pem").write_bytes(svid.cert_pem)
    (folder / "key.pem").write_bytes(svid.key_pem)
    (folder / "bundle.pem").write_bytes((roots or root).cert_pem)
    return folder


@asynccontextmanager
async def serving(folder: Path, port: int = 0) -> AsyncIterator[int]:
    """Be a broker with this SVID."""
    server = grpc.aio.server()
    agent_service_pb2_grpc.add_AgentServiceServicer_to_server(Agents(FakeDesk()), server)
    port = server.add_secure_port(f"127.0.0.1:{port}", server_credentials(folder))
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def refused(address: str, folder: Path, patience: float = 60) -> Refusal:
    async with Client(address, folder, timeout=patience) as client:
        with pytest.raises(Refusal) as refused:
            await client.issue("t-1", "https://repo.tools.example", [Grant("read_file")])
        return refused.value


async def test_a_broker_of_other_roots_is_named_at_once(tmp_path: Path, root: Authority) -> None:
    other = new_authority("example.org", DAY, system_clock())
    folder = write(tmp_path / "us", root, HOLDER, roots=other)
    async with serving(write(tmp_path / "broker", root, BROKER)) as port:
        refusal = await refused(f"localhost:{port}", folder)
    assert refusal.reason is Reason.UNAVAILABLE
    assert f"the broker's certificate ({BROKER}) does not lead to the roots that go with {folder}" in refusal.message
    assert "CREDBROKER_CA_FILE" in refusal.hints.next


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_name_that_its_certificate_does_not_have_is_named_at_once(
    host: str, tmp_path: Path, root: Authority
) -> None:
    names = ("localhost", "broker.example") if host == "127.0.0.1" else ("broker.example", "*.example.org")
    async with serving(write(tmp_path / "broker", root, BROKER, names=names)) as port:
        refusal = await refused(f"{host}:{port}", write(tmp_path / "us", root, HOLDER))
    assert f"is for `{names[0]}`, `{names[1]}`, and not for `{host}`" in refusal.message
    assert "DNS name" in refusal.hints.next


@pytest.mark.parametrize(
    ("begins", "told"),
    [(-3 * DAY, "the broker's certificate expired at"), (HOUR, "the broker's certificate is good from")],
)
async def test_a_brokers_certificate_out_of_its_time_is_told_with_both_times(
    begins: timedelta, told: str, tmp_path: Path, root: Authority
) -> None:
    async with serving(write(tmp_path / "broker", root, BROKER, begins=begins)) as port:
        refusal = await refused(f"localhost:{port}", write(tmp_path / "us", root, HOLDER), 2)
    assert told in refusal.message
    assert "here it is" in refusal.message
    assert "clocks" in refusal.hints.next


async def test_a_broker_that_does_not_take_our_certificate_is_told_at_once(tmp_path: Path, root: Authority) -> None:
    other = new_authority("partner.example", DAY, system_clock())
    folder = write(tmp_path / "us", other, "spiffe://partner.example/agent/a", roots=root)
    async with serving(write(tmp_path / "broker", root, BROKER)) as port:
        refusal = await refused(f"localhost:{port}", folder)
    assert refusal.reason is Reason.IDENTITY_INVALID
    assert f"does not take our certificate, {folder / 'svid.pem'} (spiffe://partner.example/agent/a)" in refusal.message


async def test_who_was_answered_before_waits_while_roots_are_changed(tmp_path: Path, root: Authority) -> None:
    other = new_authority("example.org", DAY, system_clock())
    folder = write(tmp_path / "us", root, HOLDER)
    async with serving(write(tmp_path / "broker", root, BROKER)) as port:
        client = await Client(f"localhost:{port}", folder, timeout=60).__aenter__()
        await client.release("l-1")
    async with serving(write(tmp_path / "broker", other, BROKER), port):
        releasing = asyncio.create_task(client.release("l-1"))
        await asyncio.sleep(1)
        assert not releasing.done()
        write(folder, other, HOLDER)
        assert await releasing == 7
        await client.__aexit__()


async def test_a_certificate_of_ours_that_is_not_good_yet_is_shown_and_told_of_if_it_is_not_taken(
    tmp_path: Path, root: Authority
) -> None:
    folder = write(tmp_path / "us", root, HOLDER, begins=HOUR)
    async with serving(write(tmp_path / "broker", root, BROKER)) as port:
        refusal = await refused(f"localhost:{port}", folder)
    assert refusal.reason is Reason.IDENTITY_INVALID
    assert f"{folder / 'svid.pem'} ({HOLDER}): it is good from" in refusal.message
    assert "clocks" in refusal.hints.next


async def test_where_nothing_listens_is_told(tmp_path: Path, root: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    folder = write(tmp_path / "us", root, HOLDER)
    refusal = await refused(f"localhost:{port}", folder, 1)
    assert f"nothing can be reached at localhost:{port}: Connection refused" in refusal.message
    refusal = await refused("no-such-host.invalid:1", folder, 1)
    assert "there is no host `no-such-host.invalid`" in refusal.message


@pytest.mark.parametrize(
    ("answer", "told"), [(b"HTTP/1.1 400 no\r\n\r\n", "does not speak TLS"), (b"", "no answer comes")]
)
async def test_what_is_no_broker_is_told(answer: bytes, told: str, tmp_path: Path, root: Authority) -> None:
    credentials = SvidFolder(write(tmp_path / "us", root, HOLDER)).open().credentials()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"localhost:{listener.getsockname()[1]}"

        def serve() -> None:
            with listener.accept()[0] as peer:
                peer.recv(65_536)
                peer.sendall(answer)
                if not answer:
                    peer.recv(65_536)

        threading.Thread(target=serve, daemon=True).start()
        found = diagnose(address, credentials)
    assert found is not None
    assert told in found.refusal.message


async def test_nothing_is_found_where_nothing_is_wrong(tmp_path: Path, root: Authority) -> None:
    credentials = SvidFolder(write(tmp_path / "us", root, HOLDER)).open().credentials()
    async with serving(write(tmp_path / "broker", root, BROKER)) as port:
        assert await asyncio.to_thread(diagnose, f"localhost:{port}", credentials) is None
        assert await asyncio.to_thread(diagnose, f"dns:///localhost:{port}", credentials) is None


def expire(folder: Path, root: Authority) -> None:
    write(folder, root, HOLDER, begins=-2 * DAY, lifetime=HOUR)


def swap_key(folder: Path, root: Authority) -> None:
    svid = issue_svid(root, parse_spiffe_id(HOLDER), (), DAY, system_clock())
    (folder / "key.pem").write_bytes(svid.key_pem)


def spoil(name: str) -> Callable[[Path, Authority], None]:
    def act(folder: Path, _root: Authority) -> None:
        (folder / name).write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")

    return act


def lose(name: str) -> Callable[[Path, Authority], None]:
    def act(folder: Path, _root: Authority) -> None:
        (folder / name).unlink()

    return act


@pytest.mark.parametrize(
    ("harm", "file", "reason", "told"),
    [
        (expire, "svid.pem", Reason.IDENTITY_EXPIRED, "expired at"),
        (swap_key, "key.pem", Reason.IDENTITY_INVALID, "is not the key of"),
        (spoil("svid.pem"), "svid.pem", Reason.IDENTITY_INVALID, "holds no certificates"),
        (spoil("key.pem"), "key.pem", Reason.IDENTITY_INVALID, "is not a private key"),
        (spoil("bundle.pem"), "bundle.pem", Reason.IDENTITY_INVALID, "holds no certificates"),
        (lose("svid.pem"), "svid.pem", Reason.IDENTITY_MISSING, "No such file"),
        (lose("key.pem"), "key.pem", Reason.IDENTITY_MISSING, "No such file"),
        (lose("bundle.pem"), "bundle.pem", Reason.IDENTITY_MISSING, "No such file"),
    ],
)
async def test_what_is_wrong_with_our_files_is_told_before_anybody_is_called(
    harm: Callable[[Path, Authority], None], file: str, reason: Reason, told: str, tmp_path: Path, root: Authority
) -> None:
    folder = write(tmp_path / "us", root, HOLDER)
    source = SvidFolder(folder).open()
    harm(folder, root)
    for refusing in (lambda: Endpoint.of("localhost:1", folder).credentials(), SvidFolder(folder).open):
        with pytest.raises(Refusal) as refused:
            refusing()
        assert refused.value.reason is reason
        assert refused.value.message.startswith(f"{folder / file}: ")
        assert told in refused.value.message
        assert refused.value.hints.next
        assert "PRIVATE" not in str(refused.value)
    if told != "expired at":
        assert source.credentials().svid_pem, "half a rotation takes nothing away"


def test_a_newer_svid_that_cannot_be_used_is_told_when_the_former_has_expired(tmp_path: Path, root: Authority) -> None:
    folder = write(tmp_path / "us", root, HOLDER, begins=-HOUR, lifetime=HOUR + timedelta(seconds=2))
    source = SvidFolder(folder).open()
    swap_key(folder, root)
    assert source.credentials().svid_pem
    time.sleep(2.5)
    with pytest.raises(Refusal) as refused:
        source.credentials()
    assert refused.value.reason is Reason.IDENTITY_EXPIRED
    assert "is not the key of" in refused.value.message


@pytest.mark.parametrize("address", ["https://broker.example:8443", "http://broker.example"])
def test_an_address_that_is_a_url_is_named(address: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refused:
        Endpoint.of(address, tmp_path)
    assert refused.value.reason is Reason.INVALID_ARGUMENT
    assert "HOST:PORT" in refused.value.hints.next
