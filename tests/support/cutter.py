"""A wire between a client and a broker that can be cut: at once, or behind the requests, so that answers get lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_TURNS = 5  # of the loop, in which what was accepted comes to be served, and what was broken off to be closed


class Cutter:
    """Passes TCP on to a port of loopback. `address` is where clients find it."""

    def __init__(self, port: int) -> None:
        self.address = ""
        self._port = port
        self._whole = True
        self._silent = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Break all connections, and take no more."""
        self._whole = False
        self._drop()

    def lose_answers(self) -> None:
        """Pass requests on, but nothing that comes back."""
        self._silent = True

    def mend(self) -> None:
        """Be a wire again. Connections on which answers got lost break."""
        if self._silent:
            self._drop()
        self._whole, self._silent = True, False

    def _drop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def end(self) -> None:
        """Break all connections, those too that were accepted just now, and wait until none is left."""
        self.cut()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        if self._serving:
            await asyncio.wait(self._serving)
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on, until either side ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            self._serving.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._whole:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        if not self._whole:  # it was cut meanwhile
            self._drop()
        try:
            await asyncio.wait(
                [
                    asyncio.create_task(self._pass(reader, back)),
                    asyncio.create_task(self._pass(there, writer, answers=True)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            for ended in (writer, back):
                ended.transport.abort()
                self._writers.discard(ended)

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, answers: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                if answers and self._silent:
                    continue
                target.write(data)
                await target.drain()


@asynccontextmanager
async def cuttable(port: int) -> AsyncIterator[Cutter]:
    """Put a wire before a port, for the time of a block."""
    cutter = Cutter(port)
    server = await asyncio.start_server(cutter.serve, "127.0.0.1", 0)
    cutter.address = f"localhost:{server.sockets[0].getsockname()[1]}"
    try:
        yield cutter
    finally:
        await cutter.end()  # first: a server that is closed drops what it has just accepted, and leaves it open
        server.close()
