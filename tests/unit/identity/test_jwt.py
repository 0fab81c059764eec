"""A JWT proves an identity if all seven checks hold; each test breaks one."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from broker.identity.directory import Directory, IdentityRule
from broker.identity.ids import check_id
from broker.identity.issuers import Condition, CurrentKeys, Issuer
from broker.identity.jwks import parse_jwks
from broker.identity.jwt import JwtAuthenticator, UnknownIssuerKey
from broker.identity.subject import SubjectTemplate
from broker.identity.trust_bundles import TrustBundles
from broker.model.errors import Reason, Refusal
from broker.model.principal import Role
from tests.support import tokens
from tests.support.issuer import Key, base64url, compact, jwk, segment

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
AUDIENCE = "https://broker.example"
CI = Issuer(name="ci", url="https://ci.example", audience=AUDIENCE)
RSA, EC, SVID, OTHER = (
    rsa.generate_private_key(65537, 2048),
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP256R1()),
)
CLAIMS = {"iss": CI.url, "sub": "job:7", "aud": AUDIENCE, "iat": SECONDS, "exp": SECONDS + 300, "jti": "1"}
RESEARCHER = "spiffe://example.org/agent/researcher"
SVID_CLAIMS = {"sub": RESEARCHER, "aud": [AUDIENCE], "exp": SECONDS + 300}
RULES = (
    IdentityRule("oidc:ci:*", "acme", frozenset({Role.AGENTS})),
    IdentityRule("spiffe://example.org/*", "acme", frozenset({Role.AGENTS})),
    IdentityRule("spiffe://other.example/*", "other", frozenset({Role.AGENTS})),
)


def key_set(*pairs: tuple[Key, str], use: str = "sig") -> Any:
    return parse_jwks(json.dumps({"keys": [jwk(key, kid, use=use) for key, kid in pairs]}).encode(), use)


BUNDLES = TrustBundles(
    1,
    {},
    {
        "example.org": key_set((SVID, "svid"), use="jwt-svid"),
        "other.example": key_set((OTHER, "other"), use="jwt-svid"),
    },
)
KEYS = CurrentKeys(1, key_set((RSA, "r1"), (EC, "e1")))


def authenticator(
    issuer: Issuer = CI, keys: Callable[[], CurrentKeys] = lambda: KEYS, denied: frozenset[str] = frozenset()
) -> JwtAuthenticator:
    directory = Directory(RULES, denied)
    return JwtAuthenticator({issuer.url: issuer}, lambda _issuer: keys(), lambda: BUNDLES, AUDIENCE, directory)


def workload(header: dict[str, Any] | None = None, key: Key = RSA, **changes: Any) -> str:
    """A good token of the issuer, or one with changes; what is None is left out."""
    plain = {"alg": "RS256", "kid": "r1", "typ": "JWT"} | (header or {})
    claims = {name: value for name, value in (CLAIMS | changes).items() if value is not None}
    return compact(key, {name: value for name, value in plain.items() if value is not None}, claims)


def svid(header: dict[str, Any] | None = None, key: Key = SVID, **changes: Any) -> str:
    plain = {"alg": "ES256", "kid": "svid"} | (header or {})
    claims = {name: value for name, value in (SVID_CLAIMS | changes).items() if value is not None}
    return compact(key, {name: value for name, value in plain.items() if value is not None}, claims)


def refused(token: str, reason: Reason = Reason.IDENTITY_INVALID, told: str = "", at: datetime = NOW) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        authenticator().authenticate(token, at)
    assert refusal.value.reason is reason, refusal.value
    assert told in str(refusal.value)
    assert len(token) < 20 or token not in str(refusal.value)
    return refusal.value


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


# Check 1: the form.


def hmac_signed_with_the_public_key() -> str:
    """The classic: an RSA public key taken for an HMAC secret."""
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{segment({'alg': 'HS256', 'kid': 'r1'})}.{segment(CLAIMS)}"
    return f"{signed}.{base64url(hmac.digest(pem, signed.encode(), 'sha256'))}"


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


# Check 3: the signature.


def test_3_a_forged_signature_is_refused() -> None:
    refused(workload(key=rsa.generate_private_key(65537, 2048)), told="signature is wrong")
    refused(svid(key=EC), told="signature is wrong")
    head, _, signature = workload().split(".")
    refused(f"{head}.{segment(CLAIMS | {'sub': 'root'})}.{signature}", told="signature is wrong")


def test_3_algorithms_are_not_confused() -> None:
    refused(hmac_signed_with_the_public_key(), told="algorithm is not one of")
    refused(workload({"alg": "ES256"}), told="signature is wrong")  # an RSA key cannot verify that
    refused(workload({"alg": "PS256"}), told="algorithm is not one of")  # good in itself, and not allowed here
    refused(svid({"alg": "EdDSA"}), told="algorithm is not one of")  # JWT-SVID section 2.1


def test_3_an_unknown_key_of_an_issuer_may_be_a_new_one() -> None:
    with pytest.raises(UnknownIssuerKey) as unknown:
        authenticator().authenticate(workload({"kid": "r2"}), NOW)
    assert unknown.value.issuer is CI


@pytest.mark.parametrize(
    ("published", "kid", "forged"), [("e1", "e1", True), ("e1", None, True), ("", None, False), ("", "e1", False)]
)
def test_3_a_key_is_looked_for_before_a_signature_is_called_wrong(published: str, kid: str, forged: bool) -> None:
    """An issuer may use a name for its next key again, or give its only key none."""
    keys = CurrentKeys(1, key_set((EC, published)))
    with pytest.raises(UnknownIssuerKey) as unknown:
        authenticator(keys=lambda: keys).authenticate(workload({"alg": "ES256", "kid": kid}, OTHER), NOW)
    assert unknown.value.forged is forged


def test_3_trust_domains_cannot_vouch_for_each_other() -> None:
    refused(svid({"kid": "other"}, OTHER), told="not in the bundle of its trust domain")
    refused(svid({"kid": None}, OTHER), told="signature is wrong")
    refused(svid({"kid": "svid"}, SVID, sub="spiffe://other.example/x"), told="not in the bundle of its trust domain")
    refused(workload(key=SVID, header={"alg": "ES256", "kid": None}), told="signature is wrong")
    refused(svid({"alg": "RS256", "kid": None}, RSA), told="signature is wrong")


def test_3_a_key_that_is_gone_counts_at_once() -> None:
    now = [KEYS]
    door = authenticator(keys=lambda: now[0])
    door.authenticate(workload(), NOW)
    now[0] = CurrentKeys(2, key_set((EC, "e1")))
    with pytest.raises(UnknownIssuerKey):
        door.authenticate(workload(), NOW)


# Check 4: the audience.


@pytest.mark.parametrize(
    "audience",
    [
        None,
        "",
        [],
        "https://broker.example/",
        "https://other.example",
        [AUDIENCE, "https://other.example"],
        [AUDIENCE, AUDIENCE],
        [[AUDIENCE]],
        {AUDIENCE: 1},
        7,
    ],
)
def test_4_a_token_for_another_audience_or_several_is_refused(audience: object) -> None:
    refused(workload(aud=audience), told="(`aud`)")
    refused(svid(aud=audience), told="(`aud`)")


# Check 5: the time.


def test_5_an_expired_token_is_refused_at_its_instant() -> None:
    door = authenticator()
    token = workload()
    door.authenticate(token, NOW + timedelta(seconds=299, microseconds=999_999))
    for _ in range(2):
        with pytest.raises(Refusal) as refusal:
            door.authenticate(token, NOW + timedelta(seconds=300))
        assert refusal.value.reason is Reason.IDENTITY_EXPIRED


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"exp": None}, "`exp`"),
        ({"exp": str(SECONDS + 300)}, "`exp`"),
        ({"exp": True}, "`exp`"),
        ({"exp": -1}, "`exp`"),
        ({"exp": 10**30}, "`exp`"),
        ({"iat": None}, "`iat`"),
        ({"iat": "now"}, "`iat`"),
        ({"nbf": "now"}, "`nbf`"),
        ({"exp": SECONDS + 3_601}, "longer than 1:00:00"),
        ({"exp": SECONDS + 31_536_000}, "longer than"),
        ({"iat": SECONDS - 31_536_000 + 300}, "longer than"),
        ({"iat": SECONDS + 31}, "not valid yet"),
        ({"nbf": SECONDS + 31}, "not valid yet"),
        ({"iat": SECONDS + 31_536_000, "exp": SECONDS + 31_536_300}, "not valid yet"),
    ],
)  # fmt: skip
def test_5_a_token_whose_times_are_not_sound_is_refused(changes: dict[str, Any], told: str) -> None:
    refused(workload(**changes), told=told)


def test_5_a_clock_that_is_ahead_by_half_a_minute_is_forgiven() -> None:
    authenticator().authenticate(workload(iat=SECONDS + 30, nbf=SECONDS + 30), NOW)


@pytest.mark.parametrize("make", [workload, svid])
def test_5_dates_may_have_a_fraction_which_counts_for_nothing_good(make: Callable[..., str]) -> None:
    """RFC 7519 section 2: an end is rounded down, a beginning up."""
    door = authenticator()
    fraction = make(iat=SECONDS + 0.25, nbf=SECONDS + 29.5, exp=SECONDS + 300.75)
    assert door.authenticate(fraction, NOW).principal.not_after == NOW + timedelta(seconds=300)
    with pytest.raises(Refusal, match="not valid yet"):
        door.authenticate(make(iat=SECONDS + 30.5), NOW)
    with pytest.raises(Refusal, match="not valid yet"):
        door.authenticate(make(nbf=SECONDS + 30.001), NOW)
    with pytest.raises(Refusal, match="expired"):
        door.authenticate(make(exp=SECONDS + 0.75), NOW)
    whole_hour = make(iat=SECONDS + 0.123, exp=SECONDS + 3_600.123)
    assert door.authenticate(whole_hour, NOW).principal.not_after == NOW + timedelta(hours=1)
    with pytest.raises(Refusal, match="longer than"):
        door.authenticate(make(iat=SECONDS - 0.5, exp=SECONDS + 3_600), NOW)


@pytest.mark.parametrize("number", ["1e400", "-0.5", "2.6e11", "1e99", '"1"', "null", "true"])
def test_5_what_is_no_date_is_refused(number: str) -> None:
    claims = json.dumps(CLAIMS).replace(f'"exp": {SECONDS + 300}', f'"exp": {number}').encode()
    refused(compact(RSA, {"alg": "RS256", "kid": "r1"}, claims), told="`exp`")


@pytest.mark.parametrize("name", ["alg", "kid", "typ", "x5t", "x5t#S256"])
def test_1_what_is_no_text_in_a_header_is_told(name: str) -> None:
    values: tuple[object, ...] = (None, 7, [], {}, True)
    for value in values:
        header = {"alg": "RS256", "kid": "r1", name: value}
        refused(compact(RSA, header, CLAIMS), told=f"`{name}` is not a text")


def test_5_a_jwt_svid_that_would_live_for_a_year_is_refused() -> None:
    refused(svid(exp=SECONDS + 31_536_000), told="longer than")
    refused(svid(exp=SECONDS - 1), Reason.IDENTITY_EXPIRED)


# Check 6: the conditions; 7: what it is.


@pytest.mark.parametrize(
    ("condition", "claims", "holds"),
    [
        (Condition("repository_id", ("65",)), {"repository_id": "65"}, True),
        (Condition("repository_id", ("65",)), {"repository_id": 65}, False),
        (Condition("repository_id", (65,)), {"repository_id": True}, False),
        (Condition("repository_id", (True,)), {"repository_id": 1}, False),
        (Condition("repository_id", ("65", "66")), {"repository_id": "66"}, True),
        (Condition("repository_id", ("65",)), {}, False),
        (Condition("repository_id", ("65",)), {"repository_id": ["65"]}, False),
        (Condition("ref", prefix="refs/tags/"), {"ref": "refs/tags/v1"}, True),
        (Condition("ref", prefix="refs/tags/"), {"ref": "refs/heads/refs/tags/"}, False),
        (Condition("ref", prefix="refs/tags/"), {"ref": 7}, False),
        (Condition("/kubernetes.io/namespace", ("agents",)), {"kubernetes.io": {"namespace": "agents"}}, True),
        (Condition("/kubernetes.io/namespace", ("agents",)), {"kubernetes.io": {"namespace": "Agents"}}, False),
        (Condition("/kubernetes.io/namespace", ("agents",)), {"/kubernetes.io/namespace": "agents"}, False),
    ],
)
def test_6_the_claims_must_keep_the_conditions(condition: Condition, claims: dict[str, Any], holds: bool) -> None:
    door = authenticator(replace(CI, conditions=(condition,)))
    if holds:
        door.authenticate(workload(**claims), NOW)
        return
    with pytest.raises(Refusal, match="is not what the configuration asks"):
        door.authenticate(workload(**claims), NOW)


@pytest.mark.parametrize("subject", ["", None, 7.5, True, ["x"], "a\n", "\x7f", "x" * 513])
def test_7_a_subject_that_cannot_be_part_of_an_id_is_refused(subject: object) -> None:
    refused(workload(sub=subject), told="subject cannot be told")


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ("production", "production"),
        ("Production EU", "Production%20EU"),
        ("prod*", "prod%2A"),
        ("Produção", "Produ%C3%A7%C3%A3o"),
        ("a%20b", "a%2520b"),
        ("a:b/c", "a:b/c"),
    ],
)
def test_7_a_subject_is_written_in_one_way_whatever_is_in_it(environment: str, name: str) -> None:
    issuer = replace(CI, subject=SubjectTemplate.parse("{repository_id}:{environment}"))
    token = workload(repository_id="74", environment=environment)
    assert authenticator(issuer).authenticate(token, NOW).principal.id == f"oidc:ci:74:{name}"


def test_7_a_subject_that_looks_like_a_spiffe_id_is_none() -> None:
    principal = authenticator().authenticate(workload(sub="spiffe://example.org/operator"), NOW).principal
    assert principal.id == "oidc:ci:spiffe://example.org/operator"


def test_7_who_is_denied_or_unknown_is_refused() -> None:
    for who in ("oidc:ci:job:7", RESEARCHER):
        door = authenticator(denied=frozenset({who}))
        with pytest.raises(Refusal, match="denied"):
            door.authenticate(workload() if who.startswith("oidc") else svid(), NOW)
    lonely = JwtAuthenticator({CI.url: CI}, lambda _i: KEYS, lambda: BUNDLES, AUDIENCE, Directory(()))
    with pytest.raises(Refusal) as refusal:
        lonely.authenticate(workload(), NOW)
    assert refusal.value.reason is Reason.IDENTITY_UNKNOWN


def test_the_claim_of_a_task_confines_the_principal_to_it() -> None:
    door = authenticator(replace(CI, task_claim="task"))
    assert door.authenticate(workload(task="t-1"), NOW).principal.task_id == "t-1"
    assert door.authenticate(workload(), NOW).principal.task_id == ""
    for wrong in (7, "", ["t-1"], "a b", "t\x00", "\u00e4", "t" * 129):
        with pytest.raises(Refusal, match="does not name a task"):
            door.authenticate(workload(task=wrong), NOW)


def test_a_token_for_one_time_is_told_by_issuer_and_jti() -> None:
    door = authenticator(replace(CI, one_time=True))
    first, again, other = (door.authenticate(workload(jti=jti), NOW).once for jti in ("1", "1", "2"))
    assert first == again != other
    assert first
    with pytest.raises(Refusal, match="has no `jti`"):
        door.authenticate(workload(jti=None), NOW)


@pytest.mark.parametrize("make", [workload, svid])
def test_a_token_that_is_bound_to_a_key_says_so(make: Callable[..., str]) -> None:
    thumbprint = "x" * 43
    assert authenticator().authenticate(make(cnf={"jkt": thumbprint}), NOW).key == thumbprint
    assert authenticator().authenticate(make(), NOW).key == ""


@pytest.mark.parametrize("make", [workload, svid])
@pytest.mark.parametrize(
    "confirmation",
    [
        {"x5t#S256": "x" * 43},
        {"jkt": "x" * 43, "x5t#S256": "x" * 43},
        {"jwk": jwk(EC, "e1")},
        {"kid": "e1"},
        {},
        {"jkt": "x" * 42},
        {"jkt": "x" * 42 + "\n"},
        {"jkt": ""},
        {"jkt": None},
        {"jkt": ["x" * 43]},
        ["jkt"],
        "x" * 43,
        True,
    ],
)
def test_a_token_that_is_bound_in_a_way_that_cannot_be_proven_is_refused(
    make: Callable[..., str], confirmation: object
) -> None:
    refused(make(cnf=confirmation), told="`cnf`")


def test_a_token_that_is_bound_to_null_is_refused() -> None:
    claims = json.dumps({**CLAIMS, "cnf": None}).encode()
    refused(compact(RSA, {"alg": "RS256", "kid": "r1"}, claims), told="`cnf`")


def test_the_template_makes_the_subject() -> None:
    issuer = replace(CI, subject=SubjectTemplate.parse("{repository_id}:{environment}"))
    principal = authenticator(issuer).authenticate(workload(repository_id=65, environment="prod"), NOW).principal
    assert principal.id == "oidc:ci:65:prod"
    with pytest.raises(Refusal, match="`environment` is missing"):
        authenticator(issuer).authenticate(workload(repository_id=65), NOW)


def test_keys_that_cannot_be_had_refuse_for_now() -> None:
    def none() -> CurrentKeys:
        raise Refusal(Reason.UNAVAILABLE, "no keys")

    with pytest.raises(Refusal) as refusal:
        authenticator(keys=none).authenticate(workload(), NOW)
    assert refusal.value.reason is Reason.UNAVAILABLE


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
