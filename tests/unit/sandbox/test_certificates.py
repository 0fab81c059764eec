"""The development CA makes what the broker itself accepts, for its own trust domain."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.identity.directory import Directory, IdentityRule
from broker.identity.spiffe import parse_spiffe_id
from broker.identity.trust_bundles import TrustBundles, parse_certificates
from broker.identity.x509 import Authenticator, PeerEvidence
from broker.model.errors import Reason, Refusal
from broker.model.principal import Role
from broker.sandbox.certificates import Authority, issue_svid, new_authority
from broker.system import system_clock

NOW = system_clock().replace(microsecond=0)
HOUR = timedelta(hours=1)
AGENT = parse_spiffe_id("spiffe://example.org/agent/researcher")
RULES = (IdentityRule("spiffe://example.org/*", "acme", frozenset({Role.AGENTS})),)


def authenticator(authority: Authority) -> Authenticator:
    bundles = TrustBundles(1, {"example.org": parse_certificates(authority.cert_pem)})
    return Authenticator(lambda: bundles, Directory(RULES))


def test_its_svids_are_good_for_their_lifetime() -> None:
    authority = new_authority("example.org", 24 * HOUR, NOW)
    svid = issue_svid(authority, AGENT, [], HOUR, NOW)
    evidence = PeerEvidence("ssl", "TLSv1.3", svid.cert_pem, b"")
    principal = authenticator(authority).authenticate(evidence, NOW)
    assert (principal.id, principal.not_after) == (str(AGENT), NOW + HOUR)
    with pytest.raises(Refusal) as caught:
        authenticator(authority).authenticate(evidence, NOW + HOUR)
    assert caught.value.reason is Reason.IDENTITY_EXPIRED


def test_its_root_is_no_workload() -> None:
    authority = new_authority("example.org", HOUR, NOW)
    with pytest.raises(Refusal) as caught:
        authenticator(authority).authenticate(PeerEvidence("ssl", "TLSv1.3", authority.cert_pem, b""), NOW)
    assert caught.value.reason is Reason.IDENTITY_INVALID


def test_two_authorities_of_one_name_do_not_vouch_for_each_other() -> None:
    one, two = (new_authority("example.org", HOUR, NOW) for _ in range(2))
    svid = issue_svid(two, AGENT, [], HOUR, NOW)
    with pytest.raises(Refusal):
        authenticator(one).authenticate(PeerEvidence("ssl", "TLSv1.3", svid.cert_pem, b""), NOW)


def test_a_servers_svid_has_its_dns_names() -> None:
    svid = issue_svid(new_authority("example.org", HOUR, NOW), AGENT, ["localhost", "broker.example"], HOUR, NOW)
    certificate = x509.load_pem_x509_certificate(svid.cert_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical  # there is no subject
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost", "broker.example"]
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [str(AGENT)]


def test_private_keys_do_not_show() -> None:
    authority = new_authority("example.org", HOUR, NOW)
    svid = issue_svid(authority, AGENT, [], HOUR, NOW)
    assert "PRIVATE KEY" not in repr(authority) + repr(svid)


def test_an_authority_with_a_key_of_another_kind_is_refused() -> None:
    key = rsa.generate_private_key(65_537, 2_048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    authority = Authority(new_authority("example.org", HOUR, NOW).cert_pem, pem)
    with pytest.raises(TypeError):
        issue_svid(authority, AGENT, [], HOUR, NOW)
