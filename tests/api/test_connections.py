"""Connections to the gRPC listener that ask for nothing: hung up on, and in nobody's way."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import ExitStack

import pytest

from tests.support import http2
from tests.support.doors import Doors


def ended_after(connection: socket.socket, timeout: float = 60) -> float:
    """Return after how many seconds the server hangs up."""
    began = time.monotonic()
    connection.settimeout(timeout)
    try:
        while connection.recv(65_536):
            pass
    except ConnectionError:
        pass
    return time.monotonic() - began


def plain(doors: Doors) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(doors.broker.address.rpartition(":")[2])), timeout=60)


def mutual(doors: Doors) -> ssl.SSLSocket:
    folder = doors.broker.svids / "researcher"
    context = ssl.create_default_context(cafile=folder / "bundle.pem")
    context.load_cert_chain(folder / "svid.pem", folder / "key.pem")
    context.set_alpn_protocols(["h2"])
    return http2.connect(doors.broker.address, context)


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb\x03\x03"])
def test_a_handshake_that_is_not_finished_is_hung_up_on(doors: Doors, data: bytes) -> None:
    with plain(doors) as connection:
        connection.sendall(data)
        assert ended_after(connection) < 30


@pytest.mark.parametrize("data", [b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
def test_http_2_that_does_not_begin_is_hung_up_on(doors: Doors, data: bytes) -> None:
    with mutual(doors) as connection:
        connection.sendall(data)
        assert ended_after(connection) < 30


def test_a_crowd_of_silent_connections_keeps_nobody_out(doors: Doors) -> None:
    with ExitStack() as stack:
        for _ in range(1_500):
            stack.enter_context(plain(doors))
        with mutual(doors) as connection:
            path = "/broker.v1.AgentService/ReleaseCredential"
            assert b"there is no lease" in http2.call(connection, path, b"\x0a\x04none").headers
