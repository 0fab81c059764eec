"""What a JWT says must be for us, in time, and make a subject; and what else it tells of who calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broker.identity.directory import Directory
from broker.identity.issuers import Condition
from broker.identity.jwt import JwtAuthenticator
from broker.identity.subject import SubjectTemplate
from broker.model.errors import Reason, Refusal
from tests.support.issuer import compact, jwk
from tests.support.jwts import (
    AUDIENCE,
    BUNDLES,
    CI,
    CLAIMS,
    EC,
    KEYS,
    NOW,
    RESEARCHER,
    RSA,
    SECONDS,
    authenticator,
    refused,
    svid,
    workload,
)

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
        ({"exp": SECONDS + 3_601}, "longer than 1h"),
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
