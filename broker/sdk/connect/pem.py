"""Certificates in PEM files, and what to say of a file that holds none."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from broker.model.errors import Hints, Reason, Refusal

_BEGIN = b"-----BEGIN CERTIFICATE-----"


def certificates(path: Path, pem: bytes, remedy: str) -> tuple[x509.Certificate, ...]:
    """Parse the certificates of a file.

    Raises:
        Refusal: IDENTITY_INVALID, if there is none, or a broken one; it names the file and the remedy.
    """
    try:
        chain = tuple(x509.load_pem_x509_certificates(pem))
    except (ValueError, x509.InvalidVersion):
        chain = ()
    if not chain or len(chain) < pem.count(_BEGIN):  # one that is cut short is passed over otherwise
        message = f"{path}: holds no certificates in PEM, or a broken one"
        raise Refusal(Reason.IDENTITY_INVALID, message, Hints(next=remedy))
    return chain
