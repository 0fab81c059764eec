"""What the Workload API pushes: our X.509-SVID with the bundles of trust domains, and their JWT bundles.

Of package `spiffe`, an extra, only the messages are used. The rest of it takes IDs that are none, keeps on giving what
has expired, and does not give JWT bundles as they came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from google.protobuf.message import DecodeError

from broker.identity.jwks import JsonWebKeySet, parse_jwks
from broker.identity.spiffe import SpiffeId, parse_spiffe_id
from broker.trust.workload_stream import UnusablePush

_UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
_Bundle = TypeVar("_Bundle")
_LONG_FORM = 0x80
_PUBLIC = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True)
class X509Push:
    """Our X.509-SVID, and the roots of each trust domain. Agents renew it at half time: it is late at `overdue_at`.

    `broken` says by trust domain what was wrong with its bundle; then `roots` holds the one before, if there was one.
    """

    cert_chain_pem: bytes
    private_key_pem: bytes = field(repr=False)
    roots: Mapping[str, tuple[x509.Certificate, ...]]
    not_after: datetime
    overdue_at: datetime = field(compare=False)
    broken: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JwtPush:
    """The keys of each trust domain's JWT-SVIDs. They are the same if their documents are. `broken` is as above."""

    documents: Mapping[str, bytes]
    keys: Mapping[str, JsonWebKeySet] = field(compare=False)
    broken: Mapping[str, str] = field(default_factory=dict)


def read_x509(message: bytes, now: datetime, before: X509Push | None = None) -> X509Push:
    """Read an `X509SVIDResponse` (SPIFFE Workload API section 5.2.1). Of several SVIDs the first is ours: the default.

    A bundle that is broken costs nothing but itself: the one of the push before holds.

    Raises:
        UnusablePush: our SVID or its key is missing, broken or expired, or there never was a good bundle of our own.
    """
    from spiffe._proto.workload_pb2 import X509SVIDResponse  # noqa: PLC0415 (an extra)

    try:
        response = X509SVIDResponse.FromString(message)
    except DecodeError as error:
        raise UnusablePush("it is not an X509SVIDResponse") from error
    if not response.svids:
        raise UnusablePush("it holds no X.509-SVID")
    own = response.svids[0]
    chain = _certificates(own.x509_svid, "the X.509-SVID")
    own_id, not_after = _check_leaf(own.spiffe_id, chain)
    if now >= not_after:
        raise UnusablePush(f"the X.509-SVID expired at {not_after:%Y-%m-%d %H:%M:%S} UTC; compare the clocks")
    former = {} if before is None else before.roots
    roots, broken = _each(response.federated_bundles, _roots, former)
    ours, broken_too = _each({f"spiffe://{own_id.trust_domain}": own.bundle}, _own_roots, former)
    if not ours:
        raise UnusablePush(*broken_too.values())
    return X509Push(
        b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain),
        _private_key_pem(own.x509_svid_key, chain[0]),
        roots | ours,
        not_after,
        not_after - (not_after - now) / 4,
        {name: why for name, why in broken.items() if name not in ours} | broken_too,
    )


def read_jwt(message: bytes, before: JwtPush | None = None) -> JwtPush:
    """Read a `JWTBundlesResponse` (SPIFFE Workload API section 6.2.2). A broken bundle costs nothing but itself.

    Raises:
        UnusablePush: it is none.
    """
    from spiffe._proto.workload_pb2 import JWTBundlesResponse  # noqa: PLC0415 (an extra)

    try:
        response = JWTBundlesResponse.FromString(message)
    except DecodeError as error:
        raise UnusablePush("it is not a JWTBundlesResponse") from error
    former = {} if before is None else {name: (before.documents[name], keys) for name, keys in before.keys.items()}
    usable, broken = _each(response.bundles, _key_set, former)
    documents = {name: document for name, (document, _) in usable.items()}
    return JwtPush(documents, {name: keys for name, (_, keys) in usable.items()}, broken)


def _each(
    bundles: Mapping[str, bytes], read: Callable[[str, bytes], _Bundle], before: Mapping[str, _Bundle]
) -> tuple[dict[str, _Bundle], dict[str, str]]:
    """Read the bundles of trust domains, each by itself; return them, and what was wrong with which."""
    usable: dict[str, _Bundle] = {}
    broken: dict[str, str] = {}
    for name, content in bundles.items():
        trust_domain = ""
        try:
            trust_domain = _trust_domain(name)
            usable[trust_domain] = read(trust_domain, content)
        except UnusablePush as error:
            broken[trust_domain] = str(error)
            if trust_domain in before:
                usable[trust_domain] = before[trust_domain]
    return usable, broken


def _check_leaf(expected: str, chain: tuple[x509.Certificate, ...]) -> tuple[SpiffeId, datetime]:
    """Check that a chain is of this SPIFFE ID; return the ID, and the end of the span in which all of it is valid."""
    try:
        spiffe_id = parse_spiffe_id(expected)
        names = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        not_after = min(certificate.not_valid_after_utc for certificate in chain)
    except _UNREADABLE as error:
        raise UnusablePush("the X.509-SVID is malformed, or its SPIFFE ID is none") from error
    if uris != [expected]:
        raise UnusablePush(f"the X.509-SVID is not one of `{spiffe_id}`")
    return spiffe_id, not_after


def _private_key_pem(der: bytes, leaf: x509.Certificate) -> bytes:
    try:
        key = load_der_private_key(der, None)
        fits = key.public_key().public_bytes(*_PUBLIC) == leaf.public_key().public_bytes(*_PUBLIC)
    except (*_UNREADABLE, TypeError):
        raise UnusablePush("the X.509-SVID's key is malformed, or of a kind that is not supported") from None
    if not fits:
        raise UnusablePush("the key is not that of the X.509-SVID")
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _trust_domain(name: str) -> str:
    try:
        spiffe_id = parse_spiffe_id(name)
    except ValueError as error:
        raise UnusablePush(f"a bundle is in a name that is no SPIFFE ID: {error}") from error
    if spiffe_id.path:
        raise UnusablePush(f"a bundle is in the name of `{spiffe_id}`, which is no trust domain")
    return spiffe_id.trust_domain


def _roots(trust_domain: str, der: bytes) -> tuple[x509.Certificate, ...]:
    """Read the bundle of another trust domain. An empty one revokes all that there is in it."""
    return _certificates(der, f"the bundle of `{trust_domain}`") if der else ()


def _own_roots(_trust_domain: str, der: bytes) -> tuple[x509.Certificate, ...]:
    return _certificates(der, "our own trust domain's bundle")


def _key_set(trust_domain: str, document: bytes) -> tuple[bytes, JsonWebKeySet]:
    if not document:
        return document, JsonWebKeySet()
    try:
        return document, parse_jwks(document, use="jwt-svid")
    except ValueError as error:
        raise UnusablePush(f"the JWT bundle of `{trust_domain}` is broken: {error}") from error


def _certificates(der: bytes, what: str) -> tuple[x509.Certificate, ...]:
    """Parse certificates in DER that stand one behind the other."""
    parsed = []
    try:
        while der:
            size = _size(der)
            parsed.append(x509.load_der_x509_certificate(der[:size]))
            der = der[size:]
    except _UNREADABLE as error:
        raise UnusablePush(f"{what} is not made of certificates in DER") from error
    if not parsed:
        raise UnusablePush(f"{what} is missing")
    return tuple(parsed)


def _size(der: bytes) -> int:
    """Return the length of the first value, header included (X.690 section 8.1.3), or what it claims to be."""
    length = der[1] if len(der) > 1 else 0
    if length < _LONG_FORM:
        return 2 + length
    octets = length - _LONG_FORM
    return 2 + octets + int.from_bytes(der[2 : 2 + octets])
