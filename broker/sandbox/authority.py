"""A development CA in a folder: `ca.pem`, `ca-key.pem`, and an SVID's folder for each name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from broker.disk import files
from broker.identity.spiffe import SpiffeId
from broker.sandbox.certificates import Authority, Svid, issue_svid, new_authority
from broker.sandbox.problem import SandboxProblem

_CERTIFICATE, _KEY = "ca.pem", "ca-key.pem"


def create(directory: Path, trust_domain: str, lifetime: timedelta, at: datetime) -> Path:
    """Make the CA; return its certificate's path, which is also the trust bundle.

    Raises:
        SandboxProblem: there is one already.
    """
    if exists(directory):
        raise SandboxProblem(f"`{directory}` holds a CA already: issue under it, or name another folder")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = new_authority(trust_domain, lifetime, at)
    files.replace(directory / _KEY, authority.key_pem)
    files.replace(directory / _CERTIFICATE, authority.cert_pem, files.PUBLIC)
    return directory / _CERTIFICATE


def exists(directory: Path) -> bool:
    """Report whether there is a CA."""
    return (directory / _CERTIFICATE).exists()


def read_authority(directory: Path) -> Authority:
    """Return the CA, with its key.

    Raises:
        SandboxProblem: there is none.
    """
    if not exists(directory):
        raise SandboxProblem(f"`{directory}` holds no CA: make one with `credbroker svid init {directory}`")
    return Authority((directory / _CERTIFICATE).read_bytes(), (directory / _KEY).read_bytes())


def issue(
    directory: Path, name: str, spiffe_id: SpiffeId, dns_names: Sequence[str], lifetime: timedelta, at: datetime
) -> Path:
    """Issue an SVID into the folder `name` beside the CA, over what was there; return the folder.

    Raises:
        SandboxProblem: there is no CA, or it is one of another trust domain.
    """
    authority = read_authority(directory)
    own = _trust_domain(authority.cert_pem)
    if own != spiffe_id.trust_domain:
        raise SandboxProblem(f"this CA is of the trust domain `{own}`, and may not vouch for `{spiffe_id}`")
    write_svid(directory / name, issue_svid(authority, spiffe_id, dns_names, lifetime, at), authority.cert_pem)
    return directory / name


def write_svid(directory: Path, svid: Svid, bundle_pem: bytes) -> None:
    """Write an SVID's files, each at once; a reader between two of them keeps what it had."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, data, mode in (
        ("bundle.pem", bundle_pem, files.PUBLIC),
        ("key.pem", svid.key_pem, files.PRIVATE),
        ("svid.pem", svid.cert_pem, files.PUBLIC),
    ):
        files.replace(directory / name, data, mode)


def _trust_domain(pem: bytes) -> str:
    (uri,) = _names(x509.load_pem_x509_certificate(pem)).get_values_for_type(x509.UniformResourceIdentifier)
    return uri.removeprefix("spiffe://")


def describe(path: Path, at: datetime) -> dict[str, object]:
    """Return what a certificate file (or the `svid.pem` in a folder) says, and whether it is in time.

    Raises:
        SandboxProblem: it is no certificate with a SPIFFE ID.
        OSError: it cannot be read.
    """
    file = path / "svid.pem" if path.is_dir() else path
    try:
        leaf = x509.load_pem_x509_certificates(file.read_bytes())[0]
        names = _names(leaf)
        (spiffe_id,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, IndexError, x509.ExtensionNotFound):
        raise SandboxProblem(f"`{file}` is not an X.509-SVID in PEM") from None
    return {
        "spiffe_id": spiffe_id,
        "dns_names": names.get_values_for_type(x509.DNSName),
        "serial": f"{leaf.serial_number:x}",
        "not_before": leaf.not_valid_before_utc.isoformat(),
        "not_after": leaf.not_valid_after_utc.isoformat(),
        "in_time": leaf.not_valid_before_utc <= at < leaf.not_valid_after_utc,
    }


def outlives(directory: Path, at: datetime) -> bool:
    """Report whether the SVID in a folder is there and still good at an instant."""
    file = directory / "svid.pem"
    return file.exists() and x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc > at


def _names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
