"""A pooler before PostgreSQL, in the manner of PgBouncer's transaction mode: each transaction gets another session.

It forwards messages as they are (PostgreSQL, "Message Formats"), and speaks for itself only when a connection begins.
"""

from __future__ import annotations

import asyncio
import struct
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_ENCRYPTION = (80877103, 80877104)  # SSLRequest, GSSENCRequest
_STARTUP = struct.pack("!i", 196608) + b"user\0postgres\0database\0%s\0\0"
_ENDS = (b"Q", b"S")  # Query and Sync: after these the server answers, and says where it stands
_IDLE = b"I"


class Unsupported(Exception):
    """A client asks for what a pooler cannot give."""


@dataclass(eq=False)
class _Session:
    """A connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@dataclass
class Pooler:
    """A pooler with so many sessions, which it gives out in turn. `refused` counts clients that asked for too much."""

    upstream: Path
    database: str
    size: int = 3
    port: int = 0
    transactions: int = 0
    refused: int = 0
    _hello: bytes = b""  # what the server says about itself when a connection begins
    _idle: deque[_Session] = field(default_factory=deque)
    _freed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _clients: set[asyncio.Task[None]] = field(default_factory=set)

    @contextmanager
    def running(self) -> Iterator[Pooler]:
        """Listen for the time of a block, on an event loop and a thread of its own."""
        started, stop = threading.Event(), asyncio.Event()
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=lambda: loop.run_until_complete(self._run(started, stop)), name="pooler")
        thread.start()
        started.wait()
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
            loop.close()

    async def _run(self, started: threading.Event, stop: asyncio.Event) -> None:
        sessions = [await self._open() for _ in range(self.size)]
        self._idle.extend(sessions)
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await stop.wait()
        server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        for session in sessions:
            session.writer.transport.abort()
        await asyncio.sleep(0)  # until the transports are closed

    async def _open(self) -> _Session:
        session = _Session(*await asyncio.open_unix_connection(self.upstream))
        hello = b""
        start = _STARTUP % self.database.encode()
        session.writer.write(struct.pack("!i", len(start) + 4) + start)
        while True:
            kind, message = await _message(session.reader)
            if kind == b"Z":
                self._hello = hello
                return session
            if kind == b"S":  # ParameterStatus
                hello += message

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            with suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
                await self._serve(reader, writer)
        except Unsupported:
            self.refused += 1
        finally:
            self._clients.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _startup(reader, writer)
        own = b"K" + struct.pack("!iii", 12, 1, 1)  # BackendKeyData: of no process of the server's
        writer.write(b"R" + struct.pack("!ii", 8, 0) + self._hello + own + b"Z" + struct.pack("!i", 5) + _IDLE)
        while True:
            kind, message = await _message(reader)
            if kind == b"X":
                return
            await self._transaction(kind, message, reader, writer)

    async def _transaction(
        self, kind: bytes, message: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Lend the client a session, until the server says that it is idle."""
        async with self._freed:
            await self._freed.wait_for(lambda: self._idle)
            session = self._idle.popleft()
        self.transactions += 1
        try:
            while True:
                session.writer.write(message)
                if kind in _ENDS and await _answers(session.reader, writer) == _IDLE:
                    return
                kind, message = await _message(reader)
        finally:
            async with self._freed:
                self._idle.append(session)
                self._freed.notify()


async def _startup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Let a client begin. PgBouncer refuses parameters that it would have to set for one client alone."""
    while True:
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        startup = await reader.readexactly(length - 4)
        if struct.unpack("!i", startup[:4])[0] not in _ENCRYPTION:
            break
        writer.write(b"N")
    if b"options" in startup[4:].split(b"\0")[::2]:
        raise Unsupported("options")


async def _answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Pass on what the server answers; give where it stands then: idle, in a transaction, or in a failed one."""
    while True:
        kind, message = await _message(reader)
        writer.write(message)
        if kind == b"Z":
            return message[-1:]


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    (length,) = struct.unpack("!i", head[1:])
    return head[:1], head + await reader.readexactly(length - 4)
