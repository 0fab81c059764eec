"""When an X.509-SVID proves an identity, what is remembered of it meanwhile, and who is denied."""

import pickle
from datetime import timedelta

import pytest

from broker.identity.trust_bundles import TrustBundles
from broker.identity.x509 import PeerEvidence
from broker.model.errors import Reason, Refusal
from tests.support.certificates import (
    HOUR,
)
from tests.support.svids import ADMIN, NOW, OURS, RESEARCHER, SECOND, STRANGERS, THEIRS, World, ca, leaf

# What is shown, and what is remembered of it.


def test_a_certificate_that_is_none_of_the_chain_is_refused_each_time() -> None:
    world, link = World(), ca()
    good = leaf(link)
    for _ in range(2):
        for junk in (leaf(), leaf(STRANGERS), STRANGERS, THEIRS, ca(subject="another")):
            assert "not part of the chain" in world.refusal(good, link, junk).message
        assert world.ask(good, link).id == RESEARCHER
    for chain in ((good, link), (link, link), (OURS, link), (link, OURS)):
        assert world.ask(good, *chain).id == RESEARCHER


def test_more_than_a_chain_can_hold_is_not_looked_at() -> None:
    good = leaf()
    assert "more than 10 certificates" in World().refusal(good, *[OURS] * 11).message
    long = PeerEvidence("ssl", "TLSv1.3", good.pem, b"\n" * 65_536 + OURS.pem)
    with pytest.raises(Refusal, match="more than 64 KiB"):
        World().authenticator.authenticate(long, NOW)


def test_one_entry_of_a_bounded_size_is_remembered_per_leaf() -> None:
    world, good = World(), leaf()
    for number in range(100):
        padded = PeerEvidence("ssl", "TLSv1.3", good.pem, b"x" * 60_000 + b"\n%d\n" % number + OURS.pem)
        assert world.authenticator.authenticate(padded, NOW).id == RESEARCHER
    (entry,) = world.authenticator._remembered._values.items()
    assert len(pickle.dumps(entry)) < 4_096


def test_a_removed_root_counts_at_once() -> None:
    world, good = World(), leaf()
    assert world.ask(good).id == RESEARCHER
    world.bundles = TrustBundles(2, {"example.org": (STRANGERS.certificate,)})
    assert world.refuses(good) is Reason.IDENTITY_INVALID
    world.bundles = TrustBundles(3, {"other.example": (THEIRS.certificate,)})
    assert world.refuses(good) is Reason.IDENTITY_INVALID


def test_old_and_new_root_are_good_while_a_trust_domain_rotates() -> None:
    world = World(TrustBundles(1, {"example.org": (OURS.certificate, STRANGERS.certificate)}))
    assert world.ask(leaf(OURS)).id == RESEARCHER
    assert world.ask(leaf(STRANGERS)).id == RESEARCHER


def test_a_remembered_leaf_does_not_vouch_for_another_chain() -> None:
    world, link = World(), ca()
    good = leaf(link)
    assert world.ask(good, link).id == RESEARCHER
    assert world.refuses(good) is Reason.IDENTITY_INVALID


# Check 7: nothing in the chain has expired, at the instant of each call.


def test_expiry_is_decided_on_each_call_by_the_clock_given() -> None:
    world, good = World(), leaf()
    end = NOW + HOUR
    assert world.ask(good, at=end - SECOND).id == RESEARCHER
    assert world.refuses(good, at=end) is Reason.IDENTITY_EXPIRED
    assert world.ask(good, at=end - SECOND).id == RESEARCHER
    assert world.refuses(good, at=end + 24 * HOUR) is Reason.IDENTITY_EXPIRED


def test_a_certificate_that_has_expired_before_its_first_call_is_called_so() -> None:
    assert World().refuses(leaf(after=-SECOND)) is Reason.IDENTITY_EXPIRED


@pytest.mark.parametrize("remembered", [False, True])
def test_a_certificate_is_not_valid_before_its_time(remembered: bool) -> None:
    world, early = World(), leaf(before=-HOUR, after=2 * HOUR)
    if remembered:
        assert world.ask(early, at=NOW + HOUR).id == RESEARCHER
    assert world.refuses(early, at=NOW + HOUR - SECOND) is Reason.IDENTITY_INVALID


def test_a_principal_ends_with_the_first_certificate_of_its_chain() -> None:
    world, link = World(), ca(after=timedelta(minutes=10))
    good = leaf(link)
    assert world.ask(good, link).not_after == NOW + timedelta(minutes=10)
    assert world.refuses(good, link, at=NOW + timedelta(minutes=10)) is Reason.IDENTITY_EXPIRED


def test_an_expired_root_is_none() -> None:
    world, good = World(), leaf(after=48 * HOUR)
    assert world.ask(good).not_after == OURS.certificate.not_valid_after_utc
    assert World().refuses(good, at=NOW + 25 * HOUR) is Reason.IDENTITY_INVALID


# Checks 8 and 9: who is denied, and who is known.


def test_who_is_denied_by_id_is_refused() -> None:
    world = World(denied=frozenset({RESEARCHER}))
    assert world.refuses(leaf()) is Reason.IDENTITY_INVALID
    assert world.ask(leaf(uris=(ADMIN,))).id == ADMIN


def test_who_is_denied_by_serial_is_refused() -> None:
    stolen, other = leaf(), leaf()
    world = World(denied=frozenset({f"{stolen.certificate.serial_number:x}"}))
    assert world.refuses(stolen) is Reason.IDENTITY_INVALID
    assert world.ask(other).id == RESEARCHER


def test_who_is_proven_but_unknown_is_told_so() -> None:
    assert World().refuses(leaf(uris=("spiffe://example.org/stranger",))) is Reason.IDENTITY_UNKNOWN


def test_a_refusal_is_not_remembered() -> None:
    world, good = World(TrustBundles(1, {})), leaf()
    assert world.refuses(good) is Reason.IDENTITY_INVALID
    world.bundles = World().bundles
    assert world.ask(good).id == RESEARCHER


def test_no_more_than_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.identity.x509._REMEMBERED", 2)
    world = World()
    for _ in range(4):
        world.ask(leaf())
    assert len(world.authenticator._remembered) == 2
