"""HTTP/2 by hand (RFC 9113, RFC 7541), as far as one gRPC call needs it: for clients whose TLS is not as gRPC's."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_HEADER_SIZE = 9
_LONGEST_SHORT = 127


@dataclass(frozen=True)
class Answer:
    """What came back: the messages' bytes, and all headers and trailers, still packed."""

    data: bytes
    headers: bytes


def connect(address: str, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    """Open a connection, and resume a session if there is one."""
    host, _, port = address.rpartition(":")
    plain = socket.create_connection((host, int(port)), timeout=60)
    try:
        return context.wrap_socket(plain, server_hostname=host, session=session)
    except BaseException:
        plain.close()
        raise


def call(connection: ssl.SSLSocket, path: str, message: bytes = b"", **metadata: str) -> Answer:
    """Make the one gRPC call of a connection.

    Raises:
        OSError: the connection is broken off (ssl.SSLError too).
    """
    headers = {
        ":method": "POST",
        ":scheme": "https",
        ":path": path,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
        **metadata,
    }
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers.items())
    body = b"\0" + len(message).to_bytes(4) + message
    request = _frame(_SETTINGS, 0, 0) + _frame(_HEADERS, _END_HEADERS, 1, block) + _frame(_DATA, _END_STREAM, 1, body)
    connection.sendall(_PREFACE + request)
    data = packed = b""
    while True:
        kind, flags, stream, content = _read(connection)
        if kind == _SETTINGS and not flags & _ACK:
            connection.sendall(_frame(_SETTINGS, _ACK, 0))
        if stream == 1 and kind == _DATA:
            data += content
        if stream == 1 and kind == _HEADERS:
            packed += content
            if flags & _END_STREAM:
                return Answer(data, packed)


def _text(text: str) -> bytes:
    """Pack a text as it is (RFC 7541 section 5.2)."""
    size = len(text)
    if size < _LONGEST_SHORT:
        return bytes([size]) + text.encode()
    packed, rest = bytearray([_LONGEST_SHORT]), size - _LONGEST_SHORT
    while rest >= 128:
        packed.append(rest % 128 + 128)
        rest //= 128
    return bytes([*packed, rest]) + text.encode()


def _frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    return len(content).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + content


def _read(connection: ssl.SSLSocket) -> tuple[int, int, int, bytes]:
    head = _exactly(connection, _HEADER_SIZE)
    return head[3], head[4], int.from_bytes(head[5:]), _exactly(connection, int.from_bytes(head[:3]))


def _exactly(connection: ssl.SSLSocket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        chunk = connection.recv(size - len(found))
        if not chunk:
            raise ConnectionResetError("the server hung up")
        found += chunk
    return bytes(found)
