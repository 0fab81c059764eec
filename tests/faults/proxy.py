"""The wire between a broker and its PostgreSQL, which can be cut, slowed, blocked and made to lose an answer.

It runs on an event loop and a thread of its own, so that a test that keeps its own loop busy holds nothing up.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_PIECE = 65_536
_DONE_SECONDS = 0.3  # until a server has done what it was told, whose answer will be lost
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a RST, and forgets what was queued


@dataclass(eq=False)
class _Link:
    """One connection through the proxy: its two ends; `lost`: neither end will ever hear of the other again."""

    ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    lost: bool = False


@dataclass
class Proxy:
    """A proxy on loopback in front of a Unix socket. Its methods are for other threads."""

    upstream: Path
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    port: int = 0
    delay: float = 0.0  # seconds that each piece of data is late, in each direction
    _flows: asyncio.Event = field(default_factory=asyncio.Event)
    _answers: asyncio.Event = field(default_factory=asyncio.Event)
    _is_cut: bool = False
    _links: set[_Link] = field(default_factory=set)
    _cut_after: bytes = b""

    def heal(self) -> None:
        """Be a wire again. What was held back arrives, as TCP sends it again."""
        self.delay = 0.0
        self._do(self._become(flows=True))

    def block(self) -> None:
        """Let nothing through, and tell nobody: a firewall that drops, or a host without power."""
        self._do(self._become(flows=False, answers=False))

    def hold_answers(self) -> None:
        """Let everything through to the server, and nothing back: cut one way."""
        self._do(self._become(flows=True, answers=False))

    def cut(self) -> None:
        """Reset every connection, and each new one."""
        self._do(self._become(flows=True, cut=True))

    def lose_connections(self) -> None:
        """Let the connections of now go dead without a word; new ones work: a fail-over by address."""
        self._do(self._lose())

    def cut_after(self, word: bytes) -> None:
        """Reset the next connection that carries a word to the server, once the server has it: its answer is lost."""
        self._cut_after = word

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        """Listen for the time of a block."""
        thread = threading.Thread(target=self.loop.run_forever, name="proxy", daemon=True)
        thread.start()
        self._flows.set()
        self._answers.set()
        server = self._do(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self._do(self._stop(server))
            self.loop.call_soon_threadsafe(self.loop.stop)
            thread.join()
            self.loop.close()

    def _do(self, step: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(step, self.loop).result()

    async def _become(self, *, flows: bool, answers: bool = True, cut: bool = False) -> None:
        (self._flows.set if flows else self._flows.clear)()
        (self._answers.set if answers else self._answers.clear)()
        self._is_cut = cut
        for link in list(self._links) if cut else ():
            _reset(link)

    async def _lose(self) -> None:
        for link in self._links:
            link.lost = True

    async def _stop(self, server: asyncio.Server) -> None:
        """End every connection, then the server: one that is closed leaves open what it has just accepted."""
        for listening in server.sockets:
            self.loop.remove_reader(listening.fileno())
        await asyncio.sleep(0)  # until whoever was accepted has a task
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.wait(others)
        server.close()
        await asyncio.sleep(0)  # until what was aborted is closed

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(asyncio.CancelledError, OSError):  # the end of the test, or of a connection
                await self._serve(reader, writer)
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flows.wait()  # our kernel has answered the caller: as that of a host that is half dead
        if self._is_cut:
            _abort(writer)
            return
        answers, server = await asyncio.open_unix_connection(self.upstream)
        link = _Link((writer, server))
        self._links.add(link)
        pumps = [
            asyncio.create_task(self._pump(link, reader, server, outward=True)),
            asyncio.create_task(self._pump(link, answers, writer, outward=False)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._links.discard(link)
            server.transport.abort()  # first: we may be cancelled once more
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, outward: bool
    ) -> None:
        while data := await reader.read(_PIECE):
            await asyncio.sleep(self.delay)
            await (self._flows if outward else self._answers).wait()
            if link.lost:
                await asyncio.Event().wait()
            last = outward and bool(self._cut_after) and self._cut_after in data
            link.lost = last  # so that the answer stays with us
            writer.write(data)
            await writer.drain()
            if last:
                self._cut_after = b""
                await asyncio.sleep(_DONE_SECONDS)
                _reset(link)


def _reset(link: _Link) -> None:
    for end in link.ends:
        _abort(end)


def _abort(writer: asyncio.StreamWriter) -> None:
    plain: socket.socket | None = writer.get_extra_info("socket")
    if plain is not None and plain.family is not socket.AF_UNIX:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
