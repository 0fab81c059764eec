"""A JWT proves an identity if all seven checks hold; each test breaks one. Here: its form, its class and its issuer."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.identity.ids import check_id
from broker.identity.issuers import CurrentKeys
from broker.identity.jwks import parse_jwks
from broker.identity.subject import SubjectTemplate
from broker.model.errors import Refusal
from tests.support import tokens
from tests.support.issuer import Key, compact, jwk, segment
from tests.support.jwts import (
    AUDIENCE,
    CI,
    CLAIMS,
    EC,
    NOW,
    RESEARCHER,
    RSA,
    SECONDS,
    SVID,
    SVID_CLAIMS,
    authenticator,
    refused,
    svid,
    workload,
)


def test_a_token_of_a_trusted_issuer_makes_a_principal() -> None:
    token = workload()
    evidence = authenticator().authenticate(token, NOW)
    principal = evidence.principal
    assert (principal.id, principal.tenant, principal.method) == ("oidc:ci:job:7", "acme", "oidc")
    assert principal.not_after == NOW + timedelta(seconds=300)
    assert principal.proof == hashlib.sha256(token.encode()).hexdigest()
    assert (principal.certificate, principal.task_id, evidence.once) == ("", "", "")


def test_a_jwt_svid_makes_the_same_principal_as_the_x509_svid() -> None:
    principal = authenticator().authenticate(svid(), NOW).principal
    assert (principal.id, principal.tenant, principal.method) == (RESEARCHER, "acme", "jwt_svid")


@pytest.mark.parametrize(("header", "key"), [({"kid": None}, RSA), ({"alg": "ES256", "kid": "e1"}, EC)])
def test_a_key_is_found_by_its_id_or_by_trying(header: dict[str, Any], key: Key) -> None:
    assert authenticator().authenticate(workload(header, key), NOW).principal.id == "oidc:ci:job:7"


@pytest.mark.parametrize("typ", [None, "JWT", "JOSE", "client-authentication+jwt"])
def test_the_types_of_proofs_of_identity_are_taken(typ: str | None) -> None:
    authenticator().authenticate(workload({"typ": typ}), NOW)


def unsigned() -> str:
    return f"{segment({'alg': 'none'})}.{segment(CLAIMS)}."


def twice(name: str, first: object, second: object) -> bytes:
    plain = json.dumps({key: value for key, value in CLAIMS.items() if key != name})
    return f'{plain[:-1]}, "{name}": {json.dumps(first)}, "{name}": {json.dumps(second)}}}'.encode()


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ("", "malformed"),
        ("x", "malformed"),
        ("a.b", "malformed"),
        ("a.b.c.d", "malformed"),
        (workload() + "=", "malformed"),
        (workload() + "\n", "malformed"),
        (" " + workload(), "malformed"),
        (workload(padding="x" * 8_192), "malformed: it is not a compact JWS of at most 8 KiB"),
        (compact(RSA, {"alg": "RS256", "kid": "r1"}, b"[" * 3_000), "malformed"),
        (compact(RSA, {"alg": "RS256", "kid": "r1"}, b"[]"), "malformed: it is not a JSON object"),
        (compact(RSA, {"alg": "RS256", "kid": "r1"}, twice("sub", "job:7", "root")), "it is not strict JSON"),
        (compact(RSA, b'{"alg": "RS256", "alg": "none", "kid": "r1"}', CLAIMS), "malformed"),
        (compact(RSA, {"alg": "RS256", "kid": "r1"}, b'{"exp": NaN}'), "malformed"),
        (compact(RSA, {"alg": "RS256", "kid": "r1"}, b"\xff"), "malformed"),
        (workload(sub="\ud800"), "malformed: it is not strict JSON: a text in it holds half a character"),
        (workload({"kid": "\udfff"}), "holds half a character"),
        (compact(RSA, {"alg": "RS256", "kid": "r1"}, CLAIMS | {"\ud83d": 1}), "holds half a character"),
        (unsigned(), "malformed"),
        (unsigned() + "AA", "algorithm"),
        (workload({"alg": None}), "names no algorithm"),
        (workload({"kid": 7}), "`kid` is not a text"),
        (workload({"kid": ""}), "`kid` is not a text"),
        (workload({"kid": "x" * 129}), "`kid` is not a text"),
        (workload({"jwk": jwk(EC, "r1")}), "has `jwk`"),
        (workload({"jku": "https://evil.example/jwks"}), "has `jku`"),
        (workload({"x5u": "https://evil.example/cert"}), "has `x5u`"),
        (workload({"x5c": ["MIIB"]}), "has `x5c`"),
        (workload({"crit": ["exp"]}), "has `crit`"),
        (workload({"crit": []}), "has `crit`"),
        (workload({"b64": False}), "has `b64`"),
        (workload({"zip": "DEF"}), "has `zip`"),
    ],
)  # fmt: skip
def test_1_a_token_of_another_form_is_refused(token: str, told: str) -> None:
    refused(token, told=told)


@pytest.mark.parametrize(
    "typ", ["at+jwt", "application/at+jwt", "dpop+jwt", "secevent+jwt", "wit+jwt", "oauth-id-jag+jwt", "jwt", "", 1]
)
def test_1_a_token_of_another_class_is_refused(typ: object) -> None:
    refused(workload({"typ": typ}), told="`typ`")
    refused(svid({"typ": typ}), told="`typ`")


def test_1_the_type_of_a_client_assertion_is_none_for_a_jwt_svid() -> None:
    refused(svid({"typ": "client-authentication+jwt"}), told="`typ` is not that of a JWT-SVID")


@pytest.mark.parametrize("typ", ["at+jwt", "application/at+jwt"])
def test_1_access_tokens_are_taken_of_an_issuer_whose_block_says_so(typ: str) -> None:
    door = authenticator(replace(CI, access_tokens=True))
    assert door.authenticate(workload({"typ": typ}), NOW).principal.id == "oidc:ci:job:7"
    assert door.authenticate(workload(), NOW).principal.id == "oidc:ci:job:7"
    for other in ("AT+JWT", "dpop+jwt", "x+at+jwt", ""):
        with pytest.raises(Refusal, match="`typ`"):
            door.authenticate(workload({"typ": other}), NOW)
    with pytest.raises(Refusal, match="`typ` is not that of a JWT-SVID"):
        door.authenticate(svid({"typ": typ}), NOW)
    refused(workload({"typ": typ}), told="its block in the configuration takes them with `access_tokens`")


def test_1_a_credential_of_the_broker_proves_no_identity() -> None:
    """Not even if somebody trusts the broker itself as an issuer."""
    ours = replace(CI, url=tokens.CLAIMS.issuer, algorithms=frozenset({"ES256"}))
    keys = CurrentKeys(1, parse_jwks(tokens.KEYS.to_jwks().encode()))
    with pytest.raises(Refusal, match="`typ`"):
        authenticator(ours, lambda: keys).authenticate(tokens.TOKEN, tokens.AT)


# Check 2: who says so.


@pytest.mark.parametrize(
    "url",
    [
        "https://ci.example/",
        "https://CI.example",
        "HTTPS://ci.example",
        "http://ci.example",
        "https://ci.example:443",
        "https://ci.example.evil.example",
        "https://сi.example",  # noqa: RUF001 (a Cyrillic letter)
        "https://ci.example#",
        " https://ci.example",
        ["https://ci.example"],
        {"https://ci.example": 1},
        None,
        7,
    ],
)
def test_2_what_looks_like_the_issuer_is_not_it(url: object) -> None:
    refused(workload(iss=url), told="of no issuer that is trusted here")


@pytest.mark.parametrize(
    "subject",
    [
        "spiffe://example.org",
        "spiffe://example.org/",
        "spiffe://example.org/agent/researcher\n",
        "spiffe://Example.org/agent/researcher",
        "spiffe://example.org/../admin",
        "spiffe://example.org@evil.example/x",
        "https://example.org/agent/researcher",
        "researcher",
        ["spiffe://example.org/agent/researcher"],
        None,
    ],
)
def test_2_a_jwt_svid_of_no_workload_is_refused(subject: object) -> None:
    refused(svid(sub=subject))


def test_2_a_trust_domain_without_keys_is_none_of_ours() -> None:
    refused(svid(sub="spiffe://third.example/x"), told="`third.example` is not one whose JWT-SVIDs are taken")


@pytest.mark.parametrize("name", ["alg", "kid", "typ", "x5t", "x5t#S256"])
def test_1_what_is_no_text_in_a_header_is_told(name: str) -> None:
    values: tuple[object, ...] = (None, 7, [], {}, True)
    for value in values:
        header = {"alg": "RS256", "kid": "r1", name: value}
        refused(compact(RSA, header, CLAIMS), told=f"`{name}` is not a text")


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None), max_size=20)
    | st.sampled_from(
        [SECONDS, SECONDS + 300, SECONDS + 0.5, CI.url, AUDIENCE, [AUDIENCE], "job:7", RESEARCHER, "JWT"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
DOOR = authenticator(replace(CI, task_claim="task", one_time=True, subject=SubjectTemplate.parse("{sub}:{/a/b}")))


@given(
    st.sampled_from([CLAIMS, SVID_CLAIMS]),
    st.dictionaries(
        st.sampled_from(["iss", "sub", "aud", "iat", "nbf", "exp", "jti", "cnf", "task", "a"]), ODD, max_size=3
    ),
    st.dictionaries(st.sampled_from(["alg", "kid", "typ", "x5t", "jwk", "\ud800"]), ODD, max_size=1),
)
def test_whatever_an_issuer_signs_makes_a_principal_or_is_refused(
    claims: dict[str, Any], odd: dict[str, Any], header: dict[str, Any]
) -> None:
    key, kind = (RSA, {"alg": "RS256", "kid": "r1"}) if claims is CLAIMS else (SVID, {"alg": "ES256", "kid": "svid"})
    with suppress(Refusal):
        found = DOOR.authenticate(compact(key, kind | header, {**claims, "a": {"b": 7}} | odd), NOW)
        assert check_id(found.principal.id) == found.principal.id
        assert NOW < found.principal.not_after <= NOW + timedelta(hours=1)


@given(st.text(st.characters(codec=None), max_size=60) | st.from_regex(r"[A-Za-z0-9_-]{1,20}\.[A-Za-z0-9_-]{1,20}\.x"))
def test_no_text_makes_it_stumble(text: str) -> None:
    with pytest.raises(Refusal):
        DOOR.authenticate(text, NOW)
