"""The HTTPS listener and clients that take their time: a server of our own, which is less patient than the daemon's."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from broker.identity.authority import issue_svid
from broker.identity.spiffe import parse_spiffe_id
from broker.model.clock import system_clock
from broker.web.server import Certificate, HttpServer
from tests.fakes import authority

ROOT = authority()
SVID = issue_svid(
    ROOT, parse_spiffe_id("spiffe://example.org/broker"), ["localhost"], timedelta(hours=1), system_clock()
)
PATIENCE = 0.5
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"


@dataclass
class Server:
    """The server, and how many requests came to an end in the application, whole or not."""

    http: HttpServer
    whole: int = 0
    broken: int = 0

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.create_default_context(cadata=ROOT.cert_pem.decode())
        return await asyncio.open_connection("localhost", self.http.port, ssl=context)


@asynccontextmanager
async def serving(pause: float = 0) -> AsyncIterator[Server]:
    async def answer(request: Request) -> PlainTextResponse:
        try:
            await request.body()
        except ClientDisconnect:
            server.broken += 1
        else:
            await asyncio.sleep(pause)
            server.whole += 1
        return PlainTextResponse("done")

    app = Starlette(routes=[Route("/", answer, methods=["GET", "POST"])])
    server = Server(HttpServer("127.0.0.1:0", app, lambda: Certificate(SVID.cert_pem, SVID.key_pem), PATIENCE))
    server.http.start()
    try:
        yield server
    finally:
        await server.http.stop(1)


async def heard(reader: asyncio.StreamReader) -> tuple[bytes, float]:
    """Give what comes until the server hangs up, and after how many seconds it does."""
    began = asyncio.get_running_loop().time()
    found = bytearray()
    try:
        async with asyncio.timeout(5):
            while chunk := await reader.read(65_536):
                found += chunk
    except (ConnectionError, ssl.SSLError):
        pass
    return bytes(found), asyncio.get_running_loop().time() - began


@pytest.mark.parametrize("data", [b"", b"GET", POST, POST + b"x" * 50, GET + b"GET", GET + POST])
async def test_who_falls_silent_is_hung_up_on(data: bytes) -> None:
    async with serving() as server:
        reader, writer = await server.connect()
        writer.write(data)
        answer, seconds = await heard(reader)
        assert answer.count(b"HTTP/1.1 200") == data.count(GET)
        assert seconds < 3 * PATIENCE
        await asyncio.sleep(0)
        assert (server.whole, server.broken) == (data.count(GET), data.count(POST))
        writer.close()


async def test_who_dribbles_is_hung_up_on() -> None:
    """Each byte comes in time, and the whole does not."""
    async with serving() as server:
        reader, writer = await server.connect()

        async def dribble() -> None:
            for number in range(len(POST) + 100):
                writer.write((POST + b"x" * 100)[number : number + 1])
                await asyncio.sleep(PATIENCE / 50)

        dribbling = asyncio.create_task(dribble())
        answer, seconds = await heard(reader)
        dribbling.cancel()
        assert (answer, server.whole) == (b"", 0)
        assert seconds < 3 * PATIENCE
        writer.close()


async def test_who_goes_on_after_the_answer_is_hung_up_on() -> None:
    """A request that was answered before it was whole may not go on for ever."""

    async def refuse(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("no", 400)

    app = Starlette(routes=[Route("/", refuse, methods=["POST"])])
    http = HttpServer("127.0.0.1:0", app, lambda: Certificate(SVID.cert_pem, SVID.key_pem), PATIENCE)
    http.start()
    server = Server(http)
    reader, writer = await server.connect()
    writer.write(POST.replace(b"100", b"1000000"))

    async def go_on() -> None:
        while True:
            writer.write(b"x")
            await asyncio.sleep(PATIENCE / 20)

    going = asyncio.create_task(go_on())
    answer, seconds = await heard(reader)
    going.cancel()
    assert answer.startswith(b"HTTP/1.1 400")
    assert seconds < 3 * PATIENCE
    writer.close()
    await http.stop(1)


async def test_who_asks_again_and_again_may_stay() -> None:
    async with serving() as server:
        reader, writer = await server.connect()
        for number in range(5):
            writer.write(GET)
            await reader.readuntil(b"done")
            await asyncio.sleep(PATIENCE / 2)
            assert server.whole == number + 1
        writer.close()


async def test_it_stops_without_waiting_for_the_silent_but_for_answers() -> None:
    async with serving(pause=PATIENCE / 2) as server:
        silent = [await server.connect() for _ in range(3)]
        silent[0][1].write(GET)
        await silent[0][0].readuntil(b"done")
        reader, writer = await server.connect()
        writer.write(GET)
        await asyncio.sleep(PATIENCE / 10)
        began = asyncio.get_running_loop().time()
        stopping = asyncio.create_task(server.http.stop(10))
        answer, _ = await heard(reader)
        await stopping
        assert answer.endswith(b"done")
        assert asyncio.get_running_loop().time() - began < 4
        for _, found in [*silent, (reader, writer)]:
            found.close()
