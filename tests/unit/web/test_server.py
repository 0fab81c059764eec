"""The certificate of the HTTPS listener: what cannot be used leaves the one before."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from starlette.applications import Starlette

from broker.identity.spiffe import parse_spiffe_id
from broker.sandbox.certificates import Svid, issue_svid
from broker.system import system_clock
from broker.web.server import Certificate, CertificateProblem, HttpServer
from tests.support.fakes import DAY, authority


def svid() -> Svid:
    return issue_svid(authority(), parse_spiffe_id("spiffe://example.org/broker"), ["localhost"], DAY, system_clock())


OLD, NEW = svid(), svid()


@asynccontextmanager
async def serving(certificates: list[Certificate]) -> AsyncIterator[HttpServer]:
    server = HttpServer("127.0.0.1:0", Starlette(), lambda: certificates[-1])
    server.start()
    try:
        yield server
    finally:
        await server.stop(1)


async def shown(server: HttpServer) -> int:
    """Return the serial number of the certificate that a client is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    chain = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return x509.load_der_x509_certificate(chain).serial_number


def serial(chain_pem: bytes) -> int:
    return x509.load_pem_x509_certificate(chain_pem).serial_number


@pytest.mark.parametrize(
    "broken",
    [
        Certificate(NEW.cert_pem, OLD.key_pem),  # between the writing of one file and of the other
        Certificate(OLD.cert_pem, NEW.key_pem),
        Certificate(NEW.cert_pem, b""),
        Certificate(b"", NEW.key_pem),
        Certificate(NEW.cert_pem[:-40], NEW.key_pem),
    ],
)
async def test_a_certificate_that_cannot_be_used_leaves_the_one_before(broken: Certificate) -> None:
    certificates = [Certificate(OLD.cert_pem, OLD.key_pem)]
    async with serving(certificates) as server:
        certificates.append(broken)
        with pytest.raises(CertificateProblem, match="http_cert"):
            server.refresh()
        assert await shown(server) == serial(OLD.cert_pem)
        certificates.append(Certificate(NEW.cert_pem, NEW.key_pem))
        server.refresh()
        assert await shown(server) == serial(NEW.cert_pem)


async def test_a_certificate_that_could_not_be_passed_on_is_shown_once_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = [Certificate(OLD.cert_pem, OLD.key_pem)]
    async with serving(certificates) as server:
        certificates.append(Certificate(NEW.cert_pem, NEW.key_pem))
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))
        with pytest.raises(OSError, match="full"):
            server.refresh()
        assert await shown(server) == serial(OLD.cert_pem)
        (tmp_path / "full").mkdir()
        server.refresh()
        assert await shown(server) == serial(NEW.cert_pem)
