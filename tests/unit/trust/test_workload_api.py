"""The Workload API of a real process: what it pushes is taken, and what is broken is not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from broker.identity.trust_bundles import parse_certificates
from broker.sandbox.certificates import Svid
from broker.trust.workload_api import WorkloadApiError
from tests.support.workload_api import (
    FOREIGN,
    HOME,
    HOUR,
    OTHER,
    OURS,
    PARTNER,
    ROOT,
    ROOTS,
    Room,
    jwks,
    kids,
    push,
    svid,
    taken,
    until,
)
from tests.support.workload_api_server import der, jwt_response, x509_response, x509_svid


def test_what_is_pushed_first_is_there_when_it_is_made(room: Room) -> None:
    room.agent.tell(x509=push(room.first, federated={PARTNER: der(FOREIGN.cert_pem)}))
    api = room.open()
    assert api.material.cert_chain_pem == room.first.cert_pem
    assert api.material.private_key_pem == room.first.key_pem
    assert api.material.trust_bundles.roots == {
        "example.org": ROOTS,
        "partner.example": parse_certificates(FOREIGN.cert_pem),
    }
    assert kids(api) == {"example.org": ["k1"]}
    assert (api.material.generation, api.material.trust_bundles.generation, api.problem) == (1, 1, None)
    assert not api.refresh()
    assert "PRIVATE KEY" not in repr(api.material)


def test_a_rotation_is_taken_with_its_key(room: Room) -> None:
    api, fresh = room.open(), svid()
    room.agent.tell(x509=push(fresh))
    until(api.refresh)
    assert (api.material.cert_chain_pem, api.material.private_key_pem) == (fresh.cert_pem, fresh.key_pem)
    assert (api.material.generation, api.material.trust_bundles.generation) == (2, 2)
    assert not api.refresh()


def test_intermediates_are_shown_behind_the_leaf(room: Room) -> None:
    chain = room.first.cert_pem + OTHER.cert_pem
    room.agent.tell(x509=push(Svid(chain, room.first.key_pem)))
    assert room.open().material.cert_chain_pem == chain


def test_a_root_that_is_removed_is_believed_no_more(room: Room) -> None:
    room.agent.tell(x509=push(room.first, ROOT.cert_pem + OTHER.cert_pem))
    api = room.open()
    assert len(api.material.trust_bundles.roots["example.org"]) == 2
    room.agent.tell(x509=push(room.first))
    until(api.refresh)
    assert api.material.trust_bundles.roots == {"example.org": ROOTS}


def test_a_trust_domain_comes_and_goes_with_the_pushes_that_hold_it(room: Room) -> None:
    api = room.open()
    room.agent.tell(x509=push(room.first, federated={PARTNER: der(FOREIGN.cert_pem)}))
    until(api.refresh)
    assert api.material.trust_bundles.roots["partner.example"] == parse_certificates(FOREIGN.cert_pem)
    room.agent.tell(x509=push(room.first))
    until(api.refresh)
    assert api.material.trust_bundles.roots == {"example.org": ROOTS}


def test_an_empty_bundle_revokes_its_trust_domain(room: Room) -> None:
    api = room.open()
    room.agent.tell(x509=push(room.first, federated={PARTNER: b""}), jwt=jwt_response({HOME: b"", PARTNER: jwks()}))
    taken(api, lambda: api.material.trust_bundles.roots == {"example.org": ROOTS, "partner.example": ()})
    taken(api, lambda: kids(api) == {"example.org": [], "partner.example": []})
    assert api.problem is None


def test_nobody_writes_our_own_roots_as_those_of_another(room: Room) -> None:
    room.agent.tell(x509=push(room.first, federated={HOME: der(FOREIGN.cert_pem)}))
    assert room.open().material.trust_bundles.roots == {"example.org": ROOTS}


def test_the_first_svid_is_ours(room: Room) -> None:
    second = x509_svid(OURS, svid(), OTHER.cert_pem)
    room.agent.tell(x509=x509_response(x509_svid(OURS, room.first, ROOT.cert_pem), second))
    api = room.open()
    assert api.material.cert_chain_pem == room.first.cert_pem
    assert api.material.trust_bundles.roots == {"example.org": ROOTS}


def test_keys_of_jwts_come_and_go_with_their_pushes(room: Room) -> None:
    api = room.open()
    room.agent.tell(jwt=jwt_response({HOME: jwks("k1", "k2"), PARTNER: jwks("p1")}))
    until(api.refresh)
    assert kids(api) == {"example.org": ["k1", "k2"], "partner.example": ["p1"]}
    assert api.material.trust_bundles.generation == 2
    room.agent.tell(jwt=jwt_response({PARTNER: jwks("p1")}))
    until(api.refresh)
    assert kids(api) == {"partner.example": ["p1"]}


def test_an_agent_without_jwts_gives_no_keys_and_no_problem(room: Room) -> None:
    room.agent.tell(jwt=None)
    api = room.open()
    assert (kids(api), api.problem) == ({}, None)


BROKEN: dict[str, tuple[str, bytes]] = {
    "an X.509 push with a key of another": ("x509", push(Svid(svid().cert_pem, svid().key_pem))),
    "an X.509 push that is cut short": ("x509", push(svid())[:-20]),
    "an X.509 push that has expired": ("x509", push(svid(timedelta(seconds=-1)))),
    "JWT bundles that are cut short": ("jwt", jwt_response({HOME: jwks("k2")})[:-1]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_does_not_replace_what_is_good(room: Room, case: str) -> None:
    api = room.open()
    before = api.material
    name, message = BROKEN[case]
    room.agent.tell("serving", **{name: message})
    until(lambda: api.problem)
    assert "cannot be used" in str(api.problem)
    assert not api.refresh()
    assert api.material is before
    good = {"x509": push(svid()), "jwt": jwt_response({HOME: jwks("k3")})}
    room.agent.tell("serving", **{name: good[name]})
    until(api.refresh)
    assert api.problem is None


def test_a_broken_bundle_keeps_nothing_else_from_being_taken(room: Room) -> None:
    room.agent.tell(
        x509=push(room.first, federated={PARTNER: der(FOREIGN.cert_pem)}),
        jwt=jwt_response({HOME: jwks("k1"), PARTNER: jwks("p1")}),
    )
    api, fresh = room.open(), svid()
    partners = parse_certificates(FOREIGN.cert_pem)
    room.agent.tell(
        x509=push(fresh, federated={PARTNER: der(FOREIGN.cert_pem)[:-1]}),
        jwt=jwt_response({HOME: jwks("k2"), PARTNER: b"{}"}),
    )
    taken(api, lambda: api.material.cert_chain_pem == fresh.cert_pem and kids(api)["example.org"] == ["k2"])
    assert api.material.trust_bundles.roots == {"example.org": ROOTS, "partner.example": partners}
    assert kids(api)["partner.example"] == ["p1"]
    assert "the bundle of `partner.example`" in str(api.problem)
    assert "the JWT bundle of `partner.example` is broken" in str(api.problem)
    room.agent.tell(
        x509=push(fresh, federated={PARTNER: der(FOREIGN.cert_pem)}),
        jwt=jwt_response({HOME: jwks("k2"), PARTNER: jwks("p2")}),
    )
    taken(api, lambda: kids(api)["partner.example"] == ["p2"])
    until(lambda: api.problem is None)


def test_a_bundle_that_stays_broken_is_believed_no_longer_than_our_svid_of_then(room: Room) -> None:
    room.agent.tell(x509=push(room.first, federated={PARTNER: der(FOREIGN.cert_pem)}))
    api = room.open()
    broken, fresh = {PARTNER: b"\x30"}, svid(3 * HOUR)
    room.agent.tell(x509=push(room.first, federated=broken), jwt=jwt_response({HOME: b"{}"}))
    until(lambda: "the JWT bundle of `example.org` is broken" in str(api.problem))
    until(lambda: "the bundle of `partner.example`" in str(api.problem))
    api.refresh()  # while the SVID is the first
    room.agent.tell(x509=push(fresh, federated=broken))
    taken(api, lambda: api.material.cert_chain_pem == fresh.cert_pem)
    room.time.ahead = HOUR - timedelta(minutes=1)
    api.refresh()
    assert set(api.material.trust_bundles.roots) == {"example.org", "partner.example"}
    assert kids(api) == {"example.org": ["k1"]}
    room.time.ahead = HOUR
    assert api.refresh()
    assert api.material.trust_bundles.roots == {"example.org": ROOTS}
    assert kids(api) == {}


def test_what_is_broken_from_the_start_is_said(room: Room) -> None:
    room.agent.tell(x509=push(Svid(svid().cert_pem, svid().key_pem)))
    with pytest.raises(WorkloadApiError, match="the key is not that of"):
        room.open(0.5)


def test_keys_of_jwts_that_cannot_be_renewed_live_no_longer_than_our_svid_did(room: Room) -> None:
    api = room.open()
    room.agent.tell(jwt=b"\xff")
    until(lambda: api.problem)
    room.agent.tell(x509=push(svid(3 * HOUR)))
    until(api.refresh)
    room.time.ahead = HOUR - timedelta(minutes=1)
    assert not api.refresh()
    assert kids(api) == {"example.org": ["k1"]}
    room.time.ahead = HOUR
    assert api.refresh()
    assert kids(api) == {}
    assert api.material.trust_bundles.roots == {"example.org": ROOTS}
    assert "no JWT-SVID is believed" in str(api.problem)
