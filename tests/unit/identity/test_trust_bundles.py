"""Bundles keep the roots of trust domains apart, and refuse what is not a bundle."""

import pytest
from cryptography import x509

from broker.identity.trust_bundles import TrustBundles, parse_certificates
from broker.system import system_clock
from tests.support.certificates import of_a_version_that_there_is_not, root

ONE, TWO = root("one", system_clock()), root("two", system_clock())


def test_a_bundle_holds_every_certificate_in_it() -> None:
    assert parse_certificates(ONE.pem + TWO.pem) == (ONE.certificate, TWO.certificate)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"no certificate",
        ONE.key_pem,
        ONE.pem[:-40],
        ONE.pem + TWO.pem[: len(TWO.pem) // 2],
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        of_a_version_that_there_is_not(ONE.pem),
    ],
    ids=["empty", "prose", "a key", "cut short", "the second cut short", "not a certificate", "of no version"],
)
def test_what_is_no_bundle_is_refused(pem: bytes) -> None:
    with pytest.raises(ValueError):
        parse_certificates(pem)


def test_tls_is_given_the_roots_of_all_trust_domains() -> None:
    bundles = TrustBundles(1, {"example.org": (ONE.certificate,), "other.example": (TWO.certificate,)})
    assert x509.load_pem_x509_certificates(bundles.all_roots_pem()) == [ONE.certificate, TWO.certificate]
