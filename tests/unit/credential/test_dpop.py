"""A proof is good for one request, made now, by the key that it names, once (RFC 9449 section 4.3)."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey

from broker.credential import dpop
from broker.credential.dpop import Proof, ProvenRequest
from broker.credential.keys import EcSigner
from broker.credential.replays import Nonces, Replays
from broker.model.errors import Reason, Refusal
from tests.support.issuer import base64url, compact

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
PRIVATE = ec.generate_private_key(ec.SECP256R1())
SIGNER = EcSigner.of(PRIVATE)
REQUEST = ProvenRequest(method="POST", url="https://vault.example/search", token="abc")
HASH = "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0"  # SHA-256 of "abc", FIPS 180 appendix B.1
PUBLIC = {name: value for name, value in SIGNER.public_key().to_jwk().items() if name in ("kty", "crv", "x", "y")}
CLAIMS = {"jti": "1", "htm": "POST", "htu": REQUEST.url, "iat": SECONDS, "ath": HASH}


def proof(header: dict[str, Any] | None = None, **changes: Any) -> str:
    plain = {"typ": "dpop+jwt", "alg": "ES256", "jwk": PUBLIC} | (header or {})
    claims = {name: value for name, value in (CLAIMS | changes).items() if value is not None}
    return compact(PRIVATE, {name: value for name, value in plain.items() if value is not None}, claims)


def refused(text: str, told: str = "", request: ProvenRequest = REQUEST) -> None:
    with pytest.raises(Refusal) as refusal:
        dpop.verify(text, request, NOW)
    assert refusal.value.reason is Reason.PROOF_INVALID
    assert told in refusal.value.message


def test_a_proof_names_its_key() -> None:
    found = dpop.verify(proof(), REQUEST, NOW)
    assert found == Proof(thumbprint=SIGNER.kid, jti="1", issued_at=NOW, nonce="")


def test_what_we_make_is_what_we_and_others_take() -> None:
    made = dpop.make(SIGNER, REQUEST, jti="7", at=NOW, nonce="n")
    assert dpop.verify(made, REQUEST, NOW) == Proof(thumbprint=SIGNER.kid, jti="7", issued_at=NOW, nonce="n")
    read = jws.deserialize_compact(made, ECKey.import_key(dict(PUBLIC)), algorithms=["ES256"])
    assert json.loads(read.payload) == {**CLAIMS, "jti": "7", "nonce": "n"}


def test_a_proof_for_a_request_without_a_token_says_nothing_of_one() -> None:
    plain = replace(REQUEST, token="")
    made = dpop.make(SIGNER, plain, jti="7", at=NOW)
    assert dpop.verify(made, plain, NOW) == Proof(thumbprint=SIGNER.kid, jti="7", issued_at=NOW, nonce="")
    read = jws.deserialize_compact(made, ECKey.import_key(dict(PUBLIC)), algorithms=["ES256"])
    assert json.loads(read.payload).keys() == {"jti", "htm", "htu", "iat"}


def test_a_key_may_say_what_it_is_for() -> None:
    dpop.verify(proof({"jwk": {**PUBLIC, "alg": "ES256", "use": "sig", "kid": "x"}}), REQUEST, NOW)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "compact"),
        (proof() + "=", "compact"),
        (proof({"typ": "JWT"}), "header"),
        (proof({"typ": None}), "header"),
        (proof({"typ": "at+jwt"}), "header"),
        (proof({"alg": "none"}), "header"),
        (proof({"alg": "HS256"}), "header"),
        (proof({"alg": "RS256"}), "header"),
        (proof({"crit": ["x"]}), "header"),
        (proof({"kid": "1"}), "header"),
        (proof({"jwk": None}), "header"),
        (proof({"jwk": "key"}), "no key"),
        (proof({"jwk": {**PUBLIC, "d": "AAAA"}}), "private key"),
        (proof({"jwk": {"kty": "oct", "k": "c2VjcmV0"}}), "P-256"),
        (proof({"jwk": {**PUBLIC, "crv": "P-384"}}), "P-256"),
        (proof({"jwk": {**PUBLIC, "x": "AAAA"}}), "32 bytes"),
        (proof({"jwk": {**PUBLIC, "x": base64url(bytes(32))}}), ""),
        (proof({"jwk": EcSigner.generate().public_key().to_jwk()}), "signature"),
        (proof(htm="GET"), "`htm`"),
        (proof(htm="post"), "`htm`"),
        (proof(htm=None), "`htm`"),
        (proof(htu="https://vault.example/other"), "`htu`"),
        (proof(htu="https://vault.example/search/"), "`htu`"),
        (proof(htu="http://vault.example/search"), "`htu`"),
        (proof(htu="https://vault.example.evil/search"), "`htu`"),
        (proof(htu="https://vault.example:444/search"), "`htu`"),
        (proof(htu="https://user@vault.example/search"), "`htu`"),
        (proof(htu="https://vault.example/Search"), "`htu`"),
        (proof(htu="/search"), "`htu`"),
        (proof(htu=7), "`htu`"),
        (proof(htu="https://[/search"), "`htu`"),
        (proof(ath=None), "`ath`"),
        (proof(ath="x"), "`ath`"),
        (proof(jti=None), "`jti`"),
        (proof(jti=""), "`jti`"),
        (proof(jti=7), "`jti`"),
        (proof(jti="x" * 257), "`jti`"),
        (proof(nonce=7), "`nonce`"),
        (proof(jti="\ud800"), "half a character"),
        (proof(nonce="\udfff"), "half a character"),
        (proof(iat=None), "`iat`"),
        (proof(iat="now"), "`iat`"),
        (proof(iat=True), "`iat`"),
        (proof(iat=-1), "`iat`"),
        (proof(iat=10**20), "`iat`"),
        (proof(iat=SECONDS - 61), "`iat`"),
        (proof(iat=SECONDS + 6), "`iat`"),
    ],
)  # fmt: skip
def test_any_other_proof_is_refused(text: str, told: str) -> None:
    refused(text, told)


@pytest.mark.parametrize(
    "url",
    [
        "HTTPS://VAULT.example/search",
        "https://vault.example:443/search",
        "https://vault.example/search?q=1",
        "https://vault.example/search#here",
        "https://vault.example:/search",
        "https://vault.example/./search",
        "https://vault.example/x/../search",
        "https://vault.example/x/%2e%2E/%73earch",
        "https://vault.example/../search",
    ],
)
def test_urls_that_are_the_same_are_taken(url: str) -> None:
    dpop.verify(proof(htu=url), REQUEST, NOW)
    dpop.verify(proof(), replace(REQUEST, url=url), NOW)


@pytest.mark.parametrize(
    ("claimed", "url", "same"),
    [
        ("/a%20b", "/a%20b", True),
        ("/a%2fb", "/a%2Fb", True),
        ("/K%c3%b6ln", "/K%C3%B6ln", True),
        ("/%7Euser", "/~user", True),
        ("/user@x.test", "/user@x.test", True),
        ("/100%25", "/100%25", True),
        ("/a//b", "/a//b", True),
        ("/a/.", "/a/", True),
        ("/a/b/..", "/a/", True),
        ("", "/", True),
        ("/.hidden", "/.hidden", True),
        ("/a%2Fb", "/a/b", False),
        ("/a%252Fb", "/a%2Fb", False),
        ("/user%40x.test", "/user@x.test", False),
        ("/a//b", "/a/b", False),
        ("/a/", "/a", False),
        ("/a%2F..%2Fb", "/b", False),
        ("/a b", "/a%20b", False),
        ("/a\\b", "/a\\b", False),
        ("/Köln", "/K%C3%B6ln", False),
        (":0/a", ":443/a", False),
        ("@evil.example/a", "@evil.example/a", False),
    ],
)
def test_paths_are_compared_in_their_normal_form(claimed: str, url: str, same: bool) -> None:
    text, request = proof(htu="https://vault.example" + claimed), replace(REQUEST, url="https://vault.example" + url)
    if same:
        dpop.verify(text, request, NOW)
    else:
        refused(text, "`htu`", request)


@given(st.text("ab/.%2Ee5~é ", max_size=12))
def test_the_normal_form_of_a_normal_form_is_itself(path: str) -> None:
    normal = dpop._normal_path("/" + path)
    assert dpop._normal_path(normal) == normal
    assert not set(normal.split("/")) & {".", ".."}


@pytest.mark.parametrize("iat", [SECONDS + 0.5, SECONDS - 60, SECONDS - 59.5, SECONDS + 4.5, float(SECONDS)])
def test_the_time_may_have_a_fraction(iat: float) -> None:
    dpop.verify(proof(iat=iat), REQUEST, NOW)


@pytest.mark.parametrize("iat", [SECONDS - 60.5, SECONDS + 5.5, 1e400])
def test_a_fraction_makes_no_proof_good_for_longer(iat: float) -> None:
    payload = json.dumps(CLAIMS | {"iat": iat}).replace("Infinity", "1e400").encode()
    refused(compact(PRIVATE, {"typ": "dpop+jwt", "alg": "ES256", "jwk": PUBLIC}, payload), "`iat`")


def test_a_proof_without_a_token_is_for_issuing() -> None:
    asking = replace(REQUEST, token="")
    dpop.verify(proof(ath=None), asking, NOW)
    refused(proof(ath=None), "`ath`")


@given(st.text(max_size=40))
def test_no_text_makes_it_stumble(text: str) -> None:
    refused(text)


# Used once.


def some(jti: str = "1", thumbprint: str = "k", nonce: str = "") -> Proof:
    return Proof(thumbprint=thumbprint, jti=jti, issued_at=NOW, nonce=nonce)


def test_a_proof_is_used_once() -> None:
    replays = Replays()
    replays.use(some(), NOW)
    for at in (NOW, NOW + timedelta(seconds=64), NOW + timedelta(seconds=66), NOW - timedelta(seconds=5)):
        with pytest.raises(Refusal, match="used before"):
            replays.use(some(), at)
    replays.use(some(jti="2"), NOW)
    replays.use(some(thumbprint="other"), NOW)


def test_what_is_too_old_to_be_taken_is_forgotten() -> None:
    replays = Replays()
    for minute in range(10):
        for number in range(100):
            replays.use(some(jti=f"{minute}-{number}"), NOW + timedelta(seconds=66 * minute))
    assert len(replays._older) + len(replays._newer) <= 200


def test_a_clock_that_jumps_back_forgets_nothing_that_is_still_good() -> None:
    replays = Replays()
    replays.use(some(), NOW)
    replays.use(some(jti="2"), NOW - timedelta(days=1))
    with pytest.raises(Refusal):
        replays.use(some(), NOW)


def test_when_so_many_are_in_use_that_it_cannot_be_told_nobody_is_let_in() -> None:
    replays = Replays()
    for number in range(200_000):
        replays.use(some(jti=str(number)), NOW)
    with pytest.raises(Refusal) as refusal:
        replays.use(some(jti="another"), NOW)
    assert refusal.value.reason is Reason.UNAVAILABLE
    later = NOW + timedelta(seconds=66)
    replays.use(some(jti="another"), later)  # those before are out of time
    with pytest.raises(Refusal, match="used before"):
        replays.use(some(jti="another"), later)


def test_of_many_threads_with_one_proof_one_is_let_in() -> None:
    replays, let_in = Replays(), []
    start = threading.Barrier(8)

    def use() -> None:
        start.wait()
        for number in range(200):
            try:
                replays.use(some(jti=str(number)), NOW)
            except Refusal:
                continue
            let_in.append(number)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(let_in) == list(range(200))


# Nonces.


def test_a_nonce_is_good_for_a_minute_or_two_and_for_its_maker() -> None:
    nonces = Nonces(b"k" * 32)
    nonce = nonces.current(NOW)
    for after in (0, 60, 119):
        nonces.check(some(nonce=nonce), NOW + timedelta(seconds=after))
    for stale, at in ((nonce, NOW + timedelta(seconds=120)), ("", NOW), ("x", NOW), ("ä", NOW)):
        with pytest.raises(Refusal) as refusal:
            nonces.check(some(nonce=stale), at)
        assert refusal.value.reason is Reason.PROOF_NONCE_REQUIRED
    with pytest.raises(Refusal):
        Nonces(b"j" * 32).check(some(nonce=nonce), NOW)
