"""The token endpoint under abuse, over real TLS: errors by the RFCs or a 4xx, and a daemon that goes on."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.support.facade import JOB, JWT_BEARER, NOTES, Facade

FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
KEPT = "kept-out-of-the-log"


@pytest.fixture(scope="module")
def task_id(facade: Facade) -> str:
    return facade.begin(JOB)


@pytest.fixture(autouse=True)
def well(facade: Facade, task_id: str, folder: Path) -> Iterator[None]:
    """Check after each abuse that the daemon serves as before; its log holds neither tracebacks nor secrets."""
    yield
    assert facade.token(client_assertion=facade.workload(), task=task_id).status_code == 200
    log = (folder / "broker.log").read_text()
    assert "Traceback" not in log
    assert "request.failed" not in log
    assert KEPT not in log


def connection(facade: Facade, timeout: float = 15) -> ssl.SSLSocket:
    host, _, port = facade.url.removeprefix("https://").rpartition(":")
    plain = socket.create_connection((host, int(port)), timeout)
    context = ssl.create_default_context(cadata=facade.roots.decode())
    return context.wrap_socket(plain, server_hostname=host)


def sent(facade: Facade, data: bytes) -> bytes:
    """Send bytes, and return all that comes back until the server hangs up."""
    with connection(facade) as stream:
        with suppress(ConnectionError, ssl.SSLError):  # it may have hung up before the end
            stream.sendall(data)
        answer = bytearray()
        with suppress(ConnectionError, ssl.SSLError):
            while chunk := stream.recv(65_536):
                answer += chunk
    return bytes(answer)


def post(
    body: bytes, *headers: bytes, path: bytes = b"/token", version: bytes = b"1.1", host: bytes = b"localhost"
) -> bytes:
    """Make a request, after which the server is to hang up."""
    lines = [b"POST %s HTTP/%s" % (path, version), b"Host: " + host, b"Connection: close", FORM.strip(), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def length(body: bytes) -> bytes:
    return b"Content-Length: %d" % len(body)


def statuses(answer: bytes) -> list[int]:
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


# Bodies.


def test_a_body_of_ten_megabytes_is_refused_without_being_kept(facade: Facade) -> None:
    body = b"grant_type=" + b"x" * 10_000_000
    answer = sent(facade, post(body, length(body)))
    assert statuses(answer) in ([400], []), "it may hang up on who goes on sending"
    assert facade.http.post("/token", data={"x": "y" * 10_000_000}).json()["error"] == "invalid_request"


def test_so_is_one_in_chunks_without_end(facade: Facade) -> None:
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    answer = sent(facade, post(chunk * 100, b"Transfer-Encoding: chunked"))
    assert statuses(answer) in ([400], [])


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"&".join(b"f%d=1" % number for number in range(10_000)), "invalid_request"),
        (b"&" * 50_000, "invalid_request"),
        (b"=" * 50_000, "unsupported_grant_type"),
        (b"grant_type=%2563lient_credentials", "unsupported_grant_type"),
        (b"grant_type=%25252525", "unsupported_grant_type"),
        (b"grant%5ftype=client_credentials&grant_type=client_credentials", "unsupported_grant_type"),
        (b"grant_type=client_credentials;client_assertion=x", "unsupported_grant_type"),
        (b"grant_type=client_credentials%00", "unsupported_grant_type"),
        (b"grant_type=client_credentials\0", "unsupported_grant_type"),
        (b"grant_type=client_credentials&client_assertion=%00", "invalid_request"),
        (b"grant_type=client_credentials&client_secret=" + KEPT.encode(), "invalid_client"),
        (b"grant_type=%ff%fe", "invalid_request"),
        (b"grant_type=%ed%a0%80", "invalid_request"),
        (b"\xff\xfe\x00", "invalid_request"),
        (b"grant_type=%", "unsupported_grant_type"),
        (b"", "unsupported_grant_type"),
        (b'{"grant_type":"client_credentials"}', "unsupported_grant_type"),
    ],
)
def test_a_form_that_is_none_is_told_so(body: bytes, error: str, facade: Facade) -> None:
    answer = sent(facade, post(body, length(body)))
    assert statuses(answer)[0] in (400, 401)
    assert f'"error":"{error}"'.encode() in answer.replace(b'": "', b'":"')


@pytest.mark.parametrize("name", ["task", "resource", "scope", "client_id", "authorization_details", "audience"])
@pytest.mark.parametrize(
    "value", ["\0", "a\0b", "%00", "\x1b[31m", "\r\nX-More: 1", "\u202e", "\ud7ff\uffff", "a" * 60_000]
)
def test_odd_characters_are_refused_and_do_not_break_the_record(
    name: str, value: str, facade: Facade, task_id: str
) -> None:
    form = {"client_assertion": facade.workload(), "task": task_id, name: value}
    answer = facade.token(**form)
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]
    assert "x-more" not in answer.headers
    assert answer.json()["error_description"].isprintable()


# Connections.


def test_a_silent_connection_costs_little(facade: Facade) -> None:
    """asyncio's own buffer alone would be 256 KiB for each."""

    def kibibytes() -> int:
        status = Path(f"/proc/{facade.broker.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    with connection(facade), ExitStack() as stack:
        before = kibibytes()
        for _ in range(150):
            stack.enter_context(connection(facade))
        assert kibibytes() - before < 150 * 150


# Requests.


def test_only_a_post_is_taken_and_only_where_it_belongs(facade: Facade) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH", "TRACE", "HEAD"):
        assert facade.http.request(method, "/token").status_code == 405
    for path in ("/token/", "//token", "/TOKEN", "/%74oken/..", "/token%00", "/token;x=y", "/../token", "/token%2f"):
        assert facade.http.post(path).status_code in (400, 404), path


def test_no_host_that_a_request_names_is_sent_back(facade: Facade) -> None:
    """Nothing is made of it: a client that is sent elsewhere would take its assertion there."""
    body = b"grant_type=x"
    for path in (b"/token", b"/token/", b"/jwks/", b"//evil.example/token", b"https://evil.example/token"):
        answer = sent(facade, post(body, length(body), path=path, host=b"evil.example"))
        assert 400 <= statuses(answer)[0] < 500
        assert b"evil.example" not in answer
        assert b"location" not in answer.lower()
    about = facade.http.get("/.well-known/oauth-authorization-server", headers={"host": "evil.example"})
    assert "evil.example" not in about.text


def test_the_query_holds_no_parameters(facade: Facade, task_id: str) -> None:
    """They would be in the logs of whatever is in between (RFC 6749 section 3.2)."""
    asked = {"grant_type": "client_credentials", "client_assertion": facade.workload(), "resource": NOTES}
    asked |= {"client_assertion_type": JWT_BEARER, "task": task_id, "note": KEPT}
    answer = facade.http.post("/token", params=asked, data={"x": "y"})
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")
    with_query = facade.http.post("/token", params={"task": "other"}, data=asked)
    assert with_query.status_code == 200, "a query is nothing to us"


def test_http_1_0_is_answered_and_older_is_not(facade: Facade) -> None:
    body = b"grant_type=x"
    assert b"unsupported_grant_type" in sent(facade, post(body, length(body), version=b"1.0"))
    for version in (b"0.9", b"2.0", b"1.1x"):
        assert statuses(sent(facade, post(body, length(body), version=version))) == [400]


GOOD = b"grant_type=x"
SMUGGLED = b"POST /revoke HTTP/1.1\r\nHost: localhost\r\n" + FORM + b"Content-Length: 7\r\n\r\ntoken=x"


@pytest.mark.parametrize(
    "headers",
    [
        (b"Content-Length: 12", b"Content-Length: 13"),
        (b"Content-Length: 12, 13",),
        (b"Content-Length: +12",),
        (b"Content-Length: -1",),
        (b"Content-Length: 0x0c",),
        (b"Content-Length: 1_2",),
        (b"Content-Length: 12", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Content-Length: 0"),
        (b"Transfer-Encoding: chunked, identity",),
        (b"Transfer-Encoding: xchunked",),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
        (b"Transfer-Encoding : chunked",),
        (b"Content-Length : 12",),
        (b" Content-Length: 12",),
        (b"X: y\0z", b"Content-Length: 12"),
        (b"X: y\rContent-Length: 0",),
        (b"Host: other", b"Content-Length: 12"),
        (b"no colon", b"Content-Length: 12"),
    ],
)
def test_what_two_readers_could_cut_in_two_ways_is_cut_off(headers: tuple[bytes, ...], facade: Facade) -> None:
    """Refusals alone: what stands behind is never read as a request, which would be answered with 200."""
    request = post(b"0\r\n\r\n" if any(b"hunked" in header for header in headers) else GOOD, *headers)
    answer = sent(facade, request.replace(b"Connection: close\r\n", b"") + SMUGGLED)
    assert statuses(answer)
    assert set(statuses(answer)) <= {400, 501}


def test_garbage_behind_a_good_request_is_no_request(facade: Facade) -> None:
    good = post(GOOD, length(GOOD)).replace(b"Connection: close\r\n", b"")
    answer = sent(facade, good + good + b"\x16\x03\x01 garbage\r\n\r\n" + SMUGGLED)
    assert statuses(answer) == [400, 400, 400], "two answers, and the refusal of the garbage"
    assert sent(facade, b"\0" * 1_000 + b"\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert sent(facade, b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 200_000).startswith(b"HTTP/1.1 400")
    assert sent(facade, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20_000 + b"\r\n").startswith(b"HTTP/1.1 4")


# Connections.


def test_who_says_nothing_keeps_nobody_waiting(facade: Facade, task_id: str) -> None:
    begun = post(b"", b"Content-Length: 1000")
    with ExitStack() as stack:

        def connect(number: int) -> socket.socket:
            if number % 3 == 0:  # not even a handshake
                host, _, port = facade.url.removeprefix("https://").rpartition(":")
                return stack.enter_context(socket.create_connection((host, int(port)), 15))
            stream = stack.enter_context(connection(facade))
            if number % 3 == 1:
                stream.sendall(begun[: number % len(begun)])
            return stream

        with ThreadPoolExecutor(10) as pool:
            assert len(list(pool.map(connect, range(300)))) == 300
            began = time.monotonic()
            answers = list(
                pool.map(lambda _: facade.token(client_assertion=facade.workload(), task=task_id), range(30))
            )
        assert {answer.status_code for answer in answers} == {200}
        assert time.monotonic() - began < 10


def test_who_leaves_in_the_middle_leaves_no_trace(facade: Facade) -> None:
    for data in (b"", b"POST", post(b"", b"Content-Length: 1000"), post(b"gra", b"Content-Length: 1000")):
        with connection(facade) as stream:
            stream.sendall(data)
    with connection(facade) as stream:
        stream.sendall(post(GOOD, length(GOOD)))
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset instead of a goodbye
    time.sleep(0.2)
