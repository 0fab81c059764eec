"""The HTTPS listener and clients that take their time: a server of our own, which is less patient than the daemon's."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from broker.identity.spiffe import parse_spiffe_id
from broker.sandbox.certificates import issue_svid
from broker.system import system_clock
from broker.web.server import Certificate, HttpServer
from tests.support.fakes import authority

ROOT = authority()
SVID = issue_svid(
    ROOT, parse_spiffe_id("spiffe://example.org/broker"), ["localhost"], timedelta(hours=1), system_clock()
)
PATIENCE = 0.5
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"


@dataclass
class Server:
    """The server; how many requests ended, whole or not; and those for what is held back, until it is let go."""

    http: HttpServer
    whole: int = 0
    broken: int = 0
    held: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def connect(self, whence: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.create_default_context(cadata=ROOT.cert_pem.decode())
        return await asyncio.open_connection(
            "127.0.0.1", self.http.port, ssl=context, server_hostname="localhost", local_addr=(whence, 0)
        )

    async def connect_plain(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.http.port)

    async def get(self, whence: str = "127.0.0.1") -> bytes:
        reader, writer = await self.connect(whence)
        writer.write(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        answer, _ = await heard(reader)
        writer.close()
        return answer


@asynccontextmanager
async def serving(pause: float = 0, patience: float = PATIENCE) -> AsyncIterator[Server]:
    async def answer(request: Request) -> PlainTextResponse:
        try:
            await request.body()
        except ClientDisconnect:
            server.broken += 1
        else:
            await asyncio.sleep(pause)
            server.whole += 1
        return PlainTextResponse("done")

    async def hold(_request: Request) -> PlainTextResponse:
        server.held.release()
        await server.let_go.wait()
        return PlainTextResponse("done")

    app = Starlette(routes=[Route("/", answer, methods=["GET", "POST"]), Route("/held", hold)])
    server = Server(HttpServer("127.0.0.1:0", app, lambda: Certificate(SVID.cert_pem, SVID.key_pem), patience))
    server.http.start()
    try:
        yield server
    finally:
        await server.http.stop(1)


async def heard(reader: asyncio.StreamReader, patience: float = 15) -> tuple[bytes, float]:
    """Return what comes until the server hangs up, and after how many seconds it does."""
    began = asyncio.get_running_loop().time()
    found = bytearray()
    try:
        async with asyncio.timeout(patience):
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


CROWD = 1_000
OTHER = "127.0.0.2"
Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def crowd(open_one: Callable[[], Awaitable[Opened]], size: int, data: bytes = b"") -> AsyncIterator[Opened]:
    for _ in range(size):
        reader, writer = await open_one()
        writer.write(data)
        yield reader, writer


async def gone(opened: list[Opened]) -> int:
    """Count those that the server has hung up on."""

    async def is_gone(reader: asyncio.StreamReader) -> bool:
        try:
            async with asyncio.timeout(0.1):
                return not await reader.read(1)
        except TimeoutError:
            return False
        except OSError:
            return True

    return sum(await asyncio.gather(*(is_gone(reader) for reader, _ in opened)))


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb\x03\x03" + b"x" * 3_000, b"\x16" * 5_000])
async def test_a_crowd_of_silent_connections_is_bounded_and_keeps_nobody_out(data: bytes) -> None:
    """From its own address, or from another."""
    async with serving(patience=20) as server:
        opened = [one async for one in crowd(server.connect_plain, CROWD, data)]
        for whence in ("127.0.0.1", OTHER):
            assert (await server.get(whence)).endswith(b"done")
        assert await gone(opened) >= CROWD - 200
        for _, writer in opened:
            writer.close()


@pytest.mark.parametrize("data", [b"", b"GET", POST, POST + b"x" * 50, GET])
async def test_a_crowd_of_idle_tls_connections_is_bounded_and_keeps_nobody_out(data: bytes) -> None:
    async with serving(patience=20) as server:
        opened = [one async for one in crowd(server.connect, 300, data)]
        for whence in ("127.0.0.1", OTHER):
            assert (await server.get(whence)).endswith(b"done")
        if data != GET:  # else they hear their answer first
            assert await gone(opened) >= 100
        for _, writer in opened:
            writer.close()


async def test_whoever_is_being_answered_makes_no_room_for_others() -> None:
    async with serving(patience=600) as server:
        busy = [one async for one in crowd(server.connect, 200, GET.replace(b"/", b"/held", 1))]
        for _ in busy:
            await server.held.acquire()
        with pytest.raises(OSError):
            await server.connect()
        assert (await server.get(OTHER)).endswith(b"done")
        server.let_go.set()
        for reader, writer in busy:
            assert (await reader.readuntil(b"done")).startswith(b"HTTP/1.1 200")
            writer.close()


async def test_a_handshake_that_is_not_finished_is_hung_up_on() -> None:
    async with serving(patience=60) as server:
        reader, writer = await server.connect_plain()
        writer.write(b"\x16\x03\x01")
        _, seconds = await heard(reader, 30)
        assert 4 < seconds < 20
        writer.close()
