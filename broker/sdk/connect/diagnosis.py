"""Why a broker cannot be reached: what gRPC calls "Socket closed" or "failed to connect" has a cause and a remedy.

A connection of our own looks, one step after the other: is there such a host, does something listen there, does it
speak TLS, do we believe its certificate, is that for this name, does it believe ours.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from broker.disk import files
from broker.model.clock import Clock
from broker.model.errors import Hints, Reason, Refusal
from broker.sdk.connect.identity import Credentials
from broker.sdk.connect.svid import MutualTls
from broker.sdk.connect.token_file import TokenOverTls
from broker.system import system_clock

_STEP_SECONDS = 2.0
_TARGET = re.compile(r"(?:dns:(?:///?)?)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_HTTPS = 443  # gRPC's port where none is said
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"  # RFC 9113 section 3.4
_CLOCKS = "compare the clocks of this machine and the broker's, and see that what renews its SVID runs"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a broker cannot be reached. `passes`: waiting may help."""

    refusal: Refusal
    passes: bool


def diagnose(address: str, credentials: Credentials, clock: Clock = system_clock) -> Diagnosis | None:
    """Look why calls to an address fail; None if nothing is found wrong. Blocks for some seconds at most."""
    target = _TARGET.fullmatch(address)
    if target is None:
        return None
    host, port = target[1].strip("[]"), int(target[2] or _HTTPS)
    diagnosis = _look(host, port, credentials, clock)
    if diagnosis is not None and diagnosis.refusal.reason is Reason.IDENTITY_INVALID:
        return _look(host, port, credentials, clock)  # twice is no broker that just stopped
    return diagnosis


def explain(addresses: Sequence[str], credentials: Credentials, refusal: Refusal) -> tuple[Refusal, bool]:
    """Look why none of the addresses answers. Return the causes, or else `refusal`, and whether waiting may help."""
    causes = [cause for address in addresses if (cause := diagnose(address, credentials)) is not None]
    if len(causes) < len(addresses):
        return refusal, True
    first, message = causes[0].refusal, "; ".join(dict.fromkeys(cause.refusal.message for cause in causes))
    return Refusal(first.reason, message, first.hints), any(cause.passes for cause in causes)


def _look(host: str, port: int, credentials: Credentials, clock: Clock) -> Diagnosis | None:
    try:
        return _over(host, port, credentials, clock())
    except socket.gaierror as error:
        return _waiting(f"there is no host `{host}`: {error.strerror}", "check the broker's address and the DNS")
    except TimeoutError:
        return _waiting(
            f"no answer comes from {host}:{port}", "check the address, the network and its firewalls, and the broker"
        )
    except OSError as error:
        return _waiting(
            f"nothing can be reached at {host}:{port}: {error.strerror}", "check the address, and that the broker runs"
        )


def _over(host: str, port: int, credentials: Credentials, now: datetime) -> Diagnosis | None:
    """Look at what is on the other side."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # to look at what would be refused
    context.set_alpn_protocols(["h2"])
    roots, ours = _sides(credentials)
    with contextlib.ExitStack() as stack:
        if ours is not None:
            context.load_cert_chain(stack.enter_context(files.passing(ours.key_pem + b"\n" + ours.svid_pem)))
        try:
            tls = stack.enter_context(_connected(context, host, port))
        except ssl.SSLError as error:
            if ours is not None and "ALERT" in (error.reason or ""):
                return _not_taken(ours, _words(error), now)
            return _lasting(
                f"{host}:{port} does not speak TLS as a broker does: {_words(error)}",
                "check the port: is it the broker's gRPC listener?",
            )
        der = tls.getpeercert(binary_form=True)
        if der is None:
            return None
        leaf = x509.load_der_x509_certificate(der)
        return (
            _span(leaf, now)
            or _name(leaf, host)
            or (None if roots is None else _root(host, port, roots, leaf, credentials))
            or (None if ours is None else _taken(tls, ours, now))
        )


def _connected(context: ssl.SSLContext, host: str, port: int) -> ssl.SSLSocket:
    """Connect by TLS, to the first address that answers.

    Sockets are wrapped before they are connected: one that is reset just before it is wrapped stays open (CPython).
    """
    problem = OSError(f"{host} has no address")
    for family, kind, protocol, _name, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        tls = context.wrap_socket(socket.socket(family, kind, protocol), server_hostname=host)
        tls.settimeout(_STEP_SECONDS)
        try:
            tls.connect(address)
        except OSError as error:
            tls.close()
            if isinstance(error, ssl.SSLError):
                raise
            problem = error
        else:
            return tls
    raise problem


def _span(leaf: x509.Certificate, now: datetime) -> Diagnosis | None:
    begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if begins <= now < ends:
        return None
    since = f"expired at {ends:%Y-%m-%d %H:%M:%S}" if now >= ends else f"is good from {begins:%Y-%m-%d %H:%M:%S} on"
    return _waiting(f"the broker's certificate {since} UTC, and here it is {now:%Y-%m-%d %H:%M:%S} UTC", _CLOCKS)


def _name(leaf: x509.Certificate, host: str) -> Diagnosis | None:
    names = _names(leaf)
    dns = names.get_values_for_type(x509.DNSName)
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    if any(_covers(name.lower(), host.lower()) for name in dns) or _address(host) in addresses:
        return None
    named = ", ".join(f"`{name}`" for name in [*dns, *addresses]) or "no host"
    return _lasting(
        f"the broker's certificate is for {named}, and not for `{host}`, by which it is called",
        "call it by one of these names, or issue its SVID with this DNS name as well",
    )


def _root(host: str, port: int, roots: bytes, leaf: x509.Certificate, credentials: Credentials) -> Diagnosis | None:
    """Check by a second connection whether its chain leads to our roots, with whatever is between."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(cadata=roots.decode("ascii", "replace"))
    try:
        with _connected(context, host, port):
            return None
    except ssl.SSLCertVerificationError as error:
        who = ", ".join(_names(leaf).get_values_for_type(x509.UniformResourceIdentifier)) or "no SPIFFE ID"
        where = getattr(credentials, "where", "") or "our identity"
        return _lasting(
            f"the broker's certificate ({who}) does not lead to the roots that go with {where}: {error.verify_message}",
            "fetch the bundle of the broker's trust domain; where that is not ours, set CREDBROKER_CA_FILE (files) or "
            "CREDBROKER_TRUST_DOMAIN (Workload API)",
        )
    except OSError:
        return None


def _taken(tls: ssl.SSLSocket, ours: MutualTls, now: datetime) -> Diagnosis | None:
    """Begin as an HTTP/2 client: a server that takes our certificate answers, and any other says why, or hangs up."""
    try:
        tls.settimeout(_STEP_SECONDS)
        tls.sendall(_PREFACE)
        if tls.recv(1):
            return None
    except ssl.SSLError as error:
        return _not_taken(ours, _words(error), now)
    except TimeoutError:
        return None
    except OSError:
        pass
    return _not_taken(ours, "it hangs up", now)  # gRPC's way to say so


def _not_taken(ours: MutualTls, cause: str, now: datetime) -> Diagnosis:
    leaf = x509.load_pem_x509_certificate(ours.svid_pem)
    names = ", ".join(_names(leaf).get_values_for_type(x509.UniformResourceIdentifier)) or "no SPIFFE ID"
    begins = leaf.not_valid_before_utc
    if now < begins:
        cause = f"it is good from {begins:%Y-%m-%d %H:%M:%S} UTC on, and here it is {now:%Y-%m-%d %H:%M:%S} UTC"
    return Diagnosis(
        Refusal(
            Reason.IDENTITY_INVALID,
            f"the broker does not take our certificate, {ours.where} ({names}): {cause}",
            Hints(
                next="see that its trust bundles hold our trust domain's roots as they are now, and compare the clocks"
            ),
        ),
        passes=False,
    )


def _sides(credentials: Credentials) -> tuple[bytes | None, MutualTls | None]:
    """Return the roots that we believe, if we know them, and the certificate that we show, if we show one."""
    match credentials:
        case MutualTls():
            return credentials.bundle_pem, credentials
        case TokenOverTls():
            return credentials.ca_pem, None
        case _:
            return None, None


def _names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return x509.SubjectAlternativeName([])


def _covers(name: str, host: str) -> bool:
    """Report whether a DNS name of a certificate is the host's; `*` stands for its first label (RFC 9525)."""
    return name == host or (name.startswith("*.") and name[1:] == host[host.find(".") :])


def _address(host: str) -> str | None:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def _words(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")


def _waiting(message: str, remedy: str) -> Diagnosis:
    return Diagnosis(Refusal(Reason.UNAVAILABLE, message, Hints(next=remedy)), passes=True)


def _lasting(message: str, remedy: str) -> Diagnosis:
    return Diagnosis(Refusal(Reason.UNAVAILABLE, message, Hints(next=remedy)), passes=False)
